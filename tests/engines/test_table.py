"""The table of engines: what is in it can be loaded, and nobody outside asks for a name."""

import ast

import pytest
from conftest import ROOT

from inference_benchmark.engines import ENGINES, EngineEntry, listed, register
from inference_benchmark.engines.base import Engine

PACKAGE = ROOT / "inference_benchmark"


@pytest.mark.parametrize("name", ENGINES)
def test_an_entry_names_an_engine(name):
    assert issubclass(ENGINES[name].load(), Engine)


def test_a_taken_name_is_refused():
    with pytest.raises(ValueError, match="there is an engine named eager"):
        register(EngineEntry("eager", "x:Y", "another", graphs_by_default=True))
    assert "scripted" not in listed()


def test_nobody_outside_engines_compares_names_of_engines():
    comparisons = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "engines" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                names = {side.value for side in sides if isinstance(side, ast.Constant)}
                if names & set(ENGINES):
                    comparisons.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not comparisons


def test_nobody_outside_workloads_asks_a_session_for_a_metric_by_name():
    """Statistics, session and analysis go through what a workload declares."""
    metrics = {"ttft_s", "tbot_s", "decode_s", "total_s", "forward_s", "step_s"}
    names = []
    for folder in ("session", "analysis", "statistics", "engines"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in metrics:
                    names.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.value}")
    assert not names
