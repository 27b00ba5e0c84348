"""What is printed before anything is measured: the model, the GPU, and what physics allows."""

from tabulate import tabulate

from reporting.units import UNKNOWN, count, gigabytes, milliseconds, percent, significant
from scenarios import SCENARIOS


def card(result: dict, predicted_bytes: int | None, available_bytes: int | None) -> str:
    """result holds no samples yet: the card shows what is known beforehand."""
    config, model = result["config"], result["model"]
    rows = [
        ("model", _model_line(config, model)),
        ("scenario", f"{config['scenario'] or 'own'}: {_lengths(config)}"),
        ("weights", f"{gigabytes(model['weight_bytes'])} GB, {config['precision']}"),
        ("KV cache", f"{model['kv_bytes_per_token'] / 1024:,.0f} KiB per token of context"),
        ("device", _device_line(result["environment"])),
        ("memory", _memory_line(predicted_bytes, available_bytes)),
    ]
    rows += [_limit_row(cell) for cell in _one_per_batch(result["cells"])]
    rows += [("cells", ", ".join(cell["label"] for cell in result["cells"]))]
    return tabulate(rows, tablefmt="plain", maxcolwidths=[None, 66], disable_numparse=True)


def _model_line(config: dict, model: dict) -> str:
    depth, full = config["num_layers"], config["full_num_layers"]
    layers = f"{depth} layers" if depth == full else f"ONLY {depth} OF {full} LAYERS"
    return f"{config['model_name']}, {count(model['parameters'])} parameters, {layers}"


def _lengths(config: dict) -> str:
    return f"{config['input_length']} -> {config['output_length']} tokens"


def _device_line(environment: dict) -> str:
    gpu = environment["gpu"]
    if gpu is None:
        return f"CPU ({environment['cpu']}): a smoke run, no GPU is measured"
    return f"{gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB"


def _memory_line(predicted: int | None, available: int | None) -> str:
    return f"about {gigabytes(predicted)} GB needed, {gigabytes(available)} GB free"


def _one_per_batch(cells: list[dict]) -> list[dict]:
    return list(
        {(cell["batch_size"], cell["options"]["precision"]): cell for cell in cells}.values()
    )


def _limit_row(cell: dict) -> tuple[str, str]:
    name = f"limit b{cell['batch_size']}"
    limit = cell["limit"]
    flops = f"{significant(cell['prefill_flops'] / 1e12)} TFLOP prefill"
    moved = f"{gigabytes(cell['decode_bytes_per_step'])} GB per decode step"
    if limit is None:
        hint = "give --gpu-bandwidth and --gpu-peak for the limits"
        return name, f"{UNKNOWN} ({flops}, {moved}; {hint})"
    times = f"TTFT {milliseconds(limit['ttft_s'])} ms, TBOT {milliseconds(limit['tbot_s'])} ms"
    return name, f"{times} ({limit['basis']}; {flops}, {moved})"


def scenario_table(limits: dict[str, tuple[float, float]] | None = None) -> str:
    """All scenarios; limits gives, by name, the least seconds of prefill and decode."""
    rows = []
    for scenario in SCENARIOS.values():
        share = scenario.prefill_token_share
        row = [
            scenario.name,
            f"{scenario.input_length} -> {scenario.output_length}",
            f"{percent(share)} / {percent(1 - share)}",
            scenario.stresses,
            scenario.use_case,
        ]
        if limits is not None:
            prefill_s, decode_s = limits[scenario.name]
            time_share = prefill_s / (prefill_s + decode_s)
            row.insert(3, f"{time_share * 100:.1f}% / {(1 - time_share) * 100:.1f}%")
        rows.append(row)
    headers = ["scenario", "tokens", "token shares", "stresses", "use case"]
    if limits is not None:
        headers.insert(3, "time shares")
    widths = [None, None, None, None, 12, 18] if limits else [None, None, None, 18, 26]
    return tabulate(rows, headers, tablefmt="simple", maxcolwidths=widths, disable_numparse=True)
