"""Progress on a terminal: what is being done and how long it may still take, on stderr.

Updated between runs only, never inside a timed region; silent in a pipe and with --quiet.
"""

import sys

from tqdm import tqdm

tqdm.monitor_interval = 0  # no thread that wakes up inside a timed run


class Progress:
    def __init__(self, quiet: bool) -> None:
        self._disabled = quiet or not sys.stderr.isatty()
        self._bar: tqdm | None = None

    def stage(self, name: str) -> None:
        """A step of unknown length."""
        self.close()
        if not self._disabled:
            self._bar = tqdm(bar_format="{desc} {elapsed}", desc=name, leave=False)

    def update(self, name: str, done: int, total: int | None) -> None:
        """done of at most total runs; with a total the time left is shown."""
        if self._disabled:
            return
        if self._bar is None or self._bar.total != total:
            self.close()
            bar_format = "{desc} {bar} {n}/{total} [{elapsed}<{remaining}]" if total else None
            self._bar = tqdm(total=total, bar_format=bar_format, leave=False, dynamic_ncols=True)
        self._bar.set_description_str(name, refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
