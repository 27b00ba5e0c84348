"""The text of --accuracy-text, as tokens of the checkpoint. No torch."""

from argparse import Namespace
from dataclasses import dataclass

from inference_benchmark.errors import CannotRun, RequestError, printable
from inference_benchmark.model.checkpoint_config import gguf_file
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.tokenizer import Tokenizer

_FLAG = "--accuracy-text"
MOST_TOKENS = 2048


@dataclass(frozen=True)
class AccuracyText:
    name: str
    ids: tuple[int, ...]


def read_accuracy_text(arguments: Namespace, model: ModelConfig) -> AccuracyText | None:
    """The first MOST_TOKENS tokens of the file, or what the model's context holds of them.

    Raises:
        RequestError: there is no checkpoint that has a tokenizer, or less than two tokens.
        CannotRun: the file or the tokenizer can't be read.
    """
    path, folder = arguments.accuracy_text, arguments.model_path
    if path is None:
        return None
    if folder is None or gguf_file(folder) is not None:
        raise RequestError(f"{_FLAG} needs a --model-path folder with a tokenizer.json")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"{_FLAG}: {path} can't be read: {printable(error)}") from None
    ids = Tokenizer(folder, _FLAG).encode_text(text)[: min(MOST_TOKENS, model.context_length)]
    if len(ids) < 2:
        raise RequestError(f"{_FLAG}: {path} holds less than two tokens")
    return AccuracyText(path.name, tuple(ids))
