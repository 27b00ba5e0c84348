"""Whether a session fits into memory, computed before anything is allocated, and what would fit.

Groups come one after the other, so what counts is the largest of them. Where the modes of a batch
size do not fit together, each becomes a group of its own. The output check's reference takes a few
sequences at a time, and keeps the cache of one layer only.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.extrapolation import choose, flag, pairs
from inference_benchmark.model.implementation import OURS
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.units import gigabytes
from inference_benchmark.session.memory import Need, predict
from inference_benchmark.session.plan import CellPlan, Group, SessionPlan

Cells = Sequence[CellPlan]
# Where a sweep ends at the latest: nobody serves more sequences at once, and of a tiny model a
# million would fit.
_MOST_SWEPT = 4096


def with_batch_sizes(
    request: Request, plan: Callable[[Request], list[list[CellPlan]]], available: int | None
) -> Request:
    """The request; of a sweep with the powers of two that fit, each mode on its own if need be.

    plan: the cells of a request.

    Raises:
        CannotRun: the free memory is unknown, or not even one sequence fits.
    """
    if not request.sweeps_batch_size:
        return request
    if available is None:
        raise CannotRun(
            "--batch-size sweep needs to know the free memory, which it can't find out here: name "
            "the sizes"
        )
    sizes: list[int] = []
    size = 1
    while size <= _MOST_SWEPT:
        at_size = plan(replace(request, batch_size=(size,)))
        if not all(_fits(cells, available) for cells in at_size):
            break
        sizes.append(size)
        size *= 2
    # Where not even one sequence fits, the refusal that follows says what would.
    return replace(request, batch_size=tuple(sizes) or (1,))


def arrange(
    request: Request, batches: Sequence[list[CellPlan]], available: int | None
) -> SessionPlan:
    """Groups that fit into `available` bytes (None: unknown) one after the other.

    Raises:
        CannotRun: a group does not fit, and --force is not given.
    """
    groups = [group for cells in batches for group in _groups_of(cells, available)]
    largest = max(groups, key=lambda group: group.predicted_bytes)
    if available is not None and largest.predicted_bytes > available and not request.force:
        raise CannotRun(_refusal(request, largest, batches[0], available))
    return SessionPlan(tuple(groups))


def _groups_of(cells: Cells, available: int | None) -> list[Group]:
    """All modes together if they fit, else one by one."""
    together = _group(cells)
    by_mode: dict = {}
    for cell in cells:
        by_mode.setdefault(cell.spec, []).append(replace(cell, interleaved=False))
    if available is None or together.predicted_bytes <= available or len(by_mode) == 1:
        return [together]
    return [_group(of_mode) for of_mode in by_mode.values()]


def _group(cells: Cells) -> Group:
    return Group(tuple(cells), need(cells).total)


def need(cells: Cells) -> Need:
    """What these cells need together, on each rank."""
    workload, largest = cells[0].workload, max(cells, key=lambda cell: cell.model.num_layers)
    return predict(
        [(cell.share, cell.precision, cell.batch_size) for cell in cells],
        workload.input_length,
        workload.cache_length,
        check_bytes=workload.check_bytes(largest.share, largest.precision, largest.batch_size),
        output_bytes=max(
            workload.output_bytes(cell.model, cell.precision, cell.batch_size) for cell in cells
        ),
        stored=largest.stored,
        context_depth=workload.context_depth or 0,
        num_copies=sum(cell.spec.engine.copies_weights for cell in cells)
        + len({cell.implementation for cell in cells} - {OURS}),
        working_bytes=workload.working_bytes(largest.share, largest.precision, largest.batch_size),
        with_graphs=[
            (cell.share, cell.precision, cell.batch_size)
            for cell in cells
            if cell.spec.cuda_graphs and cell.engine.captures_prompts
        ],
    )


def _fits(cells: Cells, available: int) -> bool:
    return all(group.predicted_bytes <= available for group in _groups_of(cells, available))


def _refusal(request: Request, largest: Group, cells: Cells, available: int) -> str:
    wanted = need(largest.cells)
    ranks = request.tensor_parallel
    per_rank = "" if ranks == 1 else f" on each of {ranks} ranks"
    return (
        f"{request.built_model.label} needs about {gigabytes(wanted.total)} GB{per_rank} "
        f"(weights {gigabytes(wanted.weights)}, KV cache {gigabytes(wanted.kv_cache)}), "
        f"{gigabytes(available)} GB are free; would fit: {_advice(request, cells, available)}; "
        "--force tries anyway"
    )


def _advice(request: Request, cells: Cells, available: int) -> str:
    """A smaller batch or fewer layers, and whether the full model can be estimated instead."""
    largest = max(request.batch_sizes)
    fitting = largest_fit(cells, request, largest, available)
    model = request.model
    if request.extrapolation is not None or model.is_reduced or model.is_foreign:
        return fitting
    if not _can_be_estimated(request, cells, available):
        return fitting
    return f"{fitting}, or --extrapolate for an estimate of the full model"


def largest_fit(cells: Cells, request: Request, largest_batch: int, available: int) -> str:
    """What would fit instead, as advice: a smaller batch if that helps, else fewer layers.

    cells: of one batch size, whichever.
    """
    smaller = bisect_left(
        range(1, largest_batch), True, key=lambda size: not _fits(_resized(cells, size), available)
    )
    if smaller:
        return f"--batch-size {smaller}"
    for flags, models in _shallower(request):
        if _fits(_resized(_of_models(cells, models), 1), available):
            return f"{flags} with --batch-size 1"
    return "a smaller model"


def _shallower(request: Request) -> Iterator[tuple[str, tuple[ModelConfig, ...]]]:
    """(flags, models) of fewer layers that could be measured instead, the deepest first."""
    if request.model.is_foreign:
        return
    if request.extrapolation is None:
        for depth in range(request.model.num_layers - 1, 0, -1):
            yield f"--num-layers {depth}", (request.model.with_layers(depth),)
        return
    deepest = request.built_model.num_layers
    fewer = [pair for pair in pairs(request.model) if pair[1] < deepest]
    for pair in sorted(fewer, key=lambda pair: (-pair[1], pair[0])):
        yield flag(pair), tuple(map(request.model.with_layers, pair))


def _can_be_estimated(request: Request, cells: Cells, available: int) -> bool:
    """At the depths that are the default, and at the batch sizes that were asked for."""
    try:
        depths = choose(request.model, ()).from_layers
    except RequestError:
        return False
    models = tuple(map(request.model.with_layers, depths))
    shallow = _of_models(cells, models)
    return all(_fits(_resized(shallow, size), available) for size in request.batch_sizes)


def _of_models(cells: Cells, models: Sequence[ModelConfig]) -> list[CellPlan]:
    """The same modes, each at these depths."""
    by_mode = {cell.spec: cell for cell in cells}
    return [replace(cell, model=model) for cell in by_mode.values() for model in models]


def _resized(cells: Cells, batch_size: int) -> list[CellPlan]:
    return [replace(cell, engine=replace(cell.engine, batch_size=batch_size)) for cell in cells]
