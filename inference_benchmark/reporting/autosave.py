"""The result file while a session runs: whole after each round, and written in milliseconds.

A round adds a few numbers to a result whose samples may be megabytes of text. So each run is encoded
once, when it is new, and what is computed from all runs (summaries, intervals, verdicts) waits until
a group of cells is done. On disk is always a whole file whose state is "running".
"""

import json
from pathlib import Path

from inference_benchmark.analysis.cells import cell_result
from inference_benchmark.analysis.result import SessionFacts, header
from inference_benchmark.reporting.result_file import write_text
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.workloads.base import Run

_HOLE = "\x00samples\x00"  # can't be in any label or message: JSON escapes it
_ENCODED_HOLE = json.dumps(_HOLE)


class Autosave:
    """Writes a session's result as far as it got.

    Groups that are done have been judged (`settle`); cells that still run are kept raw.
    """

    def __init__(self, path: Path, facts: SessionFacts) -> None:
        self.path = path
        self._facts = facts
        self._running: dict[str, _RunningCell] = {}
        self._done: dict[str, str] = {}  # by label, as JSON

    def save(self, cells: list[MeasuredCell]) -> None:
        """
        Raises:
            OSError: the disk is full, the directory is gone.
        """
        texts = [self._done.get(cell.label) or self._encode(cell) for cell in cells]
        head = json.dumps(header(self._facts), allow_nan=False)[:-1]
        warnings = json.dumps(self._facts.warnings)
        body = ", ".join(texts)
        write_text(f'{head}, "cells": [{body}], "warnings": {warnings}}}\n', self.path)

    def settle(self, results: list[dict]) -> None:
        """The cells of a group that is done, as they have been judged among themselves."""
        for result in results:
            self._done[result["label"]] = json.dumps(result, allow_nan=False)
            self._running.pop(result["label"], None)

    def _encode(self, cell: MeasuredCell) -> str:
        if cell.label not in self._running:
            self._running[cell.label] = _RunningCell(cell)
        return self._running[cell.label].encode(self._facts)


class _RunningCell:
    """A cell's text, to which runs are added."""

    def __init__(self, cell: MeasuredCell) -> None:
        self._cell = cell
        self._count = 0
        samples = cell.plan.workload.samples([])
        self._metrics: dict[str, list[str]] = {name: [] for name in samples["metrics"]}
        self._steps: dict[str, list[str]] = {name: [] for name in samples["steps"]}

    def encode(self, facts: SessionFacts) -> str:
        record = self._cell.record
        for run in record.runs[self._count :]:
            self._add(run)
        self._count = len(record.runs)
        field = "wrong_output_samples" if record.status == "wrong_output" else "samples"
        result = cell_result(self._cell, facts, with_state=False) | {field: _HOLE}
        return json.dumps(result, allow_nan=False).replace(_ENCODED_HOLE, self._samples(), 1)

    def _add(self, run: Run) -> None:
        workload = self._cell.plan.workload
        for name, value in workload.times(run).items():
            self._metrics[name].append(repr(value))
        for name, values in workload.steps(run).items():
            self._steps[name].append(json.dumps(values, allow_nan=False))

    def _samples(self) -> str:
        record = self._cell.record
        metrics, steps = (
            ", ".join(f'"{name}": [{", ".join(texts)}]' for name, texts in part.items())
            for part in (self._metrics, self._steps)
        )
        return (
            f'{{"round": {json.dumps(record.rounds)}, "started": {json.dumps(record.started)}, '
            f'"metrics": {{{metrics}}}, "steps": {{{steps}}}}}'
        )
