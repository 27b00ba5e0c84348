"""Of whole sessions: what one prints, how several differ, estimates beside the truth, start-up."""

import json

from inference_benchmark.reporting.figures import headlines, median, of_summary
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import variant
from inference_benchmark.reporting.reading import read_result
from inference_benchmark.reporting.readme.files import PUBLISHED, results_in
from inference_benchmark.reporting.readme.measured import with_interval
from inference_benchmark.reporting.session_sets import set_table
from inference_benchmark.reporting.summary import summary_table
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent, significant


def summary() -> str:
    """What a session prints first, as it prints it."""
    first, *_ = results_in("as_shipped")
    return f"```text\n{summary_table(first)}\n```"


def between_sessions(folder: str) -> str:
    """By how much the sessions of a set differ."""
    results = results_in(folder)
    if len(results) < 2:
        return "One session so far: nothing is known here of what differs between sessions."
    return f"```text\n{set_table(results)}\n```"


def extrapolation_check() -> str:
    """Estimates from two depths beside measurements of the whole model in the same modes."""
    estimates, measured = (
        {
            (result["config"]["model_name"], variant(cell), cell["batch_size"]): (result, cell)
            for result in reversed(results_in(folder))  # of several sessions the first
            for cell in result["cells"]
            if cell["num_layers"] == result["config"]["full_num_layers"]
        }
        for folder in ("extrapolation", "session")
    )
    rows = [
        [*key[:2], metric["title"], *_estimate_and_truth(cell, measured[key][1], metric)]
        for key, (result, cell) in estimates.items()
        for metric in headlines(result["workload"])
    ]
    headers = ["model", "mode", "ms", "ESTIMATE", "measured", "ESTIMATE / measured"]
    return markdown(headers, rows)


def _estimate_and_truth(estimate: dict, measured: dict, metric: dict) -> list[str]:
    estimated, true = (median(cell, metric["name"]) for cell in (estimate, measured))
    return [
        with_interval(estimate, metric),
        with_interval(measured, metric),
        f"{estimated / true:.3f}",
    ]


def power(folder: str) -> str:
    """What the power limit does to a decode step: its energy, and the clock that is left."""
    rows = []
    for path in sorted((PUBLISHED / folder).glob("*.json")):
        for cell in read_result(path)["cells"]:
            state = cell["gpu_state"]
            rows.append(
                [
                    f"{path.stem.replace('_', ' ')}: {variant(cell)}",
                    milliseconds(median(cell, "tbot_s")),
                    significant(of_summary(cell, "energy_per_token_j"), 3),
                    f"{state['sm_clock_hz']['median'] / 1e6:,.0f}",
                    percent(state["throttled_share"]["software_power_cap"]),
                ]
            )
    headers = ["session", "TBOT ms", "J per token", "SM MHz", "time at the power limit"]
    return markdown(headers, rows)


def one_row_ways() -> str:
    """Ways to compute a decode step's one-row products, in whole models, the fastest first."""
    trial = _trial("one_row_ways")
    rows = []
    for model, ways in trial["models"].items():
        timed = {name: way["runs"] for name, way in ways.items() if way["runs"]}
        for name, runs in sorted(timed.items(), key=lambda item: min(r["ms"] for r in item[1])):
            joules, watts = (sum(run[key] for run in runs) / len(runs) for key in ("j", "w"))
            times = ", ".join(significant(run["ms"]) for run in runs)
            rows.append([model, name, times, significant(joules, 3), f"{watts:.0f}"])
    headers = ["model", "way", "ms per token, by round", "J per token", "W"]
    return markdown(headers, rows)


def attention_ahead() -> str:
    """Milliseconds a token by the tiles of attention, at each context, by round."""
    trial = _trial("attention_ahead")
    rows, contexts = [], []
    for model, ways in trial["models"].items():
        for way, row in ways.items():
            contexts = list(row["ms"])
            times = (", ".join(significant(ms) for ms in rounds) for rounds in row["ms"].values())
            rows.append([model, way, *times])
    headers = ["model", "tiles", *(f"ms per token after {context}" for context in contexts)]
    return markdown(headers, rows)


def all_reduces() -> str:
    """Microseconds of a sum over ranks, alone and between two products of a decode step."""
    trial = _trial("all_reduce")
    places = {f"{kib} KB": times for kib, times in trial["kib_us"].items()}
    places["8 KB, with two products, addition and norm"] = trial["between_products_us"]
    ways = list(dict.fromkeys(way for times in places.values() for way in times))
    rows = [
        [place, *(significant(times[way], 3) if way in times else UNKNOWN for way in ways)]
        for place, times in places.items()
    ]
    return markdown([f"us, {trial['ranks']} x {trial['gpu']}", *ways], rows)


def persistent_layers() -> str:
    """Microseconds a layer of one kernel for all layers, by its plan, beside a chain of kernels."""
    trial = _trial("persistent_layers")
    times = ("us_per_layer", "without_waits_us_per_layer", "waits_alone_us_per_layer")
    rows = [
        [
            "limit: the matrices read once",
            *[UNKNOWN] * 5,
            significant(trial["limit_us_per_layer"], 3),
        ],
        ["a chain of kernels", *[UNKNOWN] * 5, significant(trial["chain"]["us_per_layer"], 3)],
    ]
    rows = [[*row, UNKNOWN, UNKNOWN] for row in rows]
    for run in trial["persistent"]:
        cells = (significant(run[time], 3) if time in run else UNKNOWN for time in times)
        rows.append(["one kernel", *map(str, run["plan"]), *cells])
    headers = ["way", "programs per multiprocessor", "warps", "KiB in a step", "steps in flight"]
    headers += ["requested early", f"us a layer, {trial['gpu']}", "no waits", "waits alone"]
    return markdown(headers, rows)


def packed_rows() -> str:
    """Microseconds of one row times a packed matrix: of each format the best cut and the worst."""
    trial = _trial("packed_rows")
    rows = []
    for matrix, formats in trial["matrices"].items():
        for name, timed in formats.items():
            right = [cut for cut in timed["cuts"] if cut["us"]]  # what is wrong has no time
            best, *_, worst = sorted(right, key=lambda cut: cut["us"])
            rate = timed["bytes"] / best["us"] / 1e6
            rows.append([matrix, name, f"{timed['bytes'] / 1e6:.1f}", *_cut(best), f"{rate:.2f}"])
            rows[-1] += _cut(worst)
    headers = ["matrix", "format", "MB", "best: rows, tiles, warps, registers", "us", "TB/s"]
    return markdown([*headers, "worst: rows, tiles, warps, registers", "us"], rows)


def few_rows() -> str:
    """Microseconds of a layer by rows, with Triton's kernel in all places and as the kernels choose."""
    trial = _trial("few_rows")
    rows = [
        [count, *(significant(times[way], 4) for way in ("tiles_us", "chosen_us"))]
        for count, times in trial["rows"].items()
    ]
    return markdown(["rows", f"us a layer, {trial['gpu']}: tiles alone", "chosen"], rows)


def few_rows_cuts() -> str:
    """Microseconds of a layer at 32 rows, by how one of its matrices is cut, the fastest first."""
    rows = []
    for matrix, cuts in _trial("few_rows")["cuts_of_32_rows"].items():
        for cut in sorted((cut for cut in cuts if cut["us"]), key=lambda cut: cut["us"]):
            sizes = (str(cut[size]) for size in ("outputs", "columns", "num_stages"))
            parts = f"{cut['splits']} a block" if "splits" in cut else str(cut["programs"])
            rows.append([matrix, cut["kernel"], *sizes, parts, significant(cut["us"], 4)])
    return markdown(
        ["matrix", "kernel", "outputs", "columns", "stages", "programs", "us a layer"], rows
    )


def _cut(timed: dict) -> tuple[str, str]:
    return ", ".join(map(str, timed["cut"])), significant(timed["us"], 3)


def _trial(name: str) -> dict:
    return json.loads((PUBLISHED.parent / "trials" / f"{name}.json").read_text())


def cold_starts(folder: str) -> str:
    """Start-up of the first cell of each file, in seconds."""
    stages = ("build_s", "setup_s", "compile_prefill_s", "compile_decode_s", "first_token_s")
    rows = []
    for path in sorted((PUBLISHED / folder).glob("*.json")):
        result = read_result(path)
        cold_start = result["cells"][0]["cold_start"]
        times = [*(cold_start[stage] for stage in stages), result["config"]["ready_s"]]
        rows.append([path.stem.replace("_", " "), *(f"{time:.2f}" for time in times)])
    headers = ["session", "build", "setup", "prefill", "decode", "token 1", "to the first run"]
    return markdown(headers, rows)
