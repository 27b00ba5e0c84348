"""What an installed copy consists of, as far as it can be seen without installing one."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

from inference_benchmark import __version__
from inference_benchmark.engines.parts import entries_of
from inference_benchmark.model.weight_format import QUANTIZED
from inference_benchmark.workloads import WORKLOADS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = ROOT / "inference_benchmark"
AT_THE_TOP = (
    "benchmark_inference",
    "compare_results",
    "plot_results",
    "hardware",
    "models",
    "scenarios",
)


def test_files_that_users_edit_are_in_the_package_as_well():
    for name in AT_THE_TOP:
        link = PACKAGE / f"{name}.py"
        assert link.is_symlink()
        assert link.resolve() == ROOT / f"{name}.py"


def test_each_folder_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_commands_lead_to_functions():
    for target in PROJECT["project"]["scripts"].values():
        module, _, function = target.partition(":")
        __import__(module)
        assert callable(getattr(sys.modules[module], function))


def test_one_place_says_the_version():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_what_is_imported_is_required():
    """Inside functions too; the standard library and extras are left out."""
    required = {
        re.split(r"[^A-Za-z0-9-]", text)[0].replace("-", "_")
        for text in PROJECT["project"]["dependencies"]
    }
    required |= {"thunder", "pynvml", "triton"}  # by other names; triton comes with torch
    imported = {name for path in PACKAGE.rglob("*.py") for name in imports_of(path)}
    foreign = imported - set(sys.stdlib_module_names) - {"inference_benchmark"}
    optional = {"transformer_engine", "nvfuser", "nvfuser_direct", "gguf", "tokenizers", "jinja2"}
    optional |= {"matplotlib"}
    entries = [entry for workload in WORKLOADS for entry in entries_of(workload).values()]
    optional |= {package for entry in entries for package in entry.packages}
    optional |= {entry.package for entry in QUANTIZED.values() if entry.package}
    assert foreign - required <= optional


def imports_of(path: Path) -> Iterator[str]:
    """The top-level names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_skipped_tests_say_why():
    assert "-rs" in PROJECT["tool"]["pytest"]["ini_options"]["addopts"].split()
