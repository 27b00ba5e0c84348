"""Whether a cell's numbers can be trusted, and if not, why and what to do about it.

A benchmark can be precise and wrong: the GPU throttled, a compiler ran again, another process
shared the GPU, the output was garbage. Each such cause is one small rule over plain numbers, which
answers with a reason (what was seen, and a remedy) or with nothing. "invalid" says that the numbers
do not measure what they claim to; "suspect" that they may be off by more than the precision they
are printed with; "unverified" that the session was too short to tell. A number that is unknown
(None) fires no rule, except where not knowing is itself the finding.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from inference_benchmark.analysis.reason import (
    GRAVITY,
    Evidence,
    LimitShare,
    Reason,
    Rule,
    limit_share,
)
from inference_benchmark.analysis.rules_of_machine import MACHINE_RULES
from inference_benchmark.analysis.rules_of_times import SAMPLE_RULES

__all__ = ["RULES", "Evidence", "LimitShare", "judge", "judge_estimate", "limit_share"]


def judge(evidence: Evidence) -> dict[str, Any]:
    """The `validity` of a cell: the gravest verdict of all rules, and the reason of each."""
    return _judge(evidence, RULES)


def judge_estimate(evidence: Evidence, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `validity` of an estimate: what is wrong with the cells that it comes from, and what its
    own times show."""
    all_of_them = [_judge(evidence, SAMPLE_RULES), *sources]
    reasons = [reason for judgement in all_of_them for reason in judgement["reasons"]]
    unique = {tuple(reason.values()): reason for reason in reasons}
    verdict = _gravest(judgement["verdict"] for judgement in all_of_them)
    return {"verdict": verdict, "reasons": list(unique.values())}


def _judge(evidence: Evidence, rules: Sequence[Rule]) -> dict[str, Any]:
    objections = [reason for rule in rules if (reason := rule(evidence)) is not None]
    reasons = [asdict(reason) for reason in objections]
    return {"verdict": _gravest(reason.severity for reason in objections), "reasons": reasons}


def _gravest(verdicts: Iterable[str]) -> str:
    distinct = set(verdicts)
    return next((verdict for verdict in GRAVITY if verdict in distinct), "valid")


def wrong_output(evidence: Evidence) -> Reason | None:
    if evidence.output_check_passed is not False:
        return None
    return Reason(
        "wrong_output",
        "invalid",
        "The output differs from the reference by more than the tolerance.",
        "Look at the figures of the cell's output check; its speed means nothing until it passes.",
    )


def over_limit(evidence: Evidence) -> Reason | None:
    """Faster than the hardware allows, by more than the times are uncertain."""
    over = {name: share for name, share in evidence.limit_shares.items() if share and share.low > 1}
    if not over:
        return None
    name, worst = max(over.items(), key=lambda item: item[1].share)
    return Reason(
        "over_limit",
        "invalid",
        f"{name} reaches {worst.share:.0%} of its limit ({worst.basis}), at least {worst.low:.0%} "
        "with its uncertainty: the limit or the time is wrong.",
        "Check that the GPU is the one the limit is for (--gpu-bandwidth, --gpu-peak, "
        "--measure-ceilings), that the clock spans all of the work, and that no work is left out "
        "(a cache that serves repeated inputs, fewer layers or tokens than claimed).",
    )


def output_not_checked(evidence: Evidence) -> Reason | None:
    if evidence.output_check_passed is not None:
        return None
    return Reason(
        "output_not_checked",
        "suspect",
        "The output was not compared with the reference.",
        "Run with the output check on.",
    )


RULES: tuple[Rule, ...] = (
    wrong_output,
    over_limit,
    output_not_checked,
    *MACHINE_RULES,
    *SAMPLE_RULES,
)
