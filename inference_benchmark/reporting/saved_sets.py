"""Sessions that were saved before: by how much those of one thing differ on a GPU and in a mode."""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from inference_benchmark.reporting.conditions import UNKNOWN, timing_key
from inference_benchmark.reporting.kernel_names import older_variant
from inference_benchmark.reporting.saved_cells import ComparisonError, SavedCell, read_cells
from inference_benchmark.statistics.deviation import Spread, spread_of

DEFAULT_FOLDERS = ("results",)  # and what lies in it: results/published too
_MOST_FILES = 200  # the newest of them
_FEWEST_RUNS = 3  # whose median counts
_ENOUGH_DEGREES = 4  # of sessions of the very same thing; else all of the GPU and mode are pooled


class SavedSets:
    """Reads folders of result files once, when it is first asked.

    Sessions count as of one thing where all agrees that can change a time, except which GPU of its
    kind it was. Files that are being compared say nothing here of what they are compared by.
    """

    def __init__(self, folders: Sequence[str], compared: Iterable[SavedCell]) -> None:
        self.folders = folders
        compared = list(compared)
        self._excluded = {os.path.realpath(cell.file) for cell in compared}
        self._copies = {_origin(cell) for cell in compared}
        self._wanted = {(cell.fingerprint.gpu, cell.variant) for cell in compared}
        self._names = {(gpu, older_variant(variant).encode()) for gpu, variant in self._wanted}

    def spread(self, cell: SavedCell, metric: str) -> Spread:
        """Between saved sessions of this metric on this GPU in this mode, in any place."""
        alike = [
            cells
            for cells in self._sets
            if (cells[0].fingerprint.gpu, cells[0].side_name)
            == (cell.fingerprint.gpu, cell.side_name)
            and metric in cells[0].samples
        ]
        same = [cells for cells in alike if cells[0].fingerprint == cell.fingerprint]
        spread = _spread(same, metric)
        return spread if spread.degrees >= _ENOUGH_DEGREES else _spread(alike, metric)

    @cached_property
    def _sets(self) -> list[list[SavedCell]]:
        sets: dict[object, list[SavedCell]] = {}
        for cell in self._cells():
            key = (cell.fingerprint, cell.side_name, timing_key(cell), _code(cell))
            sets.setdefault(key, []).append(cell)
        return [cells for cells in sets.values() if len(cells) > 1]

    def _cells(self) -> Iterable[SavedCell]:
        seen = set(self._copies)
        for path in _newest(self.folders):
            if os.path.realpath(path) in self._excluded or not self._may_matter(path):
                continue
            try:
                cells, _ = read_cells(path)
            except ComparisonError:
                continue  # what is broken there is no business of this comparison
            for cell in cells:
                wanted = (cell.fingerprint.gpu, cell.variant) in self._wanted
                if wanted and len(cell.rounds) >= _FEWEST_RUNS and _origin(cell) not in seen:
                    seen.add(_origin(cell))
                    yield cell

    def _may_matter(self, path: str) -> bool:
        """Whether the names of a GPU and a mode that matter stand in the file at all."""
        try:
            text = Path(path).read_bytes()
        except OSError:
            return False
        return any(
            variant in text and (gpu == "CPU" or gpu.rpartition(" x ")[2].encode() in text)
            for gpu, variant in self._names
        )


def _spread(sets: Iterable[Sequence[SavedCell]], metric: str) -> Spread:
    return spread_of([[cell.samples[metric] for cell in cells] for cells in sets])


def _code(cell: SavedCell) -> str:
    """Of changed or unknown code only the sessions of one set are known to have run the same."""
    is_changed = cell.conditions.get("git_dirty") == "True"
    is_unknown = cell.conditions.get("git_commit", UNKNOWN) == UNKNOWN
    return cell.session_set if is_changed or is_unknown else ""


def _origin(cell: SavedCell) -> tuple:
    """The same for a copy of the file."""
    times = next(iter(cell.samples.values()), [])
    return cell.created, cell.label, tuple(times)


def _newest(folders: Sequence[str]) -> list[str]:
    times: dict[str, float] = {}
    for folder in folders:
        for path in Path(folder).rglob("*.json"):
            try:
                times[str(path)] = path.stat().st_mtime
            except OSError:
                continue
    return sorted(times, key=lambda path: -times[path])[:_MOST_FILES]
