"""What one asks of an engine: how long it takes to load and to start, how fast it is then, what it
holds, and what stands behind the figures: --table engines.
"""

import math
from collections.abc import Sequence

from inference_benchmark.reporting.figures import (
    has_times,
    headlines,
    is_smoke,
    main_metric,
    measured_text,
    median,
    named,
    of_summary,
    runs,
    speedup_of,
    summary_of,
    verdict_words,
)
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import model_label, variant
from inference_benchmark.reporting.layout import wrap
from inference_benchmark.reporting.reading import printable, to_version_2
from inference_benchmark.reporting.summary import titled
from inference_benchmark.reporting.units import (
    UNKNOWN,
    gigabytes,
    milliseconds,
    rate,
    seconds,
    significant,
)

_LOADING = ("build_s", "load_s", "setup_s")
_LEGEND = (
    "load: until the engine is ready, weights included; cold: the first call, in which compilers "
    "compile; steady: the same call in a timed run; gain: cold over steady; ms/token: all tokens of a "
    "run; tok/s: of the median run; peak: of the fastest{}; clock: event, the GPU's; wall, the host's, "
    "at which a process has a token; checked: what is farthest inside of it that was compared"
)
_MEMORY_LEGEND = (
    "; GB: the most memory held, own: of this program's allocator, worker: of the engine's processes "
    "as the driver says, reserved pools included"
)
_EVIDENCE = ("cache", "logits", "tokens")  # the strongest first


def engine_table(result: dict) -> str:
    """A row per cell in two tables: what it costs to start and what it does then, and what it is."""
    result = printable(to_version_2(result))
    cells = [cell for cell in result["cells"] if has_times(cell)]
    if not cells:
        return ""
    headers = ["cell", "load s", "cold ms", "steady ms", "gain", "ms/token", "tok/s", "peak", "GB"]
    speeds = titled("engines", [_speed_row(result, cell) for cell in cells], headers, {})
    headers = ["cell", "type", "KV type", "clock", "memory", "checked", "version"]
    facts = titled("what they are", [_fact_row(cell) for cell in cells], headers, {})
    has_memory = any(peak_memory(cell)[0] is not None for cell in cells)
    legend = _LEGEND.format(_MEMORY_LEGEND if has_memory else "")
    remarks = [*map(wrap, benefits(result["workload"], cells)), wrap(legend)]
    return "\n".join([speeds, "", facts, *remarks])


def measured_engines(results: Sequence[dict]) -> str:
    """A Markdown row for each cell of several sessions: times, start, memory, clock, check. Of each
    model and batch size the fastest first."""
    headers = ["model", "batch", "engine", "TTFT ms", "TBOT ms", "tok/s", "load s", "cold ms", "GB"]
    headers += ["memory of", "KV type", "clock", "checked", "version", "n", "verdict"]
    cells = [(result, cell) for result in results for cell in result["cells"]]
    return markdown(headers, [_measured(*pair) for pair in sorted(cells, key=_by_speed)])


def _by_speed(pair: tuple[dict, dict]) -> tuple:
    result, cell = pair
    return (
        model_label(result["config"], cell),
        cell["batch_size"],
        median(cell, "tbot_s") or math.inf,
    )


def _measured(result: dict, cell: dict) -> list[str]:
    held, owner = peak_memory(cell)
    _, _, cache_type, clock, _, evidence, version = _fact_row(cell)
    return [
        model_label(result["config"], cell),
        str(cell["batch_size"]),
        variant(cell),
        *(measured_text(cell, metric) for metric in headlines(result["workload"])),
        rate(rates(result["workload"], cell)[0]) if has_times(cell) else UNKNOWN,
        seconds(_load_s(cell)),
        milliseconds(_cold_s(cell)),
        gigabytes(held),
        owner,
        cache_type,
        clock,
        evidence if has_times(cell) else cell["status"],
        version,
        str(runs(cell)),
        ", ".join(verdict_words(cell, is_smoke(result))),
    ]


def _speed_row(result: dict, cell: dict) -> list[str]:
    first = next((metric["name"] for metric in headlines(result["workload"])), None)
    steady_s = summary_of(cell, first).get("median") if first else None
    cold_s = _cold_s(cell)
    gain = cold_s / steady_s if cold_s and steady_s else None
    return [
        cell["label"],
        seconds(_load_s(cell)),
        milliseconds(cold_s),
        milliseconds(steady_s),
        UNKNOWN if gain is None else f"{significant(gain, 3)}x",
        milliseconds(of_summary(cell, "s_per_token")),
        *map(rate, rates(result["workload"], cell)),
        gigabytes(peak_memory(cell)[0]),
    ]


def _fact_row(cell: dict) -> list[str]:
    facts = cell["options"].get("compiler") or {}
    precision = cell["options"].get("precision") or UNKNOWN
    cache_type = facts.get(
        "kv_cache_dtype", precision if cell["engine"]["weights"] != "own" else None
    )
    return [
        cell["label"],
        precision,
        _short_type(cache_type) or UNKNOWN,
        "event" if cell["timer"] == "cuda_event" else cell["timer"] or UNKNOWN,
        peak_memory(cell)[1],
        checked(cell),
        str(facts.get("version", UNKNOWN)),
    ]


def _short_type(name: str | None) -> str | None:
    return name and name.replace("bfloat", "bf").replace("float", "fp")


def benefits(workload: dict, cells: list[dict]) -> list[str]:
    """What another precision, and what compiling changes, where cells tell them apart: the speed-up
    against a cell that differs in it alone."""
    main = main_metric(workload, cells)
    lines = []
    for cell in cells:
        speedup = speedup_of(cell, main["name"]) if main else None
        other = named(cells, cell["speedup"]["baseline"]) if speedup else None
        if other is None:
            continue
        types = [measured["options"].get("precision") for measured in (cell, other)]
        compiled = [bool(measured["options"].get("compiler")) for measured in (cell, other)]
        if types[0] != types[1] and compiled[0] == compiled[1]:
            subject = f"precision impact, {types[0]} for {types[1]}"
        elif types[0] == types[1] and compiled == [True, False] and _are_ours(cell, other):
            subject = "compilation benefit"
        else:
            continue
        low_high = speedup["ci95"]
        interval = f" ({low_high[0]:.2f} .. {low_high[1]:.2f})" if low_high else ""
        lines.append(
            f"{subject}: {cell['label']} is {speedup['ratio']:.2f}x{interval} as fast as "
            f"{other['label']} in {main['title']}, {speedup['verdict']}"
        )
    return lines


def _are_ours(*cells: dict) -> bool:
    """Whether both execute this project's decoder."""
    return all(cell["engine"]["granularity"] == "steps" for cell in cells)


def _load_s(cell: dict) -> float | None:
    known = [(cell["cold_start"] or {}).get(name) for name in _LOADING]
    known = [value for value in known if value is not None]
    return sum(known) if known else None


def _cold_s(cell: dict) -> float | None:
    """The first call: of generation the prefill with its token, whatever is compiled for it."""
    stages = (cell["cold_start"] or {}).items()
    return next((value for name, value in stages if name.startswith("compile_")), None)


def rates(workload: dict, cell: dict) -> tuple[float | None, float | None]:
    """Tokens per second of the median run and of the fastest, by the first headline rate."""
    declared = next((rate for rate in workload["rates"] if rate["headline"]), None)
    if declared is None:
        return None, None
    average = cell["summary"]["rates"].get(declared["name"])
    times = summary_of(cell, declared["over"])
    if not average or not times.get("min"):
        return average, None
    return average, average * times["median"] / times["min"]


def peak_memory(cell: dict) -> tuple[int | None, str]:
    """(bytes, whose figure it is)."""
    memory = cell["memory"] or {}
    if memory.get("process_bytes") is not None:
        return memory["process_bytes"], "worker"
    known = memory.get("peak_allocated_bytes")
    return known, UNKNOWN if known is None else "own"


def checked(cell: dict) -> str:
    """What of its output was compared with the reference's; the strongest evidence says it."""
    if cell["output_check"] is None:
        return "unchecked"
    evidence = cell["output_check"]["checked"]
    return next((name for name in _EVIDENCE if name in evidence), "unchecked")
