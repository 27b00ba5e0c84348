"""Names of modes in results from before `+kernels`, which then said nothing of whose kernels ran.

Until then every mode but plain eager used this project's kernels unasked. Such cells are read as
what they were, `inductor+graphs+kernels`, so that nobody holds them against a mode as shipped. What
ran is in each cell's options; files that say it in the name are left as they are.
"""

KERNELS = "+kernels"
_OURS = {"attention": "flash_decode", "linear": "gemv"}


def with_kernels_named(result: dict) -> dict:
    """A result of version 2, its cells named by whose kernels they used.

    Raises:
        KeyError, TypeError, AttributeError: it is not a whole result.
    """
    cells = result["cells"]
    if all("kernels" in cell["name"] for cell in cells):
        return result
    labels = {cell["label"]: _label(cell) for cell in cells}
    return result | {"cells": [_renamed(cell, labels) for cell in cells]}


def older_variant(variant: str) -> str:
    """What stands in an older file for a mode as it is shown now."""
    return variant.partition(KERNELS)[0]


def _uses_ours(cell: dict) -> bool:
    return any(cell["options"].get(part) == kernel for part, kernel in _OURS.items())


def _label(cell: dict) -> str:
    if not _uses_ours(cell):
        return cell["label"]
    variant = cell["name"]["variant"]
    return cell["label"].replace(variant, variant + KERNELS, 1)


def _renamed(cell: dict, labels: dict[str, str]) -> dict:
    uses_ours, name = _uses_ours(cell), cell["name"]
    return cell | {
        "label": labels[cell["label"]],
        "name": name
        | {"variant": name["variant"] + (KERNELS if uses_ours else ""), "kernels": uses_ours},
        "speedup": cell["speedup"] and _speedup(cell["speedup"], labels),
    }


def _speedup(speedup: dict, labels: dict[str, str]) -> dict:
    plain = speedup["plain_eager"]
    return _against(speedup, labels) | {
        "plain_eager": plain and _against(plain, labels),
        "eager_kernels": None,
    }


def _against(ratios: dict, labels: dict[str, str]) -> dict:
    return ratios | {"baseline": labels.get(ratios["baseline"], ratios["baseline"])}
