"""The tokenizer of a checkpoint's folder: a question to ids, ids to text as they come. No torch.

tokenizer.json is read by the package tokenizers. Where the folder has a chat template (in
tokenizer_config.json or in chat_template.jinja), the question becomes the user's message in it; it
is a program of the checkpoint's maker, and runs in jinja2's sandbox.
"""

import json
from pathlib import Path

from inference_benchmark.errors import CannotRun, printable

TOKENIZER = "tokenizer.json"
_CONFIG, _GENERATION, _TEMPLATE = (
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
)


class Tokenizer:
    """
    end_ids: tokens that end an answer.
    flag: what needs it, for error messages.

    Raises:
        CannotRun: the folder has no tokenizer, or one that can't be read; the package is missing.
    """

    def __init__(self, folder: Path, flag: str = "--prompt") -> None:
        try:
            from tokenizers import Tokenizer as FastTokenizer
        except ImportError:
            raise CannotRun(
                f"{flag} needs the package tokenizers: pip install tokenizers"
            ) from None
        path = folder / TOKENIZER
        if not path.is_file():
            raise CannotRun(f"{flag}: {folder} holds no {TOKENIZER}")
        try:
            self._tokenizer = FastTokenizer.from_file(str(path))
        except Exception as error:  # the package raises no type of its own
            raise CannotRun(f"{flag}: {path} can't be read: {printable(error)}") from None
        self._config = _read_json(folder / _CONFIG)
        self._template = _chat_template(folder, self._config)
        self.end_ids = self._ends(_read_json(folder / _GENERATION))

    @property
    def has_template(self) -> bool:
        return self._template is not None

    def encode_text(self, text: str) -> list[int]:
        """The ids of a text as it is, with what the tokenizer puts before any text."""
        return self._tokenizer.encode(text).ids

    def encode(self, question: str) -> list[int]:
        """The ids of the question, in the chat template where there is one."""
        if self._template is None:
            return self.encode_text(question)
        # The template writes special tokens itself.
        return self._tokenizer.encode(self._in_template(question), add_special_tokens=False).ids

    def _in_template(self, question: str) -> str:
        """
        Raises:
            CannotRun: the template fails.
        """
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        specials = {name: _text_of(value) for name, value in self._config.items()}
        try:
            return environment.from_string(self._template).render(
                messages=[{"role": "user", "content": question}],
                add_generation_prompt=True,
                bos_token=specials.get("bos_token", ""),
                eos_token=specials.get("eos_token", ""),
            )
        except Exception as error:  # whatever a template's own code does
            raise CannotRun(f"--prompt: the chat template fails: {printable(error)}") from None

    def stream(self) -> "TextStream":
        return TextStream(self._tokenizer)

    def _ends(self, generation: dict) -> frozenset[int]:
        """Of generation_config.json, else what tokenizer_config.json calls the end."""
        ids = generation.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [ids]
        known = {token for token in ids if isinstance(token, int)}
        named = self._tokenizer.token_to_id(_text_of(self._config.get("eos_token")))
        return frozenset(known or ({named} - {None}))


class TextStream:
    """Text as tokens come: what a token adds once it is whole characters."""

    def __init__(self, tokenizer) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def add(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""


def _chat_template(folder: Path, config: dict) -> str | None:
    """Of several the one named default."""
    path = folder / _TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _text_of(token: object) -> str:
    """A special token: its text, or an object that has it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _read_json(path: Path) -> dict:
    """{} where there is none.

    Raises:
        CannotRun: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CannotRun(f"--prompt: {path} can't be read: {printable(error)}") from None
    if not isinstance(content, dict):
        raise CannotRun(f"--prompt: {path} holds no JSON object")
    return content
