"""A sweep's file: flags and their values, of which each combination is a session. Imports no torch.

    model-name = ["llama3.1-8b", "qwen3-8b"]
    scenario = ["chat", "summarization"]
    mode = ["inductor", ["eager+graphs", "thunder"]]
    num-iterations = 10

A list is an axis. What stands in a list of its own belongs together in one session: modes that are
compared round by round. A value that is no list holds for all.
"""

import itertools
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from inference_benchmark.errors import RequestError
from inference_benchmark.options.flag import flags_of, option
from inference_benchmark.options.flags import Flags

# Flags that belong to the sweep as a whole, or start several sessions themselves.
_NOT_OF_A_SESSION = {
    *("sweep", "sessions", "cache_state", "list_scenarios"),
    *("output", "output_dir", "overwrite", "save_results", "json", "format", "report"),
}


def read_sweep(path: Path) -> list[list[str]]:
    """The arguments of each session, in the order of the file, its last axis the fastest.

    Raises:
        RequestError: it can't be read, or says what no session can be told.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"--sweep {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"--sweep {path} is not TOML: {error}") from None
    if not table:
        raise RequestError(f"--sweep {path} names no flag")
    axes = [_axis(path, key, value) for key, value in table.items()]
    return [list(itertools.chain(*words)) for words in itertools.product(*axes)]


def fields_of(path: Path) -> set[str]:
    """The flags that a sweep's file sets, by their field's name."""
    return {_field(key) for key in tomllib.loads(path.read_text(encoding="utf-8"))}


def _field(key: str) -> str:
    return key.replace("-", "_")


def _axis(path: Path, key: str, value: Any) -> list[list[str]]:
    """The arguments that each value of a key makes."""
    known = {name: flag for name, flag in flags_of(Flags).items() if name not in _NOT_OF_A_SESSION}
    if _field(key) not in known:
        near = get_close_matches(_field(key), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
        raise RequestError(f"--sweep {path}: '{key}' is no flag of a session{hint}")
    if value == []:
        raise RequestError(f"--sweep {path}: {key} has no values")
    values = value if isinstance(value, list) else [value]
    return [_words(path, key, value) for value in values]


def _words(path: Path, key: str, value: Any) -> list[str]:
    flag = option(_field(key))
    if isinstance(value, bool):
        return [flag] if value else []
    several = value if isinstance(value, list) else [value]
    if not several or not all(
        isinstance(element, (str, int, float)) and not isinstance(element, bool)
        for element in several
    ):
        raise RequestError(f"--sweep {path}: {key} takes texts, numbers, and lists of these")
    if len(several) > 1 and flags_of(Flags)[_field(key)].nargs is None:
        raise RequestError(f"--sweep {path}: {key} takes one value in a session, not {several}")
    return [flag, *map(str, several)]
