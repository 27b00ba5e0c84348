"""Other projects' programs beside this one's modes, from files of results/peers' scripts.

Such a program is run as it is published; its file holds what was run, when, with which versions.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from inference_benchmark.reporting.figures import has_times, summary_of
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import variant
from inference_benchmark.reporting.units import UNKNOWN, milliseconds

_HEADERS = ["program", "batch", "TTFT ms", "TBOT ms", "n", "date", "versions"]


_FORMAT_HEADERS = [
    "program",
    "weights",
    "kernels",
    "batch",
    "tokens",
    "TTFT ms",
    "TBOT ms",
    "n",
    "date",
]


def peers_table(
    peers: Sequence[dict], foreign: Sequence[dict], ours: Sequence[dict], model_name: str
) -> str:
    """A row per program, of one model and of the lengths of the first file of ours.

    peers: files of results/peers' scripts; foreign: results with engines of other projects, of which
    those with a loop of their own are shown; ours: results whose cells are shown, of one mode at one
    batch size the first.
    """
    rows = [row for record in peers for row in _peer_rows(record)]
    rows += _cell_rows(foreign, model_name, has_own_loop=True)
    rows += _cell_rows(ours, model_name, has_own_loop=False)
    return markdown(_HEADERS, rows)


def peer_formats_table(peers: Sequence[dict]) -> str:
    """A row per weight format of those files of results/peers' scripts that have some."""
    rows = [
        [
            f"{record['peer']} {record['commit']}",
            run["options"],
            ", ".join(run["kernels"]) or UNKNOWN,
            str(record["batch_size"]),
            f"{record['input_length']} -> {record['output_length']}",
            milliseconds(median(run["ttft_s"])),
            milliseconds(median(run["tbot_s"])),
            str(len(run["tbot_s"])),
            record["created"][:10],
        ]
        for record in peers
        for run in record["runs"]
        if has_formats(record)
    ]
    return markdown(_FORMAT_HEADERS, rows)


def has_formats(record: dict) -> bool:
    """Whether a peer's file is of weights in several formats."""
    return any("weight_format" in run for run in record["runs"])


def _peer_rows(record: dict) -> Iterable[list[str]]:
    versions = f"{record['peer']} {(record['commit'] or UNKNOWN)[:7]}"
    versions += f", torch {record['environment']['torch']}"
    for run in record["runs"]:
        yield [
            f"{record['peer']} {run['options']}",
            str(record["batch_size"]),
            milliseconds(median(run["ttft_s"])),
            milliseconds(median(run["tbot_s"])),
            str(len(run["tbot_s"])),
            record["created"][:10],
            versions,
        ]


def _cell_rows(results: Sequence[dict], model_name: str, has_own_loop: bool) -> Iterable[list[str]]:
    shown = set()
    for result in results:
        config = result["config"]
        whole = config["num_layers"] == config["full_num_layers"]
        if config["model_name"] != model_name or config["scenario"] != "chat" or not whole:
            continue
        for cell in result["cells"]:
            key = variant(cell), cell["batch_size"]
            brings_its_own = cell["options"]["linear"] is None
            if not has_times(cell) or key in shown or brings_its_own != has_own_loop:
                continue
            shown.add(key)
            yield [
                *map(str, key),
                *(milliseconds(summary_of(cell, name).get("median")) for name in _TIMES),
                str(cell["summary"]["n"]),
                result["created"][:10],
                _versions(result, cell),
            ]


_TIMES = ("ttft_s", "tbot_s")


def _versions(result: dict, cell: dict) -> str:
    version = (cell["options"].get("compiler") or {}).get("version")
    if version is not None:
        return f"{cell['mode']} {version}"
    names = ("torch", "thunder", "triton")
    environment = result["environment"]
    return ", ".join(f"{name} {environment[name]}" for name in names if environment.get(name))
