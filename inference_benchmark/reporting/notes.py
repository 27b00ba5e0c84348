"""What is said under the tables, as sentences: reasons for verdicts, estimates, limits, ranks."""

from inference_benchmark.reporting.explanation import what_bounds
from inference_benchmark.reporting.figures import (
    bases,
    has_times,
    headlines,
    of_summary,
    rate_of,
    runs,
)
from inference_benchmark.reporting.labels import depths, joined, mode_and_batch
from inference_benchmark.reporting.units import gigabytes, rate, seconds
from inference_benchmark.statistics.stopping import stop_words

_PER_GPU = "per_gpu_tokens_per_s"
_MORE_LIMITS = {"datasheet": "; --measure-ceilings adds the limit of what this GPU reaches"}

_ALIKE = 4  # lines of reasons with one remedy


def reasons(cells: list[dict]) -> list[str]:
    """Why a result is not simply valid, and what to do about it; each reason and remedy once."""
    by_remedy: dict[str, list[tuple[dict, str]]] = {}
    for cell in cells:
        for message, remedy in _problems(cell):
            by_remedy.setdefault(remedy, []).append((cell, message))
    lines = []
    for remedy, problems in by_remedy.items():
        *others, last = _said(problems, cells, most=_ALIKE if remedy else None)
        lines += [*others, f"{last} {remedy}".rstrip()]
    return lines


def _said(
    problems: list[tuple[dict, str]], cells: list[dict], most: int | None = None
) -> list[str]:
    """What is said of several cells alike as one line: who, and what. Of texts that share a remedy,
    and differ in their numbers mostly, at most so many, and who else."""
    concerned: dict[str, list[dict]] = {}
    for cell, text in problems:
        concerned.setdefault(text, []).append(cell)
    lines = [f"{joined(who, cells)}: {text}" for text, who in concerned.items()]
    if most is None or len(lines) <= most:
        return lines
    others = {id(cell): cell for who in list(concerned.values())[most - 1 :] for cell in who}
    return [*lines[: most - 1], f"likewise, see the file: {joined(list(others.values()))}."]


def _problems(cell: dict) -> list[tuple[str, str]]:
    """(what is wrong, what to do about it)."""
    problems = [(cell["error"], "")] if cell["error"] else []
    check, validity = cell["output_check"], cell["validity"]
    told_codes = set()
    if check and not check["passed"]:
        problems.append((f"WRONG OUTPUT: {'; '.join(check['failures'])}", ""))
        told_codes.add("wrong_output")
    if validity is None or not runs(cell):
        return problems
    others = [reason for reason in validity["reasons"] if reason["code"] not in told_codes]
    return problems + [(reason["message"], reason["remedy"]) for reason in others]


def estimate_notes(result: dict) -> list[str]:
    """How estimates came about and what their intervals leave out; for what there is none."""
    config = result["config"]
    if not config["extrapolated_from"]:
        return []
    estimated = {mode_and_batch(cell): cell for cell in result["cells"] if cell["estimated"]}
    missing = {mode_and_batch(cell) for cell in result["cells"]} - set(estimated)
    notes = [
        f"{name}: no estimate, which takes sound runs of both depths" for name in sorted(missing)
    ]
    bases = [
        f"{_how_estimated(config, cell['extrapolation'])}; {_what_intervals_hold(result, cell)}"
        for cell in estimated.values()
    ]
    return notes + list(dict.fromkeys(bases))


def _how_estimated(config: dict, extrapolation: dict) -> str:
    small, large = config["extrapolated_from"]
    return (
        f"EST: estimated from {depths(config)} layers ({small}L, {large}L), round by round: "
        f"t({small}) + {extrapolation['weight']:.4g} x (t({large}) - t({small}))"
    )


def _what_intervals_hold(result: dict, cell: dict) -> str:
    error = cell["extrapolation"]["error"]
    if error is None:
        return "intervals hold run-to-run noise, not departures from that straight line"
    shares = [
        f"{metric['title']} {error[metric['name']]:.1%}"
        for metric in headlines(result["workload"])
        if metric["name"] in error
    ]
    return (
        "intervals hold run-to-run noise and what such estimates were off by, at most "
        f"{', '.join(shares)}"
    )


def stop_note(cells: list[dict]) -> str:
    stop_reasons = sorted({cell["stop_reason"] for cell in cells if cell["stop_reason"]})
    return f"stopped: {', '.join(map(stop_words, stop_reasons)) or 'nothing was timed'}"


def details_notes(result: dict) -> list[str]:
    """What only whoever asks for details wants to know."""
    cells = result["cells"]
    bounds = [(cell, text) for cell in cells if (text := what_bounds(cell))]
    notes = [*_said(bounds, cells), *_routing_notes(cells)[:1]]
    return (
        notes
        + basis_notes(cells)
        + _parallel_notes(result)
        + _money_notes(result)
        + _ready_note(result)
    )


def basis_notes(cells: list[dict]) -> list[str]:
    return [
        f"limit: the hardware alone, {basis} ceilings; % of it reached{_MORE_LIMITS.get(basis, '')}"
        for basis in bases(cells)
    ]


def _routing_notes(cells: list[dict]) -> list[str]:
    """How even the routing of a mixture of experts was, for each cell that has one."""
    routings = [cell["options"].get("routing") for cell in cells]
    return [
        f"routing of a prompt: the busiest expert got {routing['busiest_share']:.1%} of a layer's "
        f"tokens ({routing['even_share']:.1%} is even), {routing['unused_share']:.0%} of experts got none"
        for routing in routings
        if routing
    ]


def _parallel_notes(result: dict) -> list[str]:
    ranks = result["config"]["tensor_parallel"]
    if ranks == 1:
        return []
    notes = [f"{ranks} ranks: times of the slowest, cost and energy of all, memory per GPU"]
    for cell in result["cells"]:
        total = (cell["memory"] or {}).get("total_peak_allocated_bytes")
        per_gpu = rate_of(cell, _PER_GPU)
        if per_gpu is not None:
            peak = "" if total is None else f", {gigabytes(total)} GB at peak on all together"
            notes.append(f"{cell['label']}: {rate(per_gpu)} output tok/s per GPU{peak}")
    return notes


def _money_notes(result: dict) -> list[str]:
    cells, gpu, notes = result["cells"], result["environment"]["gpu"], []
    if price_source := result["config"].get("price_source"):
        notes.append(f"cost: price per GPU-hour {price_source}")
    measured = [cell for cell in cells if has_times(cell)]
    if gpu and measured and not any(of_summary(c, "cost_per_million_tokens") for c in measured):
        notes.append(f"no price is known for {gpu['name']}: give it with --gpu-price USD")
    if gpu and not bases(cells):
        notes.append(f"no limits are known for {gpu['name']}: --gpu-bandwidth, --gpu-peak")
    return notes


def _ready_note(result: dict) -> list[str]:
    ready_s = result["config"].get("ready_s")
    return (
        []
        if ready_s is None
        else [f"from the command to the first warm-up run: {seconds(ready_s)} s"]
    )
