"""A local Hugging Face folder or GGUF file, read without torch: what model it holds, in which files.

Everything that can be wrong about a checkpoint before its tensors are read is found here, in one
line that names it. Only safetensors and GGUF files are read: a pickle can run code when it is opened.
What a file is, its contents decide, not its name.
"""

import json
from dataclasses import replace
from pathlib import Path, PurePath

from inference_benchmark.errors import printable
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import Unsupported
from inference_benchmark.model.families import FAMILIES
from inference_benchmark.model.family import ConfigReader
from inference_benchmark.model.gguf.config import FAMILIES as STORED_AS_LLAMA
from inference_benchmark.model.gguf.config import model_of
from inference_benchmark.model.gguf.container import GgufError, is_gguf, read_gguf

_INDEX = "model.safetensors.index.json"
_GGUF = ".gguf"
_REFUSED = {
    ".bin": "a pickle, which can run code when it is opened",
    ".pt": "a pickle, which can run code when it is opened",
    ".pth": "a pickle, which can run code when it is opened",
}


_LARGEST_JSON = 100_000_000  # bytes; the index of a checkpoint has one line per tensor


class CheckpointError(RuntimeError):
    """The checkpoint can't be read; the message is one printable line that names what is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UnknownModel(CheckpointError):
    """What lies there may be a model, but none that the decoder can be."""


def read_model(path: Path, expected: ModelConfig | None = None) -> ModelConfig:
    """The model that a folder or a GGUF file holds, named after it, or as expected if it is that one.

    Raises:
        CheckpointError: no such folder or file, no supported model in it (UnknownModel), or not the
            expected one.
    """
    file = gguf_file(path)
    return _read_folder(path, expected) if file is None else _read_gguf(file, expected)


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that is meant: the path itself, or the only one of a folder without safetensors.

    Raises:
        CheckpointError: the folder holds several, or can't be read.
    """
    try:
        if not path.is_dir():
            return path if is_gguf(path) or (path.suffix == _GGUF and path.is_file()) else None
        if any(path.glob("*.safetensors")) or (path / _INDEX).exists():
            return None
        files = [file for file in sorted(path.iterdir()) if file.suffix == _GGUF or is_gguf(file)]
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    if len(files) > 1:
        raise CheckpointError(
            f"{path} holds {len(files)} GGUF files, {files[0].name} and others: name one of them"
        )
    return files[0] if files else None


def _read_gguf(path: Path, expected: ModelConfig | None) -> ModelConfig:
    """A model that is not the expected one comes before whatever else is wrong with the file."""
    _check_regular(path)
    try:
        file = read_gguf(path)
        model = model_of(file)
        if expected is not None:
            if expected.family in STORED_AS_LLAMA:
                model = replace(model, family=expected.family)
            model = _as_expected(path, model, expected)
        file.check()
    except GgufError as error:
        raise CheckpointError(f"{path} {error}") from None
    except KeyError as error:
        raise CheckpointError(f"{path}: llama.{error.args[0]} is missing") from None
    except Unsupported as error:
        raise CheckpointError(f"{path}: llama.{error} is not supported") from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    return model


def _read_folder(folder: Path, expected: ModelConfig | None) -> ModelConfig:
    weight_files(folder)
    path = folder / "config.json"
    config = read_json(path)
    _check_not_quantized(folder, config)
    read = _reader(folder, config)
    try:
        model = read(printable(folder.resolve().name), config)
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing") from None
    except Unsupported as error:
        raise UnknownModel(f"{path}: {error} is not supported") from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path} makes no sense: {error}") from None
    return model if expected is None else _as_expected(folder, model, expected)


# How quantised checkpoints name their method, and what stores full weights likewise.
_QUANTIZED_BY = {
    "awq": "int4-asymmetric",
    "gptq": "int4",
    "bitsandbytes": "nf4",
    "compressed-tensors": "int8",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8-dynamic",
}


def _check_not_quantized(folder: Path, config: dict) -> None:
    """Weights that were quantised already are in layouts of other programs."""
    nested = config.get("text_config")
    quantization = config.get("quantization_config") or (
        nested.get("quantization_config") if isinstance(nested, dict) else None
    )
    if not quantization:
        return
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    named = method if isinstance(method, str) else "an unknown method"
    raise CheckpointError(
        f"{folder} holds weights that are quantised already (quantization_config: {named}), which "
        "is not supported: give the model's full weights, and --quantize "
        f"{_QUANTIZED_BY.get(named, 'int8')}"
    )


def _reader(folder: Path, config: dict) -> ConfigReader:
    readers = {
        architecture: read
        for family in FAMILIES.values()
        for architecture, read in family.readers.items()
    }
    listed = config.get("architectures")
    architecture = listed[0] if isinstance(listed, list) and listed else "none"
    if not isinstance(architecture, str) or architecture not in readers:
        valid = ", ".join(readers)
        raise UnknownModel(
            f"{folder}: unsupported architecture {architecture} (supported: {valid})"
        )
    return readers[architecture]


def _as_expected(folder: Path, model: ModelConfig, expected: ModelConfig) -> ModelConfig:
    if model.family != expected.family:
        raise CheckpointError(f"{folder}: expected {expected.family}, found {model.family}")
    sizes = [(m.num_layers, m.hidden_size, m.vocab_size, m.parameters) for m in (expected, model)]
    if sizes[0] != sizes[1]:
        wanted, built = (
            f"{layers} layers, hidden size {hidden}, vocabulary {vocab}, {total / 1e9:.2f} B"
            for layers, hidden, vocab, total in sizes
        )
        raise CheckpointError(f"{folder}: expected {expected.name} ({wanted}), found {built}")
    return replace(model, name=expected.name)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder, in the order of their names; or the GGUF file.

    Raises:
        CheckpointError: there are none, or one that the index names is missing or elsewhere.
    """
    file = gguf_file(folder)
    if file is not None:
        return (file,)
    try:
        return _weight_files(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} can't be read: {error.strerror}") from None


def _weight_files(folder: Path) -> tuple[Path, ...]:
    _check_folder(folder)
    index = folder / _INDEX
    files = _indexed_files(folder) if index.exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} holds no safetensors files{_what_it_holds(folder)}")
    for file in files:
        _check_regular(file)
    return tuple(files)


def _indexed_files(folder: Path) -> list[Path]:
    weight_map = read_json(folder / _INDEX).get("weight_map", {})
    names = weight_map.values() if isinstance(weight_map, dict) else [None]
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"{folder / _INDEX}: weight_map does not give each tensor a file name"
        )
    files = []
    for name in sorted(set(names)):
        path = PurePath(name)
        if path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{folder / _INDEX} names {name}, which is outside the folder")
        if not (folder / name).exists():
            raise CheckpointError(f"{folder / name} is missing, which {_INDEX} names")
        files.append(folder / name)
    return files


def _check_regular(path: Path) -> None:
    """Opening a named pipe would wait for whoever writes into it."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")


def _check_folder(folder: Path) -> None:
    if folder.suffix in _REFUSED and not folder.is_dir():
        raise CheckpointError(f"{folder} is {_REFUSED[folder.suffix]}: give a safetensors folder")
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder with config.json and safetensors files, nor a GGUF file"
        )
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds no config.json{_what_it_holds(folder)}")


def _what_it_holds(folder: Path) -> str:
    refused = sorted(file for file in folder.iterdir() if file.suffix in _REFUSED)
    return f", but {refused[0].name}, {_REFUSED[refused[0].suffix]}" if refused else ""


def read_json(path: Path) -> dict:
    """
    Raises:
        CheckpointError: it can't be read, or holds no object.
    """
    _check_regular(path)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise CheckpointError(f"{path} is larger than {_LARGEST_JSON // 10**6} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    except RecursionError:
        raise CheckpointError(f"{path} can't be read: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content
