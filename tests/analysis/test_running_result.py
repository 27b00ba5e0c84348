"""What is saved after each round, with what it takes to build it."""

import json
import time

import pytest
import scripted

from inference_benchmark.command.ending import Ending


@pytest.fixture
def save_times(monkeypatch):
    """CPU seconds of each save, the building of the result included."""
    seconds = []
    save = Ending.save

    def timed(self, last=False):
        started = time.process_time()
        save(self, last)
        seconds.append(time.process_time() - started)

    monkeypatch.setattr(Ending, "save", timed)
    return seconds


def test_the_hundredth_round_of_three_cells_is_saved_in_20_ms(
    monkeypatch, capsys, tmp_path, save_times
):
    monkeypatch.setattr(scripted, "OUTPUT", 1000)
    path, thirds = tmp_path / "a.json", (1 / 3, 2 / 3)  # numbers of full length
    labels = ("eager b1", "inductor b1", "thunder b1")
    engines = {label: {"script": scripted.steady(0.1, 0.01, thirds)} for label in labels}
    code, _, _ = scripted.whole_session(monkeypatch, capsys)(
        engines,
        *("--mode", "eager", "inductor", "thunder", "--output", str(path)),
        *("--num-iterations", "100", "--warmup-iterations", "0"),
    )
    assert code == 0
    cells = json.loads(path.read_text())["cells"]
    assert [len(cell["samples"]["steps"]["step_s"]) for cell in cells] == [100, 100, 100]
    assert min(save_times[-6:-1]) < 0.02  # the last one judges and waits for the disk
