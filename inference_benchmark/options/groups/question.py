"""A question to a checkpoint, instead of a benchmark."""

from dataclasses import dataclass

from inference_benchmark.options import values
from inference_benchmark.options.flag import flag


@dataclass(frozen=True, kw_only=True)
class QuestionFlags:
    prompt: str | None = flag(
        "a question",
        "print the answer of the model in --model-path to this text, as it comes, and its times",
        metavar="TEXT",
        needs="model_path",
    )
    max_new_tokens: int | None = flag(
        "a question",
        "the longest answer (default: 256, or what the context has room for)",
        parse=values.positive_int,
        metavar="N",
        needs="prompt",
    )
    timing: bool = flag("a question", "the time of each token", default=False, needs="prompt")
