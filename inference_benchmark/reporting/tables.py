"""The tables after a session, rendered from the result object alone; 80 columns wide at most."""

from inference_benchmark.reporting.explanation import what_bounds
from inference_benchmark.reporting.labels import depths, joined, session_label, variant, variant_of
from inference_benchmark.reporting.layout import fits, room_for_labels, table, wrap
from inference_benchmark.reporting.units import (
    UNKNOWN,
    dollar_range,
    gigabytes,
    milliseconds,
    percent,
    rate,
    seconds,
    significant,
)

_LABEL_WIDTH = 20  # at least
_WIDTHS = {"speed-up": 12, "verdict": 12}  # at most
_SOUND = ("ok", "partial")  # a wrong output has no speed
_VALIDITY = {"valid": "valid", "suspect": "SUSPECT", "invalid": "INVALID"}


def report(result: dict) -> str:
    """Everything worth reading after a session; the answer first."""
    cells = result["cells"]
    parts = [_headline(result), summary_table(result)]
    measured = [c for c in cells if c["status"] in _SOUND and c["summary"]["ttft_s"]["n"]]
    if measured:
        parts += [
            _operating_points(measured),
            _throughput(measured),
            *(_latency(cell) for cell in measured),
            _resources(measured),
            _variance(measured),
            _cold_start(measured),
        ]
    parts += [_reasons(cells), _footnotes(result)]
    return "\n\n".join(part for part in parts if part)


def _table(title: str, rows: list, headers: list[str]) -> str:
    """Without the columns in which nothing is known; labels take what the others leave."""
    columns = zip(headers, *rows, strict=True)
    known = [column for column in columns if set(column[1:]) != {UNKNOWN}]
    if len(known) < 2:
        return ""
    headers, *rows = zip(*known, strict=True)
    if fits(rows, headers):
        return f"{title}\n{table(rows, headers)}"
    widths = [_WIDTHS.get(header) for header in headers[1:]]
    room = max(_LABEL_WIDTH, room_for_labels(rows, headers, widths))
    return f"{title}\n{table(rows, headers, [room, *widths])}"


def _headline(result: dict) -> str:
    config, gpu = result["config"], result["environment"]["gpu"]
    where = gpu["name"] if gpu else "CPU smoke run: says nothing about GPUs"
    ranks = config["tensor_parallel"] or 1
    where = f"{ranks} x {where}" if gpu and ranks > 1 else where
    line = f"{session_label(result)}, {config['scenario'] or 'own lengths'} "
    line += f"{config['input_length']} -> {config['output_length']}, {config['precision']}, {where}"
    return wrap(line)


def summary_table(result: dict) -> str:
    """A row per cell: the numbers one chooses by."""
    rows = [_summary_row(cell) for cell in result["cells"]]
    headers = ["cell", "TTFT", "TBOT", "limit", "tok/s", "speed-up", "n", "verdict"]
    return _table("summary (medians), TTFT and TBOT in ms", rows, headers)


def _summary_row(cell: dict) -> list[str]:
    summary = cell["summary"]
    n = str(summary["ttft_s"]["n"])
    if cell["status"] not in _SOUND:
        return [cell["label"], *[UNKNOWN] * 5, n, cell["status"].replace("_", " ").upper()]
    return [
        cell["label"],
        milliseconds(summary["ttft_s"]["median"]),
        milliseconds(summary["tbot_s"]["median"]),
        percent(_reached(cell, "tbot_s")),
        rate(summary["output_tokens_per_s"]),
        speedup_text(cell, "tbot"),
        n,
        _verdict(cell),
    ]


def _verdict(cell: dict) -> str:
    """An estimate is never simply valid."""
    if not cell["summary"]["ttft_s"]["n"]:
        return "no runs"
    validity = cell["validity"]["verdict"]
    return "ESTIMATE" if cell["estimated"] and validity == "valid" else _VALIDITY[validity]


def speedup_text(cell: dict, metric: str) -> str:
    """1.52x faster, or a dash."""
    found = (cell["speedup"] or {}).get(metric)
    if found is None:
        return UNKNOWN
    return f"{found['ratio']:.2f}x {found['verdict'] or ''}".strip()


def _reached(cell: dict, metric: str) -> float | None:
    """The limit's share of the measured median: 100 % is as fast as the hardware allows."""
    limit = (cell["limit"] or {}).get(metric)
    median = cell["summary"][metric]["median"]
    return None if limit is None or not median else limit / median


def _throughput(cells: list[dict]) -> str:
    rows = []
    for cell in cells:
        summary = cell["summary"]
        rows.append(
            [
                cell["label"],
                rate(summary["overall_tokens_per_s"]),
                rate(summary["output_tokens_per_s"]),
                rate(summary["prefill_tokens_per_s"]),
                rate(summary["decode_tokens_per_s"]),
                rate(summary["per_user_tokens_per_s"]),
                milliseconds(summary["s_per_token"]),
            ]
        )
    headers = ["cell", "overall", "output", "prefill", "decode", "per user", "ms/token"]
    return _table("throughput, tokens per second (tokens over median time)", rows, headers)


def _operating_points(cells: list[dict]) -> str:
    """What one chooses a batch size by; only where there is something to choose."""
    if len({cell["batch_size"] for cell in cells}) < 2:
        return ""
    rows = [
        [
            cell["label"],
            rate(cell["summary"]["per_gpu_tokens_per_s"]),
            rate(cell["summary"]["per_user_tokens_per_s"]),
            milliseconds(cell["summary"]["ttft_s"]["median"]),
            dollar_range((cell["summary"]["cost_per_million_tokens"] or {}).get("output")),
        ]
        for cell in cells
    ]
    headers = ["cell", "tok/s/GPU", "tok/s/user", "TTFT ms", "$/M output tokens"]
    return _table("operating points", rows, headers)


def _cold_start(cells: list[dict]) -> str:
    """What comes before the first fast token; pay-back is in output tokens against plain eager."""
    cells = [cell for cell in cells if not cell["estimated"]]
    names = ("build_s", "setup_s", "compile_prefill_s", "compile_decode_s", "capture_s")
    rows = [
        [
            cell["label"],
            *(seconds(cell["cold_start"][name]) for name in names),
            seconds(cell["cold_start"].get("first_token_s")),
            rate(cell["cold_start"].get("payback_tokens")),
        ]
        for cell in cells
    ]
    headers = ["cell", "build", "setup", "prefill", "decode", "capture", "token 1", "pay-back"]
    return _table("cold start, s (prefill and decode: compiling and the first call)", rows, headers)


def _latency(cell: dict) -> str:
    rows = [
        _latency_row(name, cell, metric)
        for name, metric in (
            ("TTFT (prefill)", "ttft_s"),
            ("TBOT", "tbot_s"),
            ("decode", "decode_s"),
            ("total", "total_s"),
        )
    ]
    steps = cell["summary"]["step_s"]
    if not cell["estimated"]:
        p50, p95, p99 = (milliseconds(steps[name]) for name in ("p50", "p95", "p99"))
        rows.append(["single steps", p50, *[UNKNOWN] * 4, p95, p99, UNKNOWN, UNKNOWN])
    headers = ["ms", "median", "mean", "std", "min", "max", "p95", "p99", "limit", "%"]
    return _table(f"latency of {cell['label']}", rows, headers)


def _latency_row(name: str, cell: dict, metric: str) -> list[str]:
    values = cell["summary"][metric]
    names = ("median", "mean", "std", "min", "max", "p95", "p99")
    limit = (cell["limit"] or {}).get(metric)
    times = [milliseconds(values[each]) for each in names]
    reached = _reached(cell, metric) if limit else None
    return [name, *times, milliseconds(limit), percent(reached)]


def _resources(cells: list[dict]) -> str:
    rows = []
    for cell in cells:
        memory, cost = cell["memory"], cell["summary"]["cost_per_million_tokens"] or {}
        rows.append(
            [
                cell["label"],
                gigabytes(memory.get("weights_bytes")),
                gigabytes(memory.get("kv_cache_bytes")),
                gigabytes(memory.get("current_allocated_bytes")),
                gigabytes(memory.get("peak_allocated_bytes")),
                dollar_range(cost.get("output")),
            ]
        )
    headers = ["cell", "weights", "KV", "now", "peak", "$/M output tokens"]
    title = "resources, GB"
    planned = {cell["memory"].get("predicted_bytes") for cell in cells} - {None}
    title += "".join(f"; {gigabytes(each)} planned for all cells" for each in planned)
    if any(cell["summary"]["cost_per_million_tokens"] for cell in cells):
        title += "; cost as min - median - max"
    return f"{_table(title, rows, headers)}\n{_total_cost(cells)}".rstrip()


def _parallel_notes(result: dict) -> list[str]:
    ranks = result["config"]["tensor_parallel"] or 1
    if ranks == 1:
        return []
    notes = [f"{ranks} ranks: times of the slowest, cost and energy of all, memory per GPU"]
    for cell in result["cells"]:
        total = cell["memory"].get("total_peak_allocated_bytes")
        rate_per_gpu = cell["summary"]["per_gpu_tokens_per_s"]
        if rate_per_gpu is not None and cell["status"] in _SOUND:
            peak = "" if total is None else f", {gigabytes(total)} GB at peak on all together"
            notes.append(f"{cell['label']}: {rate(rate_per_gpu)} output tok/s per GPU{peak}")
    return notes


def _total_cost(cells: list[dict]) -> str:
    lines = []
    for cell in cells:
        cost = cell["summary"]["cost_per_million_tokens"]
        if cost is not None:
            lines.append(f"{cell['label']}: $/M total tokens {dollar_range(cost['total'])}")
        energy = cell["summary"]["energy_per_token_j"]
        if energy is not None:
            lines.append(f"{cell['label']}: {significant(energy)} J per output token")
    return "\n".join(lines)


def _variance(cells: list[dict]) -> str:
    rows = []
    for cell in cells:
        summary = cell["summary"]
        spread = summary["output_tokens_per_s_std"]
        rows.append(
            [
                cell["label"],
                UNKNOWN if spread is None else significant(spread),
                milliseconds(summary["ttft_s"]["std"]),
                milliseconds(summary["tbot_s"]["std"]),
                _interval(summary["tbot_s"]["median_ci95"]),
            ]
        )
    headers = ["cell", "output tok/s", "TTFT ms", "TBOT ms", "TBOT median 95% ms"]
    return _table("variance, standard deviation over runs", rows, headers)


def _interval(interval: list[float] | None) -> str:
    if interval is None:
        return UNKNOWN
    return " .. ".join(milliseconds(bound) for bound in interval)


def _reasons(cells: list[dict]) -> str:
    """Why a result is not simply valid, and what to do about it; each reason and remedy once."""
    by_remedy: dict[str, list[tuple[dict, str]]] = {}
    for cell in cells:
        for message, remedy in _problems(cell):
            by_remedy.setdefault(remedy, []).append((cell, message))
    lines = []
    for remedy, found in by_remedy.items():
        *others, last = _said(found, cells)
        lines += [*others, f"{last} {remedy}".rstrip()]
    return "\n".join(map(wrap, lines))


def _said(found: list[tuple[dict, str]], cells: list[dict]) -> list[str]:
    """What is said of several cells alike as one line: who, and what."""
    concerned: dict[str, list[dict]] = {}
    for cell, text in found:
        concerned.setdefault(text, []).append(cell)
    return [f"{joined(who, cells)}: {text}" for text, who in concerned.items()]


def _problems(cell: dict) -> list[tuple[str, str]]:
    """(what is wrong, what to do about it)."""
    found = [(cell["error"], "")] if cell["error"] else []
    if cell["agreement"] and not cell["agreement"]["passed"]:
        found.append((f"WRONG OUTPUT: {'; '.join(cell['agreement']['failures'])}", ""))
    reasons = cell["validity"]["reasons"] if cell["summary"]["ttft_s"]["n"] else []
    return found + [(reason["message"], reason["remedy"]) for reason in reasons]


def _footnotes(result: dict) -> str:
    cells = result["cells"]
    bounds = [(cell, text) for cell in cells if (text := what_bounds(cell))]
    notes = [*_estimate_notes(result), *_said(bounds, cells), *result["warnings"]]
    basis = {cell["limit"]["basis"] for cell in cells if cell["limit"]}
    notes += _routing_notes(cells)[:1]
    notes += [f"limit: the hardware alone, {each} ceilings; % of it reached" for each in basis]
    notes += _speedup_notes(cells)
    notes += _parallel_notes(result)
    price_source = result["config"].get("price_source")
    if price_source is not None:
        notes.append(f"cost: price per GPU-hour {price_source}")
    gpu = result["environment"]["gpu"]
    if gpu and not any(cell["summary"]["cost_per_million_tokens"] for cell in cells):
        notes.append(f"no price is known for {gpu['name']}: give it with --gpu-price USD")
    if gpu and not basis:
        notes.append(f"no limits are known for {gpu['name']}: --gpu-bandwidth, --gpu-peak")
    ready_s = result["config"]["ready_s"]
    if ready_s is not None:
        notes.append(f"from the command to the first warm-up run: {seconds(ready_s)} s")
    reasons = sorted({cell["stop_reason"] for cell in cells if cell["stop_reason"]})
    notes.append(f"stopped: {', '.join(reasons) or 'nothing was timed'}")
    return "\n".join(wrap(note) for note in dict.fromkeys(notes))


def _speedup_notes(cells: list[dict]) -> list[str]:
    found = [(cell["speedup"]["baseline"], cell["batch_size"]) for cell in cells if cell["speedup"]]
    names = sorted({variant_of(*baseline) for baseline in found})
    same = "" if len(set(found)) == 1 else " of the same batch size and depth"
    return [f"speed-up: TBOT against {', '.join(names)}{same}, paired by round"] if found else []


def _estimate_notes(result: dict) -> list[str]:
    """How estimates came about and what their intervals leave out; for what there is none."""
    config = result["config"]
    if not config.get("extrapolated_from"):
        return []
    estimated = {_mode_and_batch(cell): cell for cell in result["cells"] if cell["estimated"]}
    missing = {_mode_and_batch(cell) for cell in result["cells"]} - set(estimated)
    notes = [
        f"{name}: no estimate, which takes sound runs of both depths" for name in sorted(missing)
    ]
    for weight in {cell["extrapolation"]["weight"] for cell in estimated.values()}:
        small, large = config["extrapolated_from"]
        notes.append(
            f"EST: estimated from {depths(config)} layers ({small}L, {large}L), round by round: "
            f"t({small}) + {weight:.4g} x (t({large}) - t({small})); intervals hold run-to-run "
            "noise, not departures from that straight line"
        )
    return notes


def _mode_and_batch(cell: dict) -> str:
    return f"{variant(cell)} b{cell['batch_size']}"


def _routing_notes(cells: list[dict]) -> list[str]:
    """How even the routing of a mixture of experts was, for each cell that has one."""
    found = [cell["options"].get("routing") for cell in cells]
    return [
        f"routing of a prompt: the busiest expert got {each['busiest_share']:.1%} of a layer's "
        f"tokens ({each['even_share']:.1%} is even), {each['unused_share']:.0%} of experts got none"
        for each in found
        if each
    ]
