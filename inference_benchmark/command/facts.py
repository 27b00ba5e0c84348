"""What a session says of itself as a whole, gathered before anything is measured."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from inference_benchmark.analysis.facts import SessionFacts
from inference_benchmark.command.cache_states import current_cache_state
from inference_benchmark.command.many_sessions import current_session_set
from inference_benchmark.hardware import GPU, Ceilings, ceilings, find_gpu, price_range
from inference_benchmark.model.weights import DTYPES
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.ranks import Ranks, describe_rank
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.planning import make_workloads
from inference_benchmark.system.ceilings import measure as measure_ceilings
from inference_benchmark.system.environment import describe
from inference_benchmark.system.host_load import available_cpus, load_average


def session_facts(
    request: Request,
    command: list[str],
    cells: Iterable[LiveCell],
    device: torch.device,
    ranks: Ranks,
    available: int | None,
) -> SessionFacts:
    """available: bytes of free memory, None where unknown, which limits what ceilings are measured
    with."""
    environment = describe(device)
    gpu = environment["gpu"]
    environment["nodes"] = ranks.num_nodes
    environment["ranks"] = None
    if ranks.size > 1:
        environment["ranks"] = ranks.all_gather(describe_rank(gpu))
    if gpu is not None:
        gpu["count"] = ranks.size
    preset = find_gpu(gpu["name"], gpu["memory_bytes"]) if gpu else None
    precisions = {cell.plan.precision.compute for cell in cells}
    return SessionFacts(
        request=request,
        workload=make_workloads(request)[0],
        environment=environment,
        ceilings={name: _ceilings(request, preset, name, device, available) for name in precisions},
        prices=price_range(preset, request.gpu_price) if gpu else None,
        command=command,
        session_set=current_session_set(),
        cache_state=current_cache_state(),
        load_average=load_average() if device.type == "cpu" else None,
        cpus=available_cpus(),
        warnings=[*request.notices, *_fallback(cells, ranks)],
    )


def _fallback(cells: Iterable[LiveCell], ranks: Ranks) -> list[str]:
    """Why modes that would sum small messages over ranks by a kernel do so by NCCL, or by another."""
    if ranks.no_shared_sums is None or all(cell.plan.spec.is_plain for cell in cells):
        return []
    other = " or ".join(["NCCL", *(f"{name} alone" for name in sorted(ranks.shared_sums))])
    return [f"all-reduce of small messages by {other}: {ranks.no_shared_sums}"]


def _ceilings(
    request: Request,
    preset: GPU | None,
    precision: str,
    device: torch.device,
    available: int | None,
) -> Ceilings | None:
    """From the datasheet or as given; measured where that is asked for and there is room."""
    if request.measure_ceilings and device.type == "cuda" and precision in DTYPES:
        measured = measure_ceilings(DTYPES[precision], device, available)
        if measured is not None:
            return replace(measured, datasheet=ceilings(preset, precision))
    return ceilings(preset, precision, request.gpu_bandwidth, request.gpu_peak)
