"""What cells and models are called, so that fewer layers and estimates are seen to be that.

A label reads MODE bN, for example "thunder+graphs b1"; behind a context of given depth, dN follows;
where cells of one session differ in the model's depth, 4L follows for the first 4 layers, and EST for
an estimate of the full model. Nobody takes a label
apart: a cell's `name` holds its parts.
"""

from collections.abc import Sequence


def variant(cell: dict) -> str:
    """The mode as it is shown: a cell's label without its batch size and depth."""
    return cell["name"]["variant"]


def mode_and_batch(cell: dict) -> str:
    """A label without its depth of the model."""
    return f"{variant(cell)} {batch_and_length(cell)}"


def batch_and_length(cell: dict) -> str:
    """b1, or b1 s512 of a part of a layer, or b1 d4096 behind a context."""
    depth = context_depth(cell)
    further = cell["name"].get("length") or ("" if depth is None else f"d{depth}")
    return f"b{cell['name']['batch_size']} {further}".rstrip()


def context_depth(cell: dict) -> int | None:
    """How many tokens of context stood before a run; None where it began with an empty cache."""
    return cell["name"].get("context_depth")


def compile_scope(config: dict, cell: dict) -> str | None:
    """What is compiled as one function: layer, model or step; None where nothing is."""
    return config.get("compile_scope") if (cell["options"] or {}).get("compiler") else None


def batch_and_depth(cell: dict) -> str:
    """b1, or b1 4L: a label without its mode."""
    return f"{batch_and_length(cell)} {cell['name']['depth'] or ''}".rstrip()


def joined(cells: Sequence[dict], everything: Sequence[dict] = ()) -> str:
    """Their labels, short: "eager b1 4L, 8L"; "all cells" where these are several and all."""
    if 1 < len(cells) == len(everything):
        return "all cells"
    depths: dict[str, list[str]] = {}
    for cell in cells:
        depths.setdefault(mode_and_batch(cell), []).append(cell["name"]["depth"] or "")
    return ", ".join(f"{name} {', '.join(numbers)}".rstrip() for name, numbers in depths.items())


def compact(cells: Sequence[dict]) -> str:
    """As joined, but modes and batch sizes apart where each mode has each batch size."""
    variants = list(dict.fromkeys(variant(cell) for cell in cells))
    rests = list(dict.fromkeys(batch_and_depth(cell) for cell in cells))
    if len(cells) != len(variants) * len(rests):
        return joined(cells)
    return f"{', '.join(variants)} at {', '.join(rests)}"


def model_label(config: dict, cell: dict | None = None) -> str:
    """The model that a cell's times are of; without a cell that of a session of one depth."""
    layers, full = (cell or config)["num_layers"], config["full_num_layers"]
    if cell and cell["estimated"]:
        return f"{config['model_name']} [ESTIMATE from {depths(config)} layers]"
    if layers == full:
        return config["model_name"]
    return f"{config['model_name']} [{layers} of {full} layers]"


def session_label(result: dict) -> str:
    """What all of a session's times are of."""
    config = result["config"]
    if not config["extrapolated_from"]:
        return model_label(config)
    if any(cell["estimated"] for cell in result["cells"]):
        return f"{config['model_name']}, ESTIMATED from {depths(config)} layers"
    return f"{config['model_name']} [{depths(config)} layers]"


def depths(config: dict) -> str:
    """4 and 8 of 32."""
    small, large = config["extrapolated_from"]
    return f"{small} and {large} of {config['full_num_layers']}"
