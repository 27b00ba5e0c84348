"""The notebook that draws parts of a layer, cell by cell on results of a CPU."""

import json

import pytest
from conftest import ROOT
from programs import run

NOTEBOOK = ROOT / "examples" / "kernel_tour.ipynb"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    flags = [
        "--device",
        "cpu",
        "--sequence-lengths",
        "16",
        "32",
        "--num-iterations",
        "2",
        "--quiet",
    ]
    limits = ["--gpu-bandwidth", "1", "--gpu-peak", "10"]
    done = run(
        "--workload", "attention", *flags, *limits, "--output", str(folder / "attention.json")
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_cell_runs_and_draws(results, monkeypatch, capsys):
    matplotlib = pytest.importorskip("matplotlib", reason="the notebook draws with matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setenv("RESULTS", str(results))
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict = {}
    drawn = []
    monkeypatch.setattr(pyplot, "show", lambda: drawn.append(pyplot.gcf()))
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    times, shares, _ = drawn
    (axes,) = times.axes
    assert axes.get_title() == "attention"
    labels = axes.get_legend_handles_labels()[1]
    assert {"reference", "math", "flash", "ours", "limit"} <= set(labels)
    assert len(shares.axes[0].patches) == 4
    assert "| reference | 1 |" in capsys.readouterr().out
    pyplot.close("all")
