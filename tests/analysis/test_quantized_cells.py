"""Weight formats as cells of a session: their names, what they are held against, what they record."""

import pytest
from scripted import steady, whole_session

from inference_benchmark.options import resolution


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(resolution, "check_packages", lambda *_: None)
    return whole_session(monkeypatch, capsys)


def ratio(cell: dict) -> tuple[str, float]:
    speedup = cell["speedup"]
    return speedup["baseline"], speedup["metrics"]["tbot_s"]["ratio"]


def test_each_format_is_a_cell_held_against_the_same_mode_without_it(run):
    scripts = {
        "inductor b1": {"script": steady(0.1, 0.040)},
        "inductor int8 b1": {"script": steady(0.1, 0.025)},
        "inductor int4 b1": {"script": steady(0.1, 0.020)},
    }
    flags = ("--mode", "inductor", "--quantize", "none", "int8", "int4", "--num-iterations", "6")
    code, _, result = run(scripts, *flags)
    assert code == 0
    cells = {cell["label"]: cell for cell in result["cells"]}
    assert list(cells) == list(scripts)
    assert cells["inductor b1"]["speedup"] is None
    assert ratio(cells["inductor int8 b1"]) == ("inductor b1", pytest.approx(1.6, rel=1e-3))
    assert ratio(cells["inductor int4 b1"]) == ("inductor b1", pytest.approx(2.0, rel=1e-3))
    formats = [
        (cell["name"]["variant"], cell["weights"]["format"], cell["weights"]["compute"])
        for cell in result["cells"]
    ]
    assert formats == [
        ("inductor", "bf16", "bf16"),
        ("inductor int8", "int8", "bf16"),
        ("inductor int4", "int4", "bf16"),
    ]
    steps = [cell["cost"]["decode_bytes_per_step"] for cell in result["cells"]]
    assert steps[0] > steps[1] > steps[2]
    held = [cell["memory"]["weights_bytes"] for cell in result["cells"]]
    assert held[0] > held[1] > held[2]


def test_modes_in_one_format_are_held_against_eager_in_it(run):
    scripts = {
        "inductor+kernels nf4+head b1": {"script": steady(0.1, 0.020)},
        "inductor nf4+head b1": {"script": steady(0.1, 0.030)},
        "eager nf4+head b1": {"script": steady(0.1, 0.060)},
        "eager+kernels nf4+head b1": {"script": steady(0.1, 0.050)},
    }
    flags = ("--quantize", "nf4", "--quantize-head", "--num-iterations", "6")
    _, _, result = run(scripts, "--mode", "inductor+kernels", "inductor", *flags)
    cells = {cell["label"]: cell for cell in result["cells"]}
    assert set(cells) == set(scripts)
    ours = cells["inductor+kernels nf4+head b1"]
    assert ratio(ours) == ("eager nf4+head b1", pytest.approx(3.0, rel=1e-3))
    against = ours["speedup"]["eager_kernels"]
    assert against["baseline"] == "eager+kernels nf4+head b1"
    assert {cell["weights"]["format"] for cell in cells.values()} == {"nf4+head"}
