"""What a cell and its model are called, so that fewer layers and estimates are seen to be that.

A label reads MODE bN, for example "thunder+graphs b1"; where cells of one session differ in depth,
4L follows for the first 4 layers, and EST for an estimate of the full model.
"""

from collections.abc import Sequence


def variant(cell: dict) -> str:
    """A cell's label without its batch size and what follows it: the mode as it is shown."""
    return variant_of(cell["label"], cell["batch_size"])


def variant_of(label: str, batch_size: int) -> str:
    return label.rsplit(f" b{batch_size}", 1)[0]


def joined(cells: Sequence[dict], everything: Sequence[dict] = ()) -> str:
    """Their labels, short: "eager b1 4L, 8L"; "all cells" where these are several and all."""
    if 1 < len(cells) == len(everything):
        return "all cells"
    qualifiers: dict[str, list[str]] = {}
    for cell in cells:
        head = f"{variant(cell)} b{cell['batch_size']}"
        qualifiers.setdefault(head, []).append(cell["label"].removeprefix(head).strip())
    return ", ".join(f"{head} {', '.join(found)}".rstrip() for head, found in qualifiers.items())


def num_layers(config: dict, cell: dict) -> int:
    """Of the model whose times a cell holds; older files say it for the whole session only."""
    return cell.get("num_layers") or config["num_layers"]


def model_label(config: dict, cell: dict | None = None) -> str:
    """The model that a cell's times are of; without a cell that of a session of one depth."""
    layers, full = num_layers(config, cell or {}), config["full_num_layers"]
    if cell and cell["estimated"]:
        return f"{config['model_name']} [ESTIMATE from {depths(config)} layers]"
    if layers == full:
        return config["model_name"]
    return f"{config['model_name']} [{layers} of {full} layers]"


def session_label(result: dict) -> str:
    """What all of a session's times are of."""
    config = result["config"]
    if not config.get("extrapolated_from"):
        return model_label(config)
    if any(cell["estimated"] for cell in result["cells"]):
        return f"{config['model_name']}, ESTIMATED from {depths(config)} layers"
    return f"{config['model_name']} [{depths(config)} layers]"


def depths(config: dict) -> str:
    """4 and 8 of 32."""
    small, large = config["extrapolated_from"]
    return f"{small} and {large} of {config['full_num_layers']}"
