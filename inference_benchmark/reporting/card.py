"""What is printed before anything is measured: the model, the GPU, and what physics allows."""

from inference_benchmark.reporting.labels import depths, joined, variant
from inference_benchmark.reporting.layout import pairs, table
from inference_benchmark.reporting.units import count, gigabytes, milliseconds, significant
from inference_benchmark.scenarios import SCENARIOS


def card(result: dict, predicted_bytes: int | None, available_bytes: int | None) -> str:
    """result holds no samples yet: the card shows what is known beforehand."""
    config, model = result["config"], result["model"]
    rows = [
        ("model", _model_line(config, model)),
        ("scenario", f"{config['scenario'] or 'own'}: {_lengths(config)}"),
        ("weights", f"{gigabytes(model['weight_bytes'])} GB, {config['precision']}"),
        *_depth_rows(config, result["cells"]),
        ("KV cache", f"{model['kv_bytes_per_token'] / 1024:,.0f} KiB per token of context"),
        *_parallel_rows(config, model, result["environment"]),
        ("device", _device_line(result["environment"])),
        ("memory", _memory_line(predicted_bytes, available_bytes)),
    ]
    rows += [_limit_row(cell) for cell in _one_per_work(result["cells"])]
    if all(cell["limit"] is None for cell in result["cells"]):
        rows += [("limits", "unknown here: --gpu-bandwidth and --gpu-peak give them")]
    rows += [("cells", joined(result["cells"]))]
    return pairs(rows)


def _model_line(config: dict, model: dict) -> str:
    depth, full = config["num_layers"], config["full_num_layers"]
    layers = f"{depth} layers" if depth == full else f"ONLY {depth} OF {full} LAYERS"
    if config["extrapolated_from"]:
        layers = f"TO BE ESTIMATED FROM {depths(config).upper()} LAYERS"
    size = f"{count(model['parameters'])} parameters"
    if model["active_parameters"] != model["parameters"]:
        size += f", {count(model['active_parameters'])} active"
    return f"{config['model_name']}, {size}, {layers}"


def _depth_rows(config: dict, cells: list[dict]) -> list[tuple[str, str]]:
    """What is built of a model that is estimated only."""
    if not config["extrapolated_from"]:
        return []
    held = max(cell["memory"]["weights_bytes"] for cell in cells if not cell["estimated"])
    per_gpu = " on each rank" if config["tensor_parallel"] > 1 else ""
    return [("built", f"{config['extrapolated_from'][1]} layers, {gigabytes(held)} GB{per_gpu}")]


def _parallel_rows(config: dict, model: dict, environment: dict) -> list[tuple[str, str]]:
    ranks, nodes = config["tensor_parallel"], environment["nodes"]
    if ranks == 1:
        return []
    share = f"{gigabytes(model['weight_bytes_per_gpu'])} GB of weights"
    cache = f"{model['kv_bytes_per_token_per_gpu'] / 1024:,.0f} KiB per token"
    where = "" if nodes == 1 else f" on {nodes} nodes"
    return [
        ("ranks", f"{ranks}{where}, tensor parallel; on each {share}, {cache}; limits: of one rank")
    ]


def _lengths(config: dict) -> str:
    return f"{config['input_length']} -> {config['output_length']} tokens"


def _device_line(environment: dict) -> str:
    gpu = environment["gpu"]
    if gpu is None:
        return f"CPU ({environment['cpu']}): a smoke run, no GPU is measured"
    count = "" if gpu["count"] == 1 else f"{gpu['count']} x "
    return f"{count}{gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB"


def _memory_line(predicted: int | None, available: int | None) -> str:
    return f"about {gigabytes(predicted)} GB needed, {gigabytes(available)} GB free"


def _one_per_work(cells: list[dict]) -> list[dict]:
    return list(
        {
            (cell["batch_size"], cell["num_layers"], cell["options"]["precision"]): cell
            for cell in cells
        }.values()
    )


def _limit_row(cell: dict) -> tuple[str, str]:
    name = cell["label"].removeprefix(variant(cell)).strip()
    limit = cell["limit"]
    work = f"{_flops(cell['prefill_flops'])} prefill, "
    work += f"{gigabytes(cell['decode_bytes_per_step'])} GB per decode step"
    if limit is None:
        return f"work {name}", work
    times = f"TTFT {milliseconds(limit['ttft_s'])} ms, TBOT {milliseconds(limit['tbot_s'])} ms"
    return f"limit {name}", f"{times} ({limit['basis']}; {work})"


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
