"""One line per cell as soon as its group is measured, before the tables."""

from inference_benchmark.reporting.units import milliseconds, rate
from inference_benchmark.workloads.base import Workload


def row(cell: dict, workload: Workload) -> str:
    """Label, medians of the headline metrics, headline rates, number of runs."""
    summary = cell["summary"]
    if summary is None or not summary["n"]:
        return f"{cell['label']}: {cell['error'] or cell['status'].replace('_', ' ').upper()}"
    times = [
        f"{metric.title} {milliseconds(summary['metrics'][metric.name]['median'])} ms"
        for metric in workload.metrics
        if metric.headline
    ]
    rates = [
        f"{rate(summary['rates'][each.name])} {each.title}"
        for each in workload.rates
        if each.headline
    ]
    return f"{cell['label']}: {', '.join([*times, *rates])} ({summary['n']} runs)"
