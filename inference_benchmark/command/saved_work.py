"""Which of the sessions that are asked for are in a folder of results already. Imports no torch.

A session is there if one that has ended holds all of its cells, made with the same flags, by the
same code, on a GPU of the same name.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from inference_benchmark.options.identity import identity_config
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.reading import ResultFileError, read_result
from inference_benchmark.session.planning import plan_cells

_COMPLETE = "complete"
_UNFINISHED = ("failed", "partial")


@dataclass(frozen=True)
class Machine:
    """What results have to agree in besides their flags; None: not known, not compared."""

    gpu: str | None
    git_commit: str | None


def read_folder(folder: Path, known: Collection[Path] = ()) -> dict[Path, dict]:
    """The results in a folder, but for those that are known; what can't be read is none."""
    results = {}
    for path in sorted(set(folder.glob("*.json")) - set(known)):
        try:
            results[path] = read_result(path)
        except ResultFileError:
            continue
    return results


def find_session(
    request: Request, results: dict[Path, dict], machine: Machine
) -> tuple[Path, dict] | None:
    """The result that holds what is asked for; of several the newest."""
    fitting = [
        (path, result)
        for path, result in results.items()
        if _is_of(machine, result, request) and _holds(request, result)
    ]
    return max(fitting, key=lambda item: item[1]["created"], default=None)


def _is_of(machine: Machine, result: dict, request: Request) -> bool:
    environment = result["environment"]
    gpu = (environment["gpu"] or {}).get("name")
    if (request.device == "cuda") != (gpu is not None):
        return False
    is_gpu = machine.gpu is None or gpu in (None, machine.gpu)
    return is_gpu and machine.git_commit in (None, environment["git_commit"])


def _holds(request: Request, result: dict) -> bool:
    if result["state"] != _COMPLETE:
        return False
    config = result["config"]
    wanted = identity_config(request)
    wanted["output_length"] = wanted["output_length"] or None
    if any(config.get(name) != value for name, value in wanted.items()):
        return False
    ended = {cell["label"] for cell in result["cells"] if cell["status"] not in _UNFINISHED}
    return all(label in ended for label in labels_of(request))


def labels_of(request: Request) -> Iterable[str]:
    """The cells that a session measures."""
    return [cell.label for cells in plan_cells(request) for cell in cells]


def duration_s(result: dict) -> float | None:
    """From its start to its end."""
    if result["ended"] is None:
        return None
    started, ended = map(datetime.fromisoformat, (result["created"], result["ended"]))
    return (ended - started).total_seconds()
