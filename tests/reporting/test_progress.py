"""What a session's end is expected to be, from the runs so far."""

import pytest

from inference_benchmark.reporting import progress
from inference_benchmark.reporting.progress import Forecast, describe, forecast
from inference_benchmark.statistics.stopping import StoppingRule

NOISY = {"ttft_s": [1.0, 1.1, 0.9, 1.0]}
STEADY = {"ttft_s": [1.0, 1.0, 1.0, 1.0]}


def test_nothing_is_expected_before_the_first_round():
    assert forecast(StoppingRule.adaptive("cpu"), [{"ttft_s": []}], 0.0) is None
    assert describe(None) == ""


def test_a_steady_session_ends_when_it_may():
    remaining = forecast(StoppingRule.adaptive("cuda"), [STEADY], 8.0)
    assert (remaining.rounds, remaining.seconds) == (6, 12.0)  # 10 runs at least, 4 of 2 s are made
    assert describe(remaining) == "about 0:12 left, until the intervals are narrow"


def test_a_noisy_one_when_its_time_is_up():
    remaining = forecast(StoppingRule.adaptive("cuda", max_seconds=100.0), [STEADY, NOISY], 8.0)
    assert (remaining.rounds, remaining.seconds) == (46, 92.0)
    assert describe(remaining) == "about 1:32 left, until the time is up"


def test_the_noisiest_cell_decides():
    rule = StoppingRule(2, 10_000, target_ci=0.1, max_seconds=None)
    # Student t over 4 runs: 3.182 x 0.0816 / 2 = 0.13 of the mean, so 4 x 1.3^2 = 6.75 runs.
    remaining = forecast(rule, [STEADY, NOISY], 8.0)
    assert (remaining.rounds, remaining.seconds) == (2, 4.0)


def test_a_fixed_number_of_runs():
    remaining = forecast(StoppingRule.fixed(6), [NOISY], 8.0)
    assert remaining == Forecast(2, 4.0, "until all runs are made")


def test_stages_tick_and_runs_do_not(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_TICK_S", 0.01)
    shown = progress.Progress(quiet=False)
    shown.stage("checking outputs")
    ticker = shown._ticker
    assert ticker.is_alive()
    shown.update("warm-up eager b1", 1, None)
    assert not ticker.is_alive()
    shown.round_done(StoppingRule.fixed(6), [NOISY], 8.0)
    shown.update("round 5: eager b1", 4, 6)
    shown.close()
    err = capsys.readouterr().err
    assert "checking outputs" in err
    assert "warm-up eager b1, run 1" in err
    assert "round 5: eager b1 4 of at most 6 runs" in err
    assert "about 0:04 left, until all runs are made" in err


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_in_a_pipe(quiet, capsys):
    shown = progress.Progress(quiet)
    shown.stage("building")
    shown.update("round 1", 0, 3)
    shown.close()
    assert capsys.readouterr().err == ""
