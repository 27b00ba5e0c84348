"""The account of --cache-state: what a filled compile cache saves of each mode's start."""

from collections.abc import Iterable

from inference_benchmark.analysis.cold_start import is_of_the_mode, start_up_s
from inference_benchmark.reporting.figures import named
from inference_benchmark.reporting.layout import table, wrap
from inference_benchmark.reporting.units import UNKNOWN, percent, seconds

_TITLE = "start-up, s: with an empty compile cache (cold) and with a filled one (warm)"
_NOTE = (
    "all: everything before the first warm-up run but the weights; hits: what the compiler found in "
    "its cache on disk, of what it looked for"
)


def start_up_table(cold: dict | None, warm: dict | None) -> str:
    """Of the results of the two sessions, of which one may be missing; empty without any cell that
    started."""
    result = cold or warm
    if result is None:
        return ""
    rows = [row for cell in result["cells"] for row in _rows(cell["label"], cold, warm)]
    if not rows:
        return ""
    headers = ["cell", "stage", "cold", "warm", "saved", "hits"]
    return "\n".join((wrap(_TITLE), table(rows, headers), wrap(_NOTE)))


def _rows(label: str, cold: dict | None, warm: dict | None) -> Iterable[list[str]]:
    """Of each stage that took any time, and of all together."""
    before, after = (_cell(result, label) for result in (cold, warm))
    stages = dict.fromkeys(
        name
        for cell in (before, after)
        for name, value in _stages(cell).items()
        if is_of_the_mode(name) and value is not None
    )
    for name in stages:
        values = [_stages(cell).get(name) for cell in (before, after)]
        yield [label, name.removesuffix("_s").replace("_", " "), *_texts(*values), ""]
    if stages:
        totals = [start_up_s(_stages(cell)) if cell else None for cell in (before, after)]
        yield [label, "all", *_texts(*totals), _hits(after)]


def _cell(result: dict | None, label: str) -> dict | None:
    return named(result["cells"], label) if result else None


def _stages(cell: dict | None) -> dict:
    return (cell or {}).get("cold_start") or {}


def _texts(cold: float | None, warm: float | None) -> list[str]:
    texts = [UNKNOWN if value is None else seconds(value) for value in (cold, warm)]
    if cold is None or warm is None or not cold:
        return [*texts, UNKNOWN]
    return [*texts, f"{seconds(cold - warm)} ({percent((cold - warm) / cold)})"]


def _hits(cell: dict | None) -> str:
    """Of the warm session."""
    compiler = (cell or {}).get("options", {}).get("compiler") or {}
    hits, misses = (compiler.get(f"disk_cache_{outcome}") for outcome in ("hits", "misses"))
    return UNKNOWN if hits is None or misses is None else f"{hits} of {hits + misses}"
