"""How often the statistics are right, by simulation: coverage, false verdicts, power.

    python tests/audit/statistics_audit.py

Sessions are drawn whose true times are known: each has a level of its own (normal in the logarithm,
with the given deviation between sessions) and runs that scatter around it. What the package says of
them is counted. Takes about a minute on one core.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.analysis.validity import Evidence, judge
from inference_benchmark.statistics.deviation import DEFAULT_DEVIATION, Spread, spread_of
from inference_benchmark.statistics.intervals import printed_interval
from inference_benchmark.statistics.ratios import compare, compare_sessions
from inference_benchmark.statistics.stability import step, trend_z
from inference_benchmark.statistics.stopping import StoppingRule
from inference_benchmark.statistics.verdicts import adjust_for_many

RUN_NOISE = 0.003  # between the runs of a session
RUNS = 10
DEVIATIONS = (0.01, 0.02, 0.03)  # between sessions
DIFFERENT = ("faster", "slower")


def draw_sessions(
    generator: np.random.Generator,
    count: int,
    deviation: float,
    level: float = 0.0,
    noise: float = RUN_NOISE,
) -> np.ndarray:
    """Times [session, run] of one thing whose log time is `level`."""
    levels = level + deviation * generator.normal(size=(count, 1))
    return np.exp(levels + noise * generator.normal(size=(count, RUNS)))


def share_of_verdicts(
    deviation: float,
    a_side: int,
    *,
    difference: float = 0.0,
    saved: int = 0,
    trials: int = 2000,
    comparisons: int = 1,
    wanted: Sequence[str] = DIFFERENT,
) -> float:
    """How often two times sessions of `a_side` get one of the wanted verdicts.

    Args:
        difference: by which share the candidate is truly faster.
        saved: sessions in the set that was saved before; 0: there is none.
        comparisons: as many at once, adjusted for; then one such verdict among them counts.
    """
    generator = np.random.default_rng([round(deviation * 1e4), a_side, saved, comparisons])
    hits = 0
    for _ in range(trials):
        ratios = []
        for _ in range(comparisons):
            before = draw_sessions(generator, a_side, deviation)
            after = draw_sessions(generator, a_side, deviation, -np.log1p(difference))
            history = spread_of([draw_sessions(generator, saved, deviation)]) if saved else Spread()
            ratios.append(compare_sessions(before, after, saved=history))
        judged = adjust_for_many(ratios) if comparisons > 1 else ratios
        hits += any(ratio.verdict in wanted for ratio in judged)
    return hits / trials


def coverage_after_stopping(noise: float, skew: bool, trials: int = 1000) -> tuple[float, float]:
    """(share of printed intervals that hold the true median, mean number of runs) of sessions that
    the stopping rule ends: it looks after every run, and what it sees decides when it stops."""
    generator = np.random.default_rng([round(noise * 1e4), skew])
    rule = StoppingRule.adaptive("cuda")
    held, lengths = 0, 0
    for _ in range(trials):
        if skew:  # mostly short, with a tail of slow runs
            runs = 1 + noise * (generator.gamma(2.0, size=rule.max_runs) - 1.6783)
        else:
            runs = np.exp(noise * generator.normal(size=rule.max_runs))
        n = next(n for n in range(1, rule.max_runs + 1) if rule.decide([{"t": runs[:n]}], 0.0))
        low, high = printed_interval(runs[:n])
        held += low <= 1 <= high
        lengths += n
    return held / trials, lengths / trials


def coverage_of_ratios(deviation: float, a_side: int, saved: int, trials: int = 2000) -> float:
    generator = np.random.default_rng([7, round(deviation * 1e4), a_side, saved])
    held = 0
    for _ in range(trials):
        before, after = (draw_sessions(generator, a_side, deviation) for _ in range(2))
        history = spread_of([draw_sessions(generator, saved, deviation)]) if saved else Spread()
        low, high = compare_sessions(before, after, saved=history).ci95
        held += low <= 1 <= high
    return held / trials


def false_verdicts_in_a_session(noise: float, rounds: int, trials: int = 2000) -> float:
    """Of two modes that are equal, interleaved under a drift of 2 %."""
    generator = np.random.default_rng([round(noise * 1e4), rounds])
    places = np.arange(2 * rounds).reshape(rounds, 2)
    places[1::2] = places[1::2, ::-1]
    drift = 1 + 0.02 * np.arange(2 * rounds) / (2 * rounds - 1)
    hits = 0
    for _ in range(trials):
        times = drift * np.exp(noise * generator.normal(size=2 * rounds))
        ratio = compare(times[places[:, 0]], times[places[:, 1]], paired=True)
        hits += ratio.verdict in DIFFERENT
    return hits / trials


def alarms(
    shape_name: str, size: float, runs: int, noise: float = 0.005, trials: int = 1000
) -> float:
    """How often runs with a "step" in their middle or a "trend" of this size are noticed."""
    generator = np.random.default_rng([round(size * 1e4), runs])
    shape = (
        np.linspace(-0.5, 0.5, runs)
        if shape_name == "trend"
        else np.sign(np.arange(runs) - runs / 2)
    )
    hits = 0
    for _ in range(trials):
        times = np.exp(
            noise * generator.normal(size=runs) + size * shape / (1 + (shape_name == "step"))
        )
        if shape_name == "trend":
            hits += abs(trend_z(times)) >= 1.96
        else:
            hits += step(times).p_value < 0.05
    return hits / trials


def suspected(noise: float, runs: int, trials: int = 500) -> float:
    """How often a fixed number of runs that only scatter is not simply valid."""
    generator = np.random.default_rng([11, round(noise * 1e4), runs])
    hits = 0
    for _ in range(trials):
        times = np.exp(noise * generator.normal(size=(3, runs)))
        samples = dict(zip(("TTFT", "TBOT", "total"), times, strict=True))
        evidence = Evidence("cuda", samples, gpu_state={}, output_check_passed=True)
        hits += judge(evidence)["verdict"] != "valid"
    return hits / trials


def main() -> None:
    print("false verdicts: two sides of the same thing called faster or slower (target: <= 5 %)")
    print(f"{'sessions a side, deviation from':42}" + "".join(f"{d:>8.1%}" for d in DEVIATIONS))
    for title, a_side, saved in (
        ("1, a saved set of 5 sessions", 1, 5),
        ("1, a saved set of 10 sessions", 1, 10),
        ("2, themselves", 2, 0),
        ("3, themselves", 3, 0),
        ("5, themselves", 5, 0),
    ):
        shares = [share_of_verdicts(deviation, a_side, saved=saved) for deviation in DEVIATIONS]
        print(f"{title:42}" + "".join(f"{share:8.1%}" for share in shares))
    at_default = share_of_verdicts(DEFAULT_DEVIATION, 1)
    print(f"{f'1, the default, at its own {DEFAULT_DEVIATION:.1%}':42}{at_default:8.1%}")
    several = [share_of_verdicts(d, 3, comparisons=9, trials=500) for d in DEVIATIONS]
    print(f"{'3, any of 9 comparisons, adjusted':42}" + "".join(f"{s:8.1%}" for s in several))

    print("\npower: a true difference of 5 % is found")
    for title, a_side, saved in (
        ("1, a saved set of 5 sessions", 1, 5),
        ("3, themselves (target at 1 %: > 90 %)", 3, 0),
        ("5, themselves", 5, 0),
    ):
        shares = [
            share_of_verdicts(deviation, a_side, saved=saved, difference=0.05, wanted=("faster",))
            for deviation in DEVIATIONS
        ]
        print(f"{title:42}" + "".join(f"{share:8.1%}" for share in shares))

    print("\ncoverage of the 95 % interval of the ratio between sessions")
    for title, a_side, saved in (("1, a saved set of 5", 1, 5), ("3, themselves", 3, 0)):
        shares = [coverage_of_ratios(deviation, a_side, saved) for deviation in DEVIATIONS]
        print(f"{title:42}" + "".join(f"{share:8.1%}" for share in shares))

    print("\ncoverage of the printed median interval of a session that the stopping rule ended")
    for noise in (0.005, 0.02, 0.05):
        for skew in (False, True):
            held, runs = coverage_after_stopping(noise, skew)
            shape = "skewed" if skew else "normal"
            print(f"{f'{shape} runs, {noise:.1%} each':42}{held:8.1%}   {runs:.0f} runs")

    print("\nfalse verdicts within a session, two equal modes under a drift of 2 %")
    for noise in (0.002, 0.01, 0.05):
        shares = [false_verdicts_in_a_session(noise, rounds) for rounds in (5, 10, 40)]
        texts = "".join(f"{share:8.1%}" for share in shares)
        print(f"{f'noise {noise:.1%}; 5, 10, 40 rounds':42}{texts}")

    print("\nsteps and trends noticed as such (before the 2 % they must reach); noise 0.5 %")
    for shape in ("step", "trend"):
        for size in (0.0, 0.02, 0.05):
            shares = [alarms(shape, size, runs) for runs in (8, 10, 30)]
            texts = "".join(f"{share:8.1%}" for share in shares)
            print(f"{f'{shape} of {size:.0%}; 8, 10, 30 runs':42}{texts}")

    print("\nsessions of a fixed number of runs that only scatter and are not called valid")
    for noise in (0.003, 0.01, 0.02):
        texts = "".join(f"{suspected(noise, runs):8.1%}" for runs in (6, 10, 30))
        print(f"{f'noise {noise:.1%}; 6, 10, 30 runs':42}{texts}")


if __name__ == "__main__":
    main()
