"""Every trial has the exit code it must have and is answered in one line of printable text."""

import pytest

from inference_benchmark import benchmark_inference, compare_results
from trials.refused import BENCHMARK, TRIALS, Trial


@pytest.mark.timeout(60)
@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_trial(trial: Trial, tmp_path, capsys, monkeypatch):
    for name, text in trial.environment.items():
        monkeypatch.setenv(name, text)
    if trial.prepare is not None:
        trial.prepare(tmp_path)
    program = benchmark_inference if trial.program == BENCHMARK else compare_results
    try:
        code = program.main(trial.command(tmp_path))
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (trial.code, 1), said
    assert trial.words in said
    assert said.strip().isprintable()
    assert len(said) < 500
