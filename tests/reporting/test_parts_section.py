"""Tables of parts of a layer, and of whole steps, as READMEs show them."""

from dataclasses import asdict

import pytest
from fake_results import fake_cell, fake_result

from inference_benchmark.reporting.figures import shown_unit
from inference_benchmark.reporting.readme.parts import part_markdown
from inference_benchmark.reporting.workload_tables import whole_steps
from inference_benchmark.workloads import PARTS, WORKLOADS
from inference_benchmark.workloads.generation import Generation


def test_a_suspect_figure_is_marked_and_the_mark_explained():
    sound, suspect = (fake_cell(name, input_length=512) for name in ("eager", "inductor"))
    assert "?" not in part_markdown(fake_result([sound, suspect]))
    suspect["validity"] = {"verdict": "suspect", "reasons": []}
    lines = part_markdown(fake_result([sound, suspect])).splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert " ? |" in rows["inductor"]
    assert "?" not in rows["eager"]
    assert lines[-1].startswith("?: a suspect figure")


def test_what_is_compiled_as_one_is_said_of_what_compiles():
    cells = [fake_cell(name, options={"compiler": {}}) for name in ("eager", "inductor")]
    cells[1]["options"]["compiler"] = {"graphs": 4}
    table = whole_steps([fake_result(cells, compile_scope="step")])
    eager, inductor = table.splitlines()[2:]
    assert "| nothing |" in eager
    assert "| the step with its choice of the token |" in inductor


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_all_times_of_a_part_are_shown_in_one_unit(name, backward):
    """They stand in one table under one unit."""
    workload = WORKLOADS[name].load()(64, backward=backward)
    assert {shown_unit(asdict(metric)) for metric in workload.metrics} == {"us"}
    assert {shown_unit(asdict(metric)) for metric in Generation.metrics} == {"ms"}
