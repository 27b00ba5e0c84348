"""The rooms of the house: what lies where, and that nothing imports from a room above its own."""

import ast
import functools
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "inference_benchmark"
PROGRAMS = ("benchmark_inference", "compare_results", "plot_results")
# From the ground up; a room may use what stands before it in this list, and itself.
ROOMS = (
    "errors",
    "scenarios",
    "hardware",
    "statistics",
    "system",
    "kernels",
    "parallel",
    "model",
    "models",
    "output_check",
    "workloads",
    "engines",
    "options",
    "session",
    "analysis",
    "reporting",
    "plotting",
    "command",
    *PROGRAMS,
)
TOP_LEVEL = {
    "benchmark_inference.py",
    "compare_results.py",
    "plot_results.py",
    "scenarios.py",
    "models.py",
    "hardware.py",
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "inference_benchmark",
    "tests",
    "results",
    "examples",
}


def modules() -> dict[str, Path]:
    """Path by dotted name below the package, links to the top level included."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, inside functions too."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        inside = [n.removeprefix("inference_benchmark.") for n in names if "inference_b" in n]
        # "from a.b import c" means the module a.b.c where there is one, else a.b.
        exact = [name for name in inside[:-1] if name in known] if len(inside) > 1 else []
        imported |= set(exact or [name for name in inside if name in known])
    return imported


@functools.cache
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports_of(path, known) - {name} for name, path in known.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_there_are_no_cycles():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_nothing_imports_from_a_higher_room():
    height = {name: number for number, name in enumerate(ROOMS)}
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if height[room(other)] > height[room(module)]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_what_reads_tables_and_results_loads_no_torch():
    rooms = (
        "scenarios",
        "models",
        "hardware",
        "statistics",
        "options",
        "analysis",
        "reporting",
        "plotting",
    )
    names = [name for name in modules() if room(name) in (*rooms, *PROGRAMS)]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(f'inference_benchmark.{name}')\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_room_is_known():
    assert {room(module) for module in modules()} == set(ROOMS)


def test_the_top_level_holds_the_named_files_only():
    visible = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and not path.name.endswith(".egg-info")
    }
    assert visible - {"build", "dist", "__pycache__"} == TOP_LEVEL


def test_the_readme_shows_every_folder():
    text = (ROOT / "README.md").read_text()
    block = text.split("Where everything is:\n")[1].split("The folders of the package")[0]
    shown = set(re.findall(r"^ {4,6}(\S+?)/?(?:  |$)", block, re.MULTILINE))
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert shown == folders | TOP_LEVEL - {"README.md", "LICENSE", "pyproject.toml"}


def test_every_file_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
