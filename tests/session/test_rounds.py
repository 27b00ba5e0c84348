"""Rounds with scripted engines: order, stopping, failures, interruption, compilations."""

import pytest
from scripted import OUTPUT, make_cell, plan_cell, steady

from inference_benchmark.errors import CannotRun
from inference_benchmark.session.interleave import Rounds
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.workloads.base import Run
from inference_benchmark.workloads.forward import SingleForward


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def run(cells, rule=None, warmup=None, **settings) -> None:
    Rounds(
        cells,
        lambda plan, number: number,
        rule or StoppingRule.fixed(3),
        warmup or WarmupRule.fixed(0),
        **settings,
    ).run()


def test_rounds_alternate_their_order():
    log = []
    cells = [make_cell(plan_cell(name), log=log) for name in ("eager", "inductor", "thunder")]
    run(cells, StoppingRule.fixed(3))
    a, b, c = (cell.label for cell in cells)
    assert log == [a, b, c, c, b, a, a, b, c]
    assert all(cell.record.rounds == [0, 1, 2] for cell in cells)
    assert all(cell.record.stop_reason == "fixed" for cell in cells)


def test_a_run_is_one_prefill_and_all_further_tokens():
    cell = make_cell(script=steady(0.2, 0.01))
    run([cell], StoppingRule.fixed(2), WarmupRule.fixed(1))
    assert cell.engine.prefills == 3
    assert cell.engine.decodes == 3 * (OUTPUT - 1)
    assert len(cell.record.warmup_runs) == 1
    times = cell.times()
    assert times["ttft_s"] == [0.2, 0.2]
    assert times["decode_s"] == pytest.approx([0.04, 0.04])
    assert times["tbot_s"] == pytest.approx([0.01, 0.01])
    assert times["total_s"] == pytest.approx([0.24, 0.24])


def test_a_forward_is_one_call_with_one_time():
    cell = make_cell(plan_cell(workload=SingleForward(1000, 0)), script=steady(0.3, 0.0))
    run([cell], StoppingRule.fixed(2), WarmupRule.fixed(1))
    assert (cell.engine.forwards, cell.engine.prefills, cell.engine.decodes) == (3, 0, 0)
    assert cell.samples()["metrics"] == {"forward_s": [0.3, 0.3]}
    assert cell.samples()["steps"] == {}


def test_steady_cells_converge_at_the_least_number_of_runs():
    cell = make_cell(script=steady(0.1, 0.01, jitter=(0.0, 0.001, -0.001)))
    run([cell], StoppingRule.adaptive("cuda"))
    assert (len(cell.record.runs), cell.record.stop_reason) == (10, "converged")


def test_time_runs_out():
    clock = iter(range(0, 10**6, 100))
    cell = make_cell(script=steady(0.1, 0.01, jitter=(0.0, 0.5, -0.4)))
    run([cell], StoppingRule.adaptive("cuda"), now=lambda: next(clock))
    assert cell.record.stop_reason == "timeout"
    assert 3 <= len(cell.record.runs) < 10


def test_warm_up_ends_when_two_runs_agree_and_nothing_compiles():
    times = iter([[9.0, 1.0], [5.0, 1.0]])

    def script():
        yield from times
        yield from steady(0.1, 0.01)

    # read before and after each run: the second and the third run compile
    cell = make_cell(script=script(), compile_counts=[1, 1, 1, 2, 2, 3])
    run([cell], StoppingRule.fixed(1), WarmupRule())
    assert len(cell.record.warmup_runs) == 4
    assert cell.record.compilations == [0, 1, 1, 0]
    assert cell.record.recompilations == 0


def test_compilations_in_timed_runs_are_counted():
    cell = make_cell(compile_counts=[1, 1, 1, 3])
    run([cell], StoppingRule.fixed(2), WarmupRule.fixed(1))
    assert cell.record.recompilations == 2


def test_what_other_cells_compile_is_not_a_cells_own():
    """Compilers keep one counter for the whole process."""
    total = 0

    class Compiler:
        """Compiles in each of its first runs; the other only sees the counter move."""

        def __init__(self, cell, runs):
            self.cell, self.left = cell, runs
            self.cell.engine.compile_count = lambda: total
            prefill = cell.engine.prefill
            self.cell.engine.prefill = lambda inputs: (self.compile(), prefill(inputs))

        def compile(self):
            nonlocal total
            total += self.left > 0
            self.left -= 1

    quiet, busy = make_cell(plan_cell("eager")), make_cell(plan_cell("inductor"))
    Compiler(quiet, 0), Compiler(busy, 3)
    run([quiet, busy], StoppingRule.fixed(4))
    assert (quiet.record.recompilations, busy.record.recompilations) == (0, 3)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OutOfMemoryError("tried to allocate 2 GiB\nmore"), "oom", "tried to allocate 2 GiB"),
        (ValueError("compiler broke"), "failed", "ValueError: compiler broke"),
        (CannotRun("no such thing"), "unsupported", "no such thing"),
    ],
)
def test_a_failing_cell_becomes_a_row_and_the_others_go_on(error, status, words):
    broken = make_cell(plan_cell("thunder"), fail_at=2, error=error)
    sound = make_cell()
    engine = broken.engine
    run([broken, sound], StoppingRule.fixed(4))
    assert (broken.record.status, len(broken.record.runs)) == (status, 1)
    assert words in broken.record.error
    assert broken.engine is None
    assert engine.closed
    seen = sound.record.status, len(sound.record.runs), sound.record.stop_reason
    assert seen == ("ok", 4, "fixed")


def test_when_every_cell_fails_the_group_ends():
    cells = [make_cell(fail_at=1, error=ValueError("x")) for _ in range(2)]
    run(cells, StoppingRule.adaptive("cuda"))
    assert [cell.record.status for cell in cells] == ["failed", "failed"]


def test_ctrl_c_keeps_what_was_measured():
    first = make_cell()
    second = make_cell(plan_cell("thunder"), fail_at=3, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run([first, second], StoppingRule.fixed(5))
    assert [len(first.record.runs), len(second.record.runs)] == [3, 2]
    for cell in (first, second):
        cell.record.interrupt()
        assert (cell.record.stop_reason, cell.record.status) == ("interrupted", "partial")


def test_a_round_is_saved_as_soon_as_it_is_done():
    seen = []
    cells = [make_cell(), make_cell(plan_cell("thunder"))]
    run(
        cells,
        StoppingRule.fixed(3),
        after_round=lambda: seen.append([len(cell.record.runs) for cell in cells]),
    )
    assert seen == [[1, 1], [2, 2], [3, 3]]


def test_a_step_ends_when_the_slowest_rank_ends_it():
    both = Run.slowest([Run([0.2, 0.1, 0.1], 0.4), Run([0.1, 0.3, 0.1], 0.5)])
    assert both.gaps_s == pytest.approx([0.2, 0.2, 0.1])  # tokens at 0.2, 0.4 and 0.5 s
    assert (both.total_s, both.wall_s) == (pytest.approx(0.5), 0.5)
