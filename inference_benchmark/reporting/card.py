"""What is printed before anything is measured: the model, the GPU, and what physics allows."""

from collections.abc import Sequence

from inference_benchmark.reporting.figures import (
    bases,
    headlines,
    limit_of,
    shown_unit,
    value_text,
)
from inference_benchmark.reporting.labels import batch_and_depth, compact, depths, joined
from inference_benchmark.reporting.layout import pairs, table
from inference_benchmark.reporting.reading import printable, to_version_2
from inference_benchmark.reporting.units import count, gigabytes, significant
from inference_benchmark.scenarios import SCENARIOS

_NO_LIMITS = "unknown here: --gpu-bandwidth and --gpu-peak give them"
_COSTS = {
    "prefill_flops": "prefill",
    "decode_bytes_per_step": "per decode step",
    "forward_flops": "per forward",
    "training_flops": "per run",
}


def card(
    result: dict,
    predicted_bytes: int | None,
    available_bytes: int | None,
    details: bool = False,
) -> str:
    """Five lines; with details all that is known beforehand. result holds no samples yet."""
    result = printable(to_version_2(result))
    rows = _all_rows if details else _five_rows
    return pairs(rows(result, _memory_line(predicted_bytes, available_bytes)))


def _five_rows(result: dict, memory: str) -> list[tuple[str, str]]:
    config, model, cells = result["config"], result["model"], result["cells"]
    weights = f"{gigabytes(model['weight_bytes'])} GB in {_weight_type(config, cells)}"
    return [
        ("model", f"{_model_line(config, model)}, {weights}"),
        (_work_name(config), _lengths(config)),
        ("device", f"{_device_line(result['environment'], config)}; {memory}"),
        ("limit", _limits_line(result)),
        ("cells", compact(cells)),
    ]


def _all_rows(result: dict, memory: str) -> list[tuple[str, str]]:
    config, model, cells = result["config"], result["model"], result["cells"]
    rows = [
        ("model", _model_line(config, model)),
        (_work_name(config), _lengths(config)),
        ("weights", f"{gigabytes(model['weight_bytes'])} GB, {_weight_type(config, cells)}"),
        *_depth_rows(config, cells),
        *_cache_rows(result),
        *_parallel_rows(config, model, result["environment"]),
        ("device", _device_line(result["environment"], config)),
        ("memory", memory),
    ]
    rows += [_limit_row(result, cell) for cell in _one_per_work(cells)]
    if not bases(cells):
        rows += [("limits", _NO_LIMITS)]
    return [*rows, ("cells", joined(cells))]


def _work_name(config: dict) -> str:
    return "scenario" if config["workload"] == "generation" else config["workload"]


def _lengths(config: dict) -> str:
    if config.get("sequence_lengths"):
        return f"{', '.join(map(str, config['sequence_lengths']))} tokens per sequence"
    if config["output_length"] is None:
        return f"{config['input_length']} tokens per sequence"
    lengths = f"{config['input_length']} -> {config['output_length']} tokens"
    return f"{config['scenario'] or 'own'}: {lengths}"


def _model_line(config: dict, model: dict) -> str:
    depth, full = config["num_layers"], config["full_num_layers"]
    layers = f"{depth} layers" if depth == full else f"ONLY {depth} OF {full} LAYERS"
    if config["extrapolated_from"]:
        layers = f"TO BE ESTIMATED FROM {depths(config).upper()} LAYERS"
    size = f"{_count(model['parameters'])} parameters"
    if model["active_parameters"] not in (None, model["parameters"]):
        size += f", {_count(model['active_parameters'])} active"
    return f"{config['model_name']}, {size}, {layers}"


def _weight_type(config: dict, cells: Sequence[dict]) -> str:
    """Of the first cell's weights, whose bytes the result's model has."""
    options = cells[0]["options"] if cells else None
    return (options or {}).get("precision") or config["precision"]


def _count(number: int | None) -> str:
    return "unknown" if number is None else count(number)


def _depth_rows(config: dict, cells: list[dict]) -> list[tuple[str, str]]:
    """What is built of a model that is estimated only."""
    if not config["extrapolated_from"]:
        return []
    measured = [cell["memory"] or {} for cell in cells if not cell["estimated"]]
    held = max((memory.get("weights_bytes") or 0 for memory in measured), default=0)
    per_gpu = " on each rank" if config["tensor_parallel"] > 1 else ""
    return [("built", f"{config['extrapolated_from'][1]} layers, {gigabytes(held)} GB{per_gpu}")]


def _cache_rows(result: dict) -> list[tuple[str, str]]:
    size = result["model"]["kv_bytes_per_token"]
    if size is None or result["config"]["output_length"] is None:
        return []
    return [("KV cache", f"{size / 1024:,.0f} KiB per token of context")]


def _parallel_rows(config: dict, model: dict, environment: dict) -> list[tuple[str, str]]:
    ranks, nodes = config["tensor_parallel"], environment["nodes"]
    if ranks == 1:
        return []
    share = f"{gigabytes(model.get('weight_bytes_per_gpu'))} GB of weights"
    cache = f"{(model.get('kv_bytes_per_token_per_gpu') or 0) / 1024:,.0f} KiB per token"
    where = "" if nodes == 1 else f" on {nodes} nodes"
    return [
        ("ranks", f"{ranks}{where}, tensor parallel; on each {share}, {cache}; limits: of one rank")
    ]


def _device_line(environment: dict, config: dict) -> str:
    gpu, ranks = environment["gpu"], config["tensor_parallel"]
    parallel = "" if ranks == 1 else f", tensor parallel over {ranks} ranks"
    if gpu is None:
        return f"CPU ({environment['cpu']}), a smoke run{parallel}"
    several = "" if gpu["count"] == 1 else f"{gpu['count']} x "
    return f"{several}{gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB{parallel}"


def _memory_line(predicted: int | None, available: int | None) -> str:
    return f"about {gigabytes(predicted)} GB needed, {gigabytes(available)} GB free"


def _one_per_work(cells: list[dict]) -> list[dict]:
    """Of the cells that have the same work to do one."""
    return list(
        {(batch_and_depth(c), c["num_layers"], c["weights"]["format"]): c for c in cells}.values()
    )


def _limits_line(result: dict) -> str:
    """Of the first work and, where there are several, of the last one."""
    known = [cell for cell in _one_per_work(result["cells"]) if cell["limit"]]
    if not known:
        return _NO_LIMITS
    ends = [known[0], *known[1:][-1:]]
    times = "; ".join(f"{batch_and_depth(cell)}: {_limit_times(result, cell)}" for cell in ends)
    return f"{times} ({', '.join(bases(known))} ceilings)"


def _limit_row(result: dict, cell: dict) -> tuple[str, str]:
    name, work = batch_and_depth(cell), _work(cell)
    if cell["limit"] is None:
        return f"work {name}", work
    return f"limit {name}", f"{_limit_times(result, cell)} ({cell['limit']['basis']}; {work})"


def _limit_times(result: dict, cell: dict) -> str:
    """TTFT 17.77 ms, TBOT 3.429 ms."""
    times = [
        f"{metric['title']} {value_text(limit, metric)} {shown_unit(metric)}"
        for metric in headlines(result["workload"])
        if (limit := limit_of(cell, metric["name"])) is not None
    ]
    return ", ".join(times)


def _work(cell: dict) -> str:
    """14.22 TFLOP prefill, 15.21 GB per decode step."""
    parts = []
    for name, amount in cell["cost"].items():
        if amount is not None:
            size = _flops(amount) if "flops" in name else f"{gigabytes(amount)} GB"
            parts.append(f"{size} {_COSTS.get(name, name.replace('_', ' '))}")
    return ", ".join(parts)


def _flops(number: float) -> str:
    if number < 1e10:
        return f"{significant(number / 1e9)} GFLOP"
    return f"{significant(number / 1e12)} TFLOP"


def scenario_table(limits: dict[str, tuple[float, float]]) -> str:
    """All scenarios; limits gives, by name, the least seconds of prefill and of decode."""
    rows = []
    for scenario in SCENARIOS.values():
        prefill_s, decode_s = limits[scenario.name]
        rows.append(
            [
                scenario.name,
                f"{scenario.input_length} -> {scenario.output_length}",
                _shares(scenario.prefill_token_share, 0),
                _shares(prefill_s / (prefill_s + decode_s), 1),
                scenario.stresses,
                scenario.use_case,
            ]
        )
    headers = ["scenario", "tokens", "by tokens", "by time", "stresses", "use case"]
    return table(rows, headers, [None, None, None, None, 9, 16], numbers=False)


def _shares(prefill: float, digits: int) -> str:
    return f"{prefill * 100:.{digits}f} / {(1 - prefill) * 100:.{digits}f}%"
