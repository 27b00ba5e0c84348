"""The command lines' parser: what is wrong is one line, which names the flag or value that was meant.

Flags are not abbreviated: what `--session 3` means would change with each flag that is added, and
`--sessions` has to find itself in the words that it hands on.
"""

import argparse
import sys
from difflib import get_close_matches
from typing import NoReturn

from inference_benchmark import __version__
from inference_benchmark.errors import ExitCode, printable
from inference_benchmark.system.output_stream import give_up_stdout, say


class Parser(argparse.ArgumentParser):
    """Of a program: what its --help says keeps its lines, and --version is known to each."""

    def __init__(self, **settings) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=layout, **settings)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def error(self, message: str) -> NoReturn:
        message = message.replace("ignored explicit argument", "takes no value, but was given")
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")

    def _print_message(self, message, file=None) -> None:
        """argparse keeps it to itself where --help can't be written."""
        try:
            print(message, end="", file=file or sys.stderr, flush=True)
        except OSError as error:
            give_up_stdout()
            say(f"{self.prog}: error: the output can't be written: {error.strerror}")
            sys.exit(ExitCode.NOT_WRITTEN)

    def parse_args(self, args=None, namespace=None):
        arguments, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown)}")
        return arguments

    def _check_value(self, action, value) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _did_you_mean([str(value)], list(action.choices))
            raise

    def _hint(self, unknown: list[str]) -> str:
        flags = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        return _did_you_mean(flags, list(self._option_string_actions))


def _did_you_mean(words: list[str], known: list[str]) -> str:
    """The nearest known word of each; nothing where none is near."""
    words = [word.lower().replace("_", "-") if word.startswith("-") else word for word in words]
    near = [match for word in words for match in get_close_matches(word, known, n=1)]
    return f"; did you mean {' '.join(near)}?" if near else ""
