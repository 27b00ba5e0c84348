"""What a cell is held against: PyTorch as shipped, and where it uses our kernels PyTorch with these."""

import pytest
from scripted import steady, whole_session

from inference_benchmark.options import resolution


@pytest.fixture
def run(monkeypatch, capsys):
    # Scripted cells need no GPU, whatever kernels their names speak of.
    monkeypatch.setattr(resolution, "check_packages", lambda *_: None)
    return whole_session(monkeypatch, capsys)


SCRIPTS = {
    "eager b1": {"script": steady(0.1, 0.060)},
    "inductor b1": {"script": steady(0.1, 0.040)},
    "eager+kernels b1": {"script": steady(0.1, 0.030)},
    "inductor+kernels b1": {"script": steady(0.1, 0.020)},
}


def ratio(cell: dict, against: str | None = None) -> tuple[str, float]:
    speedup = cell["speedup"] if against is None else cell["speedup"][against]
    return speedup["baseline"], speedup["metrics"]["tbot_s"]["ratio"]


def test_kernels_are_held_against_what_ships_and_against_eager_with_the_same(run):
    code, out, result = run(
        SCRIPTS, "--mode", "inductor", "inductor+kernels", "--num-iterations", "6"
    )
    assert code == 0
    cells = {cell["label"]: cell for cell in result["cells"]}
    assert set(cells) == set(SCRIPTS)
    assert cells["eager b1"]["speedup"] is None
    assert ratio(cells["inductor b1"]) == ("eager b1", pytest.approx(1.5, rel=1e-3))
    assert cells["inductor b1"]["speedup"]["eager_kernels"] is None
    ours = cells["inductor+kernels b1"]
    assert ratio(ours) == ("eager b1", pytest.approx(3.0, rel=1e-3))
    assert ratio(ours, "eager_kernels") == ("eager+kernels b1", pytest.approx(1.5, rel=1e-3))
    assert ratio(cells["eager+kernels b1"]) == ("eager b1", pytest.approx(2.0, rel=1e-3))
    assert cells["eager+kernels b1"]["speedup"]["eager_kernels"] is None
    printed = " ".join(out.split())
    assert (
        "with the same kernels, TBOT against eager+kernels b1: inductor+kernels b1 1.50x faster"
        in printed
    )


def test_the_names_of_cells_say_whose_kernels_ran(run):
    _, _, result = run(SCRIPTS, "--mode", "inductor", "inductor+kernels", "--num-iterations", "2")
    assert {cell["name"]["variant"]: cell["name"]["kernels"] for cell in result["cells"]} == {
        "eager": False,
        "inductor": False,
        "eager+kernels": True,
        "inductor+kernels": True,
    }
