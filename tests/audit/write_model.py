"""Random weights of a model as files, for what reads no weights of ours in memory.

    python tests/audit/write_model.py llama3.2-1b FOLDER [--device cpu] [--precision bf16]

FOLDER then has config.json, safetensors files and model.gguf, as a session writes them for engines of
other projects. Its name is the model's in what bare_loops.py says, so let it end in the model's.
"""

import argparse
from pathlib import Path

import torch

from inference_benchmark.model.checkpoint_export import export_safetensors
from inference_benchmark.model.gguf.writer import write_gguf
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--num-layers", type=int)
    flags = parser.parse_args()
    if flags.folder.exists():
        parser.error(f"{flags.folder} is there already")
    model = MODELS[flags.model].with_layers(flags.num_layers)
    decoder = build_decoder(model, flags.precision, flags.device, context_length=1)
    flags.folder.mkdir(parents=True)
    export_safetensors(decoder, flags.folder)
    write_gguf(decoder, flags.folder / "model.gguf", flags.precision)


if __name__ == "__main__":
    main()
