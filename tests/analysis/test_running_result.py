"""What is saved after each round, with what it takes to build it."""

import json

from audit.save_times import ROUNDS, saving_times


def test_the_hundredth_round_of_three_cells_is_saved_in_20_ms(tmp_path):
    path = tmp_path / "a.json"
    times = saving_times(path)
    cells = json.loads(path.read_text())["cells"]
    assert [len(cell["samples"]["steps"]["step_s"]) for cell in cells] == [ROUNDS] * 3
    # CPU seconds; the last one judges and waits for the disk.
    assert min(cpu_s for cpu_s, _ in times[-6:-1]) < 0.02
