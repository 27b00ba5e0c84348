"""The command lines' parser: what is wrong is one line, which names the flag that was meant."""

import argparse
import sys
from difflib import get_close_matches
from typing import NoReturn

from inference_benchmark.errors import ExitCode, printable
from inference_benchmark.system.output_stream import give_up_stdout, say


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
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

    def _hint(self, unknown: list[str]) -> str:
        known = list(self._option_string_actions)
        flags = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        near = [match for flag in flags for match in get_close_matches(flag, known, n=1)]
        return f"; did you mean {' '.join(near)}?" if near else ""
