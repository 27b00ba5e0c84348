"""Sessions that are hurt: by signals, streams, disks, little memory and a rank that dies."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from programs import FEW, LONG, SHORT, TINY, run, start

from trials.refused import BENCHMARK, COMPARE, ROOT


def hurt_sessions() -> list[tuple[str, str, int | str, str]]:
    """(group, case, exit code, what was said or is in the file) of sessions that are cut short."""
    rows = []
    few = [*TINY, "--mode", "eager", *SHORT, *FEW]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            path = folder / f"{number}.json"
            program = start(*TINY, "--mode", "eager", *LONG, "--output", str(path))
            program.wait_until(lambda path=path: path.exists() and num_runs(path) >= 2)
            program.signal(number)
            done = program.wait()
            case = f"{signal.Signals(number).name} while it measures"
            rows.append(("signals", case, done.returncode, state(path)))
        for case, stdout in (("a full disk behind stdout", "/dev/full"), ("a closed stdout", "")):
            rows.append(("streams", case, *said(run(*few, stdout=stdout))))
            quiet = run(*few, "--quiet", stdout=stdout)
            rows.append(("streams", f"{case}, seen after the measuring", *said(quiet)))
            path = folder / f"stream-{len(rows)}.json"
            saved = run(*few, "--output", str(path), stdout=stdout)
            rows.append(("streams", f"{case}, saved", *said(saved, folder)))
        ascii_only = run(*few, environment={"PYTHONIOENCODING": "ascii"})
        rows.append(("streams", "ASCII only", ascii_only.returncode, last_line(ascii_only.stdout)))
        both = [start(*few, "--save-results", "--output-dir", f"{name}/two") for _ in range(2)]
        codes = {program.wait().returncode for program in both}
        count = len(list((folder / "two").iterdir()))
        rows.append(("two at once", "in the same second", *codes, f"{count} files"))
        rows += hurt_disks(few)
    rows.append(dead_rank())
    return rows + [little_memory(BENCHMARK, 1_500_000), little_memory(COMPARE, 150_000)]


def little_memory(program: str, kibibytes: int) -> tuple[str, str, int | str, str]:
    published = sorted((ROOT / "results" / "published" / "three_sessions").glob("*.json"))
    flags = ["--device", "cpu"] if program == BENCHMARK else list(map(str, published))
    limited = ["sh", "-c", f'ulimit -v {kibibytes}; exec "$@"', "sh", sys.executable, program]
    done = subprocess.run([*limited, *flags], cwd=ROOT, capture_output=True, text=True)
    return "memory", f"ulimit -v {kibibytes}: {program}", *said(done)


def hurt_disks(few: list[str]) -> list[tuple[str, str, int | str, str]]:
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", name]
        if subprocess.run(mount, capture_output=True).returncode:
            return [("disks", "a disk that fills up", "-", "not tried: needs a mount")]
        try:
            lengths = ["--input-length", "20", "--output-length", "60", "--num-iterations", "100"]
            path = Path(name, "a.json")
            done = run(*TINY, "--mode", "scripted", *lengths, "--output", str(path))
            rows = [("disks", "a disk that fills up", *said(done, Path(name)))]
            rows[0] = (*rows[0][:3], f"{rows[0][3]} ({state(path)})")
            with suppress(OSError):
                Path(name, "other").write_bytes(bytes(40_000))
            full = run(*few, "--output", f"{name}/b.json")
            return [*rows, ("disks", "a full disk", *said(full, Path(name)))]
        finally:
            subprocess.run(["umount", name], check=True)


def dead_rank() -> tuple[str, str, int | str, str]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.json")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        flags = ["--nproc-per-node", "2", BENCHMARK, *TINY, "--mode", "eager", *LONG]
        process = subprocess.Popen(
            [*torchrun, *flags, "--output", str(path)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        while not (path.exists() and num_runs(path) >= 2):
            if process.poll() is not None:
                return "ranks", "a rank that dies", process.returncode, "it ended before"
        children = subprocess.run(
            ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
        )
        os.kill(sorted(map(int, children.stdout.split()))[1], signal.SIGKILL)
        return "ranks", "a rank that dies", process.wait(timeout=120), state(path)


def num_runs(path: Path) -> int:
    return len((json.loads(path.read_text())["cells"][0]["samples"] or {"round": []})["round"])


def state(path: Path) -> str:
    return f"the file says {json.loads(path.read_text())['state']}"


def said(done, folder: Path | None = None) -> tuple[int, str]:
    text = done.stderr if folder is None else done.stderr.replace(str(folder), "FOLDER")
    return done.returncode, last_line(text)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
