"""One table over the sessions of a sweep: what differs between them, and what each cell measured."""

from collections.abc import Sequence

from inference_benchmark.reporting.figures import (
    headline_rates,
    headlines,
    is_smoke,
    measured_text,
    rate_of,
    runs,
    titled_unit,
    verdict_text,
)
from inference_benchmark.reporting.labels import session_label
from inference_benchmark.reporting.layout import table
from inference_benchmark.reporting.tables import lengths
from inference_benchmark.reporting.units import rate


def sweep_table(results: Sequence[dict]) -> str:
    """A row per cell; a table for each workload, since their metrics differ. Results are of version
    2; columns that say the same everywhere are left out."""
    workloads = dict.fromkeys(result["workload"]["name"] for result in results)
    return "\n\n".join(
        _table([result for result in results if result["workload"]["name"] == name])
        for name in workloads
    )


def _table(results: Sequence[dict]) -> str:
    workload = results[0]["workload"]
    headers = ["model", "work", "precision", "cell"]
    headers += [titled_unit(metric) for metric in headlines(workload)]
    headers += [declared["title"] for declared in headline_rates(workload)]
    rows = [_row(result, cell) for result in results for cell in result["cells"]]
    columns = list(zip([*headers, "n", "verdict"], *rows, strict=True))
    apart = [column for column in columns[:3] if len(set(column[1:])) > 1]
    headers, *rows = zip(*apart, *columns[3:], strict=True)
    return table(rows, headers)


def _row(result: dict, cell: dict) -> list[str]:
    workload = result["workload"]
    return [
        session_label(result),
        lengths(result["config"]),
        cell["weights"]["format"],
        cell["label"],
        *(measured_text(cell, metric) for metric in headlines(workload)),
        *(rate(rate_of(cell, declared["name"])) for declared in headline_rates(workload)),
        str(runs(cell)),
        verdict_text(cell, is_smoke(result)),
    ]
