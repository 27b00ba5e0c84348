"""When a mode has won back its cold start, by hand."""

import pytest
from scripted import OUTPUT, make_cell, plan_cell

from inference_benchmark.analysis.cold_start import payback_tokens
from inference_benchmark.session.record import TimedRun
from inference_benchmark.workloads.base import Run


def measured(mode: str, tbot_s: float, **cold_start):
    cell = make_cell(plan_cell(mode))
    gaps_s = [0.1, *[tbot_s] * (OUTPUT - 1)]
    run = Run(gaps_s, sum(gaps_s))
    cell.record.timed_runs = [TimedRun(number, "", run, ()) for number in range(3)]
    cell.record.cold_start |= cold_start
    return cell


def test_a_cold_start_is_won_back_by_faster_tokens():
    compiled = {"compile_prefill_s": 2.0, "compile_decode_s": 1.0, "setup_s": 0.5}
    fast = measured("inductor", 0.008, build_s=99.0, **compiled)
    plain = measured("eager", 0.010, compile_prefill_s=0.5)
    # 3.5 - 0.5 s more before the first fast token, 2 ms less for each token
    assert payback_tokens(fast, [fast, plain]) == pytest.approx(3.0 / 0.002)
    assert payback_tokens(plain, [fast, plain]) is None


def test_a_slower_mode_never_wins_it_back():
    slow, plain = measured("inductor", 0.011), measured("eager", 0.010)
    assert payback_tokens(slow, [slow, plain]) is None
