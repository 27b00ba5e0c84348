"""Sessions with scripted clocks: order, stopping, failures, interruption."""

import pytest
from scripted import OUTPUT, make_cell, steady

from inference_benchmark.errors import CannotRun
from inference_benchmark.session.interleave import Session
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def run(cells, rule=None, warmup=None, **settings) -> Session:
    session = Session(
        cells,
        prompts=lambda batch_size, number: number,
        rule=rule or StoppingRule.fixed(3),
        warmup_rule=warmup or WarmupRule.fixed(0),
        **settings,
    )
    session.run()
    return session


def test_rounds_alternate_their_order():
    log = []
    cells = [make_cell(name, log=log) for name in ("eager", "inductor", "thunder")]
    run(cells, StoppingRule.fixed(3))
    a, b, c = (cell.label for cell in cells)
    assert log == [a, b, c, c, b, a, a, b, c]
    assert all(cell.rounds == [0, 1, 2] for cell in cells)
    assert all(cell.stop_reason == "fixed" for cell in cells)


def test_a_run_is_one_prefill_and_all_further_tokens():
    cell = make_cell(script=steady(0.2, 0.01))
    run([cell], StoppingRule.fixed(2), WarmupRule.fixed(1))
    assert cell.engine.prefills == 3
    assert cell.engine.decodes == 3 * (OUTPUT - 1)
    assert len(cell.warmup_runs) == 1
    assert [r.ttft_s for r in cell.runs] == [0.2, 0.2]
    assert cell.runs[0].decode_s == pytest.approx(0.04)
    assert cell.runs[0].total_s == pytest.approx(0.24)


def test_steady_cells_converge_at_the_least_number_of_runs():
    cell = make_cell(script=steady(0.1, 0.01, jitter=(0.0, 0.001, -0.001)))
    run([cell], StoppingRule.adaptive("cuda"))
    assert (len(cell.runs), cell.stop_reason) == (10, "converged")


def test_time_runs_out():
    clock = iter(range(0, 10**6, 100))
    cell = make_cell(script=steady(0.1, 0.01, jitter=(0.0, 0.5, -0.4)))
    run([cell], StoppingRule.adaptive("cuda"), now=lambda: next(clock))
    assert cell.stop_reason == "timeout"
    assert 3 <= len(cell.runs) < 10


def test_warm_up_ends_when_two_runs_agree_and_nothing_compiles():
    times = iter([[9.0] + [1.0] * (OUTPUT - 1), [5.0] + [1.0] * (OUTPUT - 1)])

    def script():
        yield from times
        yield from steady(0.1, 0.01)

    cell = make_cell(script=script(), counts=[1, 2, 3, 3, 3])
    run([cell], StoppingRule.fixed(1), WarmupRule())
    assert len(cell.warmup_runs) == 4
    assert cell.recompilations == 0


def test_a_compilation_after_the_warm_up_is_counted():
    cell = make_cell(counts=[1, 1, 1, 3])
    run([cell], StoppingRule.fixed(1), WarmupRule.fixed(2))
    assert cell.recompilations == 2


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OutOfMemoryError("tried to allocate 2 GiB\nmore"), "oom", "tried to allocate 2 GiB"),
        (ValueError("compiler broke"), "failed", "ValueError: compiler broke"),
        (CannotRun("no such thing"), "unsupported", "no such thing"),
    ],
)
def test_a_failing_cell_becomes_a_row_and_the_others_go_on(error, status, words):
    broken = make_cell("thunder", fail_at=2, error=error)
    sound = make_cell("eager")
    engine = broken.engine
    run([broken, sound], StoppingRule.fixed(4))
    assert (broken.status, len(broken.runs)) == (status, 1)
    assert words in broken.error
    assert broken.engine is None
    assert engine.closed
    assert (sound.status, len(sound.runs), sound.stop_reason) == ("ok", 4, "fixed")


def test_when_every_cell_fails_the_session_ends():
    cells = [make_cell(fail_at=1, error=ValueError("x")) for _ in range(2)]
    run(cells, StoppingRule.adaptive("cuda"))
    assert [cell.status for cell in cells] == ["failed", "failed"]


def test_ctrl_c_keeps_what_was_measured():
    first = make_cell("eager")
    second = make_cell("thunder", fail_at=3, error=KeyboardInterrupt())
    session = run([first, second], StoppingRule.fixed(5))
    assert session.interrupted
    assert [len(first.runs), len(second.runs)] == [3, 2]
    assert [cell.stop_reason for cell in session.cells] == ["interrupted"] * 2
    assert [cell.status for cell in session.cells] == ["partial"] * 2


def test_a_round_is_saved_as_soon_as_it_is_done():
    seen = []
    cells = [make_cell("eager"), make_cell("thunder")]
    run(cells, StoppingRule.fixed(3), after_round=lambda: seen.append([len(c.runs) for c in cells]))
    assert seen == [[1, 1], [2, 2], [3, 3]]
