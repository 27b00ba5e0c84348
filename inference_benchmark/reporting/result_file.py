"""The result file: its name, and how it is written.

It is rewritten through a temporary file beside it, so that at any moment the file on disk is whole.
What it holds is made in analysis/; its shape is reporting/result.schema.json.
"""

import json
import os
import re
from pathlib import Path


def file_name(result: dict) -> str:
    """<model>_<scenario or INxOUT>_<modes>_<gpu>_<UTC time>.json; of an estimate the model reads
    <model>-est<SMALL>-<LARGE>."""
    config, gpu = result["config"], result["environment"]["gpu"]
    lengths = "x".join(
        str(config[name]) for name in ("input_length", "output_length") if config[name]
    )
    modes = dict.fromkeys(cell["name"]["variant"] for cell in result["cells"])
    time = re.sub(r"[-:]", "", result["created"])
    parts = (
        f"{config['model_name']}{_depth(config)}",
        config["scenario"] or lengths,
        "-".join(modes),
        _device_name(gpu),
        time,
    )
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-") for part in parts) + ".json"


def _depth(config: dict) -> str:
    """-8layers, -est4-8, or nothing for the full model."""
    if config["extrapolated_from"]:
        return f"-est{'-'.join(map(str, config['extrapolated_from']))}"
    reduced = config["num_layers"] != config["full_num_layers"]
    return f"-{config['num_layers']}layers" if reduced else ""


def _device_name(gpu: dict | None) -> str:
    if gpu is None:
        return "cpu"
    return gpu["name"] if gpu["count"] == 1 else f"{gpu['count']}x {gpu['name']}"


def write(result: dict, path: Path) -> None:
    """Replace the file in one step.

    Raises:
        OSError: the disk is full, the directory is gone.
    """
    write_text(json.dumps(result, allow_nan=False) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Replace the file by this text in one step.

    Raises:
        OSError: the disk is full, the directory is gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
