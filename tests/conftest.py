"""Shared by all tests: the repository's modules on the path, and the skip of GPU tests."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The models are tiny: threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
