"""How long saving takes after each round, the building of the result included, of a long session.

    python tests/audit/save_times.py [FILE.json]

100 rounds of three scripted cells that generate 1000 tokens: no model, so that nothing else takes
time. While a round is saved the GPU waits, and cools.
"""

import io
import json
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import pytest  # noqa: E402
import scripted  # noqa: E402

from inference_benchmark.command.ending import Ending  # noqa: E402

ROUNDS, TOKENS = 100, 1000
MODES = ("eager", "inductor", "thunder")


class _Printed:
    """What pytest's capsys is to a session: what it printed so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self.out, self.readouterr = stream, lambda: mock.Mock(out=stream.getvalue())


def saving_times(path: Path) -> list[tuple[float, float]]:
    """(CPU seconds, seconds) of each save of such a session, which leaves its file at `path`."""
    times = []
    save = Ending.save

    def timed(self, last=False) -> None:
        before = time.process_time(), time.perf_counter()
        save(self, last)
        times.append((time.process_time() - before[0], time.perf_counter() - before[1]))

    thirds = (1 / 3, 2 / 3)  # numbers of full length
    engines = {f"{mode} b1": {"script": scripted.steady(0.1, 0.01, thirds)} for mode in MODES}
    flags = ["--num-iterations", str(ROUNDS), "--warmup-iterations", "0", "--output", str(path)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as stream:
        patch.setattr(Ending, "save", timed)
        patch.setattr(scripted, "OUTPUT", TOKENS)
        run = scripted.whole_session(patch, _Printed(stream))
        code, _, _ = run(engines, "--mode", *MODES, *flags)
    assert code == 0
    return times


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "session.json")
        times = saving_times(path)
        size = path.stat().st_size
    last = times[-11:-1]  # the very last one judges as well, and waits for the disk
    record = {
        "rounds": ROUNDS,
        "cells": len(MODES),
        "tokens": TOKENS,
        "file_bytes": size,
        "first_round_s": times[1][1],
        "last_rounds_s": [seconds for _, seconds in last],
        "last_rounds_cpu_s": [cpu for cpu, _ in last],
        "end_s": times[-1][1],
    }
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json.dumps(record, indent=1) + "\n")
    middle = statistics.median(record["last_rounds_s"])
    print(f"{ROUNDS} rounds x {len(MODES)} cells, a file of {size / 1e6:.1f} MB")
    print(f"save after the first round: {1e3 * times[1][1]:.1f} ms")
    print(
        f"save after rounds 90 - 100: median {1e3 * middle:.1f} ms, "
        f"{1e3 * min(record['last_rounds_s']):.1f} to {1e3 * max(record['last_rounds_s']):.1f} "
        f"(asked: under 20); CPU {1e3 * statistics.median(record['last_rounds_cpu_s']):.1f} ms"
    )
    print(f"at the end, with the verdicts: {1e3 * record['end_s']:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
