"""--prompt: a question to the model of --model-path, checked and made to ids. Imports no torch."""

from argparse import Namespace
from dataclasses import dataclass

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.checkpoint_config import gguf_file
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.tokenizer import Tokenizer
from inference_benchmark.options.checks import given_flags
from inference_benchmark.options.flag import flags_of, option
from inference_benchmark.options.flags import Flags

_MAX_NEW_TOKENS = 256
# Flags that matter for an answer: those of these groups but for a few, and a few of others.
_GROUPS = ("model", "execution", "a question")
_NOT = ("extrapolate", "max_kl", "accuracy_text", "pytorch_base", "pytorch_optimised", "all_reduce")
_ALSO = ("force", "quiet")


@dataclass(frozen=True)
class Question:
    """ids: of the prompt, the chat template's included."""

    tokenizer: Tokenizer
    ids: tuple[int, ...]
    max_new_tokens: int


def check_flags(arguments: Namespace) -> None:
    """
    Raises:
        RequestError: --prompt is given with a flag that would do nothing.
    """
    if arguments.prompt is None:
        return
    flags = flags_of(Flags)
    for name in sorted(given_flags(arguments)):
        is_of_group = flags[name].group in _GROUPS and name not in _NOT
        if not is_of_group and name not in _ALSO:
            raise RequestError(f"{option(name)} does nothing for --prompt: leave it out")


def read_question(arguments: Namespace, model: ModelConfig) -> Question | None:
    """What is asked of the model, which has been found; None without --prompt.

    Raises:
        RequestError: it is empty.
        CannotRun: there is no tokenizer for it.
    """
    if arguments.prompt is None:
        return None
    if gguf_file(arguments.model_path) is not None:
        raise CannotRun(
            "--prompt: a GGUF file's tokenizer is not read: give a folder with safetensors files and "
            "tokenizer.json"
        )
    tokenizer = Tokenizer(arguments.model_path)
    ids = tokenizer.encode(arguments.prompt)
    if not ids:
        raise RequestError("--prompt holds no token")
    room = max(1, model.context_length - len(ids))
    return Question(tokenizer, tuple(ids), arguments.max_new_tokens or min(_MAX_NEW_TOKENS, room))


def check_question(
    arguments: Namespace,
    question: Question | None,
    specs: list[ModeSpec],
    model: ModelConfig,
    ranks: int,
) -> None:
    """
    Raises:
        RequestError, CannotRun: these modes can't answer it.
    """
    if question is None:
        return
    for spec in specs:
        if not spec.engine.needs_weights:
            raise RequestError(f"mode '{spec.label}' answers no --prompt: it has no model")
        if spec.engine.has_own_loop and arguments.sampling != "greedy":
            raise RequestError(
                f"mode '{spec.label}' takes the most likely token only: add --sampling greedy"
            )
    if ranks > 1:
        raise CannotRun("--prompt is answered on one GPU, not on several ranks")
    if max(question.ids) >= model.vocab_size:
        raise CannotRun(
            f"--prompt: token {max(question.ids)} is beyond the vocabulary of {model.vocab_size} "
            f"of {model.name}: tokenizer.json is another model's"
        )
