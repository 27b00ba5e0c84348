"""Shared by all tests: the repository's modules on the path, poison, and the skip of GPU tests.

The only one of this name: the tests' folders are all on the path, so that a second would be imported
in its place.
"""

import gc
import math
import os
import signal
import sys
from pathlib import Path

import pytest

HAS_NVIDIA_GPU = os.path.exists("/dev/nvidiactl")  # torch is not loaded to ask
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
_FILES = sorted((ROOT / "results" / "published").glob("*/*.json"))
PUBLISHED = [path for path in _FILES if path.parent.name not in ("audit", "peers")]
# What one of the programs that tests start has compiled, the next need not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's & has it ignored, by them as well
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The models are tiny: threads that wait for each other cost more than they bring, and so do
# processes that load torch only to compile.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not HAS_NVIDIA_GPU:
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # Inductor would compile a program per instruction set that this CPU says it has: 15 s of it.
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


def pytest_collection_modifyitems(items) -> None:
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="session", autouse=True)
def _no_collection():
    """A session collects garbage before it measures: here that of all tests before, which takes
    longer than most sessions. On a GPU memory may wait for it."""
    if HAS_NVIDIA_GPU:
        yield
        return
    gc.freeze()  # nor is anything garbage that was loaded so far
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaN: a kernel that reads or leaves an unwritten element shows."""
    import torch

    empty = torch.empty

    def poisoned_empty(*args: object, **kwargs: object) -> torch.Tensor:
        tensor = empty(*args, **kwargs)
        return tensor.fill_(math.nan) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch, "empty", poisoned_empty)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with a model that knows one answer."""
    from trained_model import save_trained_model

    folder = tmp_path_factory.mktemp("trained")
    save_trained_model(folder)
    return folder
