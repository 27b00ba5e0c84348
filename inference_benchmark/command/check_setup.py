"""What is installed and usable here, on one page: each line "ok", or what to do.

What the main job needs decides the exit code; the rest is optional and says how to get it. Packages
are looked for, not imported, but for torch; of this project's kernels one is run where there is a GPU.
"""

import importlib.util
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from inference_benchmark.engines import ENGINES, EngineEntry
from inference_benchmark.engines.parts import IMPLEMENTATIONS
from inference_benchmark.engines.spec import EXECUTORS, is_installed
from inference_benchmark.errors import CannotRun, ExitCode, RequestError
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.request import Request
from inference_benchmark.options.resolution import resolve
from inference_benchmark.reporting.layout import pairs
from inference_benchmark.reporting.units import gigabytes

_PYTHONS = ((3, 11), (3, 13))  # as pyproject.toml and thunder allow
_MAIN_JOB = ("--scenario", "chat")


@dataclass(frozen=True)
class Finding:
    """remedy: what to do; None: it is usable."""

    name: str
    detail: str
    remedy: str | None = None

    @property
    def text(self) -> str:
        if self.remedy is None:
            return f"ok: {self.detail}" if self.detail else "ok"
        return f"{self.detail}: {self.remedy}" if self.detail else self.remedy


def check_setup(device: str = "auto") -> int:
    """Print the page; returns the exit code: 3 where the main job can't run."""
    main_job = _main_job(device)
    has_gpu, environment = _environment()
    sections = {
        "machine": _machine(has_gpu, environment),
        "compilers": _compilers(has_gpu, environment),
        "thunder's executors": _executors(has_gpu),
        "engines": _packages(ENGINES.values(), has_gpu, environment),
        "kernels": [
            *_own_kernels(has_gpu),
            *_packages(_brought_by_packages(), has_gpu, environment),
        ],
        "main job": [main_job],
    }
    print("\n\n".join(_section(title, list(rows)) for title, rows in sections.items()), flush=True)
    return ExitCode.MEASURED if main_job.remedy is None else ExitCode.CANNOT_RUN


def _section(title: str, findings: Sequence[Finding]) -> str:
    return f"{title}\n" + pairs([(f"  {finding.name}", finding.text) for finding in findings])


def _environment() -> tuple[bool, dict]:
    try:
        import torch
    except ImportError:
        return False, {}
    from inference_benchmark.system.environment import describe

    has_gpu = torch.cuda.is_available()
    return has_gpu, describe(torch.device("cuda" if has_gpu else "cpu"))


def _machine(has_gpu: bool, environment: dict) -> Iterator[Finding]:
    least, most = _PYTHONS
    version = ".".join(map(str, sys.version_info[:3]))
    fits = least <= sys.version_info[:2] <= most
    span = " to ".join(".".join(map(str, version)) for version in _PYTHONS)
    yield Finding("Python", version, None if fits else f"install one of {span}")
    yield Finding("torch", *_torch(environment))
    if not has_gpu:
        yield Finding("GPU", "torch finds none", "on the CPU there are smoke runs only")
        return
    gpu = environment["gpu"]
    yield Finding("GPU", f"{gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB")
    driver, hint = environment["driver"], "pip install nvidia-ml-py, and see that NVML loads"
    yield Finding(
        "driver", f"{driver or 'clocks and throttling can not be read'}", None if driver else hint
    )


def _torch(environment: dict) -> tuple[str, str | None]:
    if not environment:
        return "missing", "pip install 'torch>=2.8,<2.12'"
    cuda = f", CUDA {environment['cuda']}" if environment["cuda"] else ", no CUDA in use"
    return f"{environment['torch']}{cuda}", None


def _compilers(has_gpu: bool, environment: dict) -> Iterator[Finding]:
    triton = environment.get("triton")
    if has_gpu:
        yield Finding("Triton", triton or "missing", None if triton else "pip install triton")
    compiler = next(filter(None, map(shutil.which, ("gcc", "g++", "clang"))), None)
    missing = "missing, inductor and Triton need one"
    yield Finding("C compiler", compiler or missing, None if compiler else "apt-get install g++")


def _executors(has_gpu: bool) -> Iterator[Finding]:
    for executor in EXECUTORS.values():
        if not is_installed(executor.name):
            yield Finding(executor.name, "", executor.install)
        elif executor.needs_gpu and not has_gpu:
            yield Finding(executor.name, "", "needs a CUDA GPU")
        else:
            yield Finding(executor.name, executor.thunder_name or "")


def _packages(
    entries: Iterable[EngineEntry], has_gpu: bool, environment: dict
) -> Iterator[Finding]:
    device = "cuda" if has_gpu else "cpu"
    for entry in entries:
        if not entry.is_listed:
            continue
        version = environment.get(entry.name) or ""
        yield Finding(entry.name, version, _what_is_missing(entry, device))


def _what_is_missing(entry: EngineEntry, device: str) -> str | None:
    """What to do before this engine can run; None: nothing."""
    if entry.needs_gpu and device == "cpu":
        return "needs a CUDA GPU"
    if any(importlib.util.find_spec(name) is None for name in entry.packages):
        return entry.install_on(device)
    if entry.server_check:
        try:
            entry.check_server(make_parser().get_default("ollama_url"))
        except CannotRun as error:
            return str(error)
    return entry.missing_program(device)


def _brought_by_packages() -> list[EngineEntry]:
    """Implementations of parts that are packages of others."""
    implementations = [
        implementation
        for entries in IMPLEMENTATIONS.values()
        for implementation in entries.values()
    ]
    return [
        implementation
        for implementation in implementations
        if implementation.packages and implementation.name not in ENGINES
    ]


def _own_kernels(has_gpu: bool) -> Iterator[Finding]:
    if not has_gpu:
        yield Finding("+kernels", "", "this project's kernels need a CUDA GPU")
        return
    try:
        _run_a_kernel()
    except Exception as error:  # whatever a driver, a compiler or Triton may raise
        first, *_ = str(error).splitlines() or [""]
        yield Finding("+kernels", f"{type(error).__name__}: {first}", "leave out +kernels")
        return
    yield Finding("+kernels", "one was compiled and run")


def _run_a_kernel() -> None:
    import torch

    from inference_benchmark.kernels.gemv import gemv

    x, weight = torch.ones(1, 256, device="cuda"), torch.ones(64, 256, device="cuda")
    if not torch.equal(gemv(x, weight), torch.full((1, 64), 256.0, device="cuda")):
        raise RuntimeError("a product of ones is wrong")


def _main_job(device: str) -> Finding:
    """Whether `--scenario chat` could run now; nothing is built."""
    command = " ".join(_MAIN_JOB)
    arguments = make_parser().parse_args([*_MAIN_JOB, "--device", device])
    try:
        request = resolve(arguments)
        needed, free = _memory(request)
    except (CannotRun, RequestError, ImportError) as error:
        return Finding(command, "can't run", str(error))
    modes = ", ".join(spec.shown_label for spec in request.specs)
    memory = f"about {gigabytes(needed)} GB needed, {gigabytes(free)} GB free"
    return Finding(command, f"{request.model.name} in {modes}; {memory}")


def _memory(request: Request) -> tuple[int, int | None]:
    """Bytes that are needed and that are free.

    Raises:
        CannotRun: it does not fit.
    """
    import torch

    from inference_benchmark.command.fit import arrange
    from inference_benchmark.session.planning import plan_cells
    from inference_benchmark.system.host_load import free_host_bytes

    is_cuda = request.device == "cuda"
    free = torch.cuda.mem_get_info()[0] if is_cuda else free_host_bytes()
    plan = arrange(request, plan_cells(request), free)
    return max(group.predicted_bytes for group in plan.groups), free
