"""Which cells belong in one set of pictures, and what they are called there.

What is compared in a picture does the same work on the same kind of GPU: workload, model, layers and
lengths. Modes, batch sizes, weight formats and numbers of GPUs are what a picture compares, so names
say them where they differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from inference_benchmark.plotting.style import Look, look
from inference_benchmark.reporting import labels
from inference_benchmark.reporting.figures import has_times, headlines, main_metric
from inference_benchmark.reporting.labels import model_label, variant


@dataclass(frozen=True, eq=False)
class PlottedCell:
    """A cell of a session; file is the name of its file."""

    result: dict
    cell: dict
    file: str

    @property
    def config(self) -> dict:
        return self.result["config"]

    @property
    def num_gpus(self) -> int:
        return self.config["tensor_parallel"] or 1


# What tells apart cells of one mode, beside their batch size.
_PARTS: tuple[Callable[[PlottedCell], str], ...] = (
    lambda plotted: plotted.cell["weights"]["format"],
    lambda plotted: f"{plotted.num_gpus} GPU{'s' * (plotted.num_gpus > 1)}",
    lambda plotted: plotted.config.get("cache_state") or "",
)


@dataclass(frozen=True, eq=False)
class Subject:
    """Cells that are drawn together."""

    title: str
    cells: tuple[PlottedCell, ...]
    suffixes: dict[PlottedCell, str]  # what tells apart cells of the same label, but the session
    looks: dict[str, Look]  # by series

    @property
    def workload(self) -> dict:
        return self.cells[0].result["workload"]

    @cached_property
    def main(self) -> dict | None:
        return main_metric(self.workload, [plotted.cell for plotted in self.cells])

    @property
    def headlines(self) -> list[dict]:
        return headlines(self.workload)

    @cached_property
    def timed(self) -> tuple[PlottedCell, ...]:
        """Those whose speed counts."""
        return tuple(plotted for plotted in self.cells if has_times(plotted.cell))

    @cached_property
    def _numbered(self) -> dict[str, tuple[str, ...]]:
        """Files of the sessions that measured a cell, by its name, where they are several."""
        files: dict[str, dict[str, None]] = {}
        for plotted in self.cells:
            files.setdefault(self.base_name(plotted), {})[plotted.file] = None
        return {name: tuple(paths) for name, paths in files.items() if len(paths) > 1}

    def base_name(self, plotted: PlottedCell) -> str:
        """Without the session: sessions of one thing have the same."""
        return f"{plotted.cell['label']}{self.suffixes[plotted]}"

    def series_name(self, plotted: PlottedCell) -> str:
        """Without the batch size too."""
        words = variant(plotted.cell), plotted.cell["name"]["depth"]
        return f"{' '.join(filter(None, words))}{self.suffixes[plotted]}"

    def name(self, plotted: PlottedCell) -> str:
        """With #1, #2, ... where several sessions measured it."""
        base = self.base_name(plotted)
        files = self._numbered.get(base)
        return f"{base} #{files.index(plotted.file) + 1}" if files else base

    def look(self, plotted: PlottedCell) -> Look:
        return self.looks[series_of(plotted)]


def series_of(plotted: PlottedCell) -> str:
    """What a line of a picture joins: one mode in one format."""
    words = variant(plotted.cell), *(part(plotted) for part in _PARTS)
    return " ".join(words)


def context_depth(plotted: PlottedCell) -> int | None:
    """Tokens that were in the cache before a run; None where every run begins with an empty one."""
    return labels.context_depth(plotted.cell)


def sequence(plotted: PlottedCell) -> tuple:
    """What tells apart the work on one sequence, where cells of a session differ in it."""
    return context_depth(plotted), plotted.cell["name"].get("length")


def subjects(results: Sequence[tuple[str, dict]]) -> list[Subject]:
    """(file name, result) pairs by what was measured, in the order in which it comes."""
    cells = [
        PlottedCell(result, cell, file) for file, result in results for cell in result["cells"]
    ]
    looks = {name: look(place) for place, name in enumerate(dict.fromkeys(map(series_of, cells)))}
    groups: dict[tuple, list[PlottedCell]] = {}
    for plotted in cells:
        groups.setdefault(_work(plotted), []).append(plotted)
    return [
        Subject(_title(group[0]), tuple(group), _suffixes(group), looks)
        for group in groups.values()
    ]


def _work(plotted: PlottedCell) -> tuple:
    config, result = plotted.config, plotted.result
    return (
        result["workload"]["name"],
        model_label(config, plotted.cell),
        config["input_length"],
        config["output_length"],
        _device(result),
    )


def _device(result: dict) -> str:
    gpu = result["environment"]["gpu"]
    return "CPU" if gpu is None else gpu["name"] or "unknown GPU"


def _title(plotted: PlottedCell) -> str:
    """llama3.1-8b, chat: 1000 -> 1000 tokens, NVIDIA H200"""
    workload, model, before, after, device = _work(plotted)
    lengths = f"{before} \N{RIGHTWARDS ARROW} {after} tokens" if after else f"{before} tokens"
    scenario = plotted.config["scenario"] or ("" if workload == "generation" else workload)
    return f"{model}, {f'{scenario} ' if scenario else ''}{lengths}, {device}"


def _suffixes(cells: Sequence[PlottedCell]) -> dict[PlottedCell, str]:
    """bf16 2 GPUs cold: those of these in which the cells differ."""
    differing = [part for part in _PARTS if len({part(plotted) for plotted in cells}) > 1]
    return {p: "".join(f" {part(p)}".rstrip() for part in differing) for p in cells}
