"""--save-prompts: the token ids of every timed run, so that another program can be given the same.

One JSON object a line. The first says what they are of; each further one is a run at a batch size:
`token_ids` [batch][input_length], and whatever else goes into a run of that workload.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.record import MeasuredCell

_SUFFIX = ".prompts.jsonl"


def prompts_path(result_path: Path) -> Path:
    """Beside the result, by its name."""
    return result_path.with_name(f"{result_path.stem}{_SUFFIX}")


def write_prompts(
    path: Path,
    result_name: str,
    seed: int,
    cells: Sequence[MeasuredCell],
    inputs: Callable[[CellPlan, int], Any],
) -> None:
    """Of all cells of a batch size (and context depth) once: they were given the same.

    inputs: of a run of that number.

    Raises:
        OSError: it can't be written.
    """
    runs: dict[tuple, tuple[CellPlan, set[int]]] = {}
    for cell in cells:
        place = (cell.plan.batch_size, cell.plan.context_depth)
        plan, numbers = runs.setdefault(place, (cell.plan, set()))
        numbers |= {timed.number for timed in cell.record.timed_runs}
    with open(path, "w", encoding="utf-8") as file:
        _write_line(file, _header(result_name, seed, cells[0].plan))
        for (batch_size, context_depth), (plan, numbers) in runs.items():
            for number in sorted(numbers):
                place = {"batch_size": batch_size, "context_depth": context_depth, "run": number}
                _write_line(file, place | plan.workload.token_ids(inputs(plan, number)))


def _header(result_name: str, seed: int, plan: CellPlan) -> dict:
    workload = plan.workload
    return {
        "result": result_name,
        "workload": workload.name,
        "model_name": plan.model.name,
        "vocab_size": plan.model.vocab_size,
        "seed": seed,
        "input_length": workload.input_length,
        "output_length": workload.output_length or None,
    }


def _write_line(file, record: dict) -> None:
    file.write(json.dumps(record, separators=(",", ":")) + "\n")
