"""What is timed, and at which sizes."""

from dataclasses import dataclass

from inference_benchmark.model.layer_part import FEED_FORWARDS
from inference_benchmark.options import values
from inference_benchmark.options.flag import flag
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.workloads import PARTS, WORKLOADS

_SETS_LENGTHS = "a scenario sets both lengths"
_HAS_LENGTHS = "a depth takes --input-length and --output-length"


@dataclass(frozen=True, kw_only=True)
class WorkloadFlags:
    workload: str = flag(
        "workload",
        f"what is timed: {', '.join(WORKLOADS)}; of generation, forward and training several, one "
        "after the other with the same weights (default: generation)",
        choices=tuple(WORKLOADS),
        nargs="+",
        default="generation",
        metavar="NAME",
        role="work",
    )
    scenario: str | None = flag(
        "workload",
        f"one of {', '.join(SCENARIOS)}; sets both lengths",
        metavar="NAME",
        role="record",
        excludes={"input_length": _SETS_LENGTHS, "output_length": _SETS_LENGTHS},
        not_for=PARTS,
    )
    list_scenarios: bool = flag("workload", "print the table and exit", default=False)
    batch_size: tuple[int | str, ...] = flag(
        "workload",
        "sequences at once; several make several cells; sweep: powers of two, up to what is predicted "
        "to fit (default: 1)",
        parse=values.batch_size,
        nargs="+",
        default=(1,),
        metavar="N",
    )
    depth: tuple[int, ...] | None = flag(
        "workload",
        "time further tokens behind contexts of N tokens, which fill the cache with random values: a "
        "prefill of 512 (or --input-length) and decode steps; several make several cells",
        parse=values.natural,
        nargs="+",
        metavar="N",
        excludes={"scenario": _HAS_LENGTHS},
    )
    input_length: int | None = flag(
        "workload",
        "prompt tokens (default: 2048; 512 with --depth)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    output_length: int | None = flag(
        "workload",
        "generated tokens (default: 128)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    sequence_lengths: tuple[int, ...] | None = flag(
        "workload",
        "of a part of a layer: tokens of the prompt, or slots of the cache with --decode (default: "
        "512 1024 2048 4096; 128 256 on a CPU)",
        parse=values.positive_int,
        nargs="+",
        metavar="N",
        role="record",  # cells differ in it, and hold their own
        serves=PARTS,
    )
    decode: bool = flag(
        "workload",
        "of a part of a layer: one token per sequence, with a cache, instead of a prompt",
        default=False,
        role="record",  # the workload's name in a result says so
        serves=PARTS,
    )
    backward: bool = flag(
        "workload",
        "of a part of a layer: gradients too",
        default=False,
        role="record",
        serves=PARTS,
    )
    feed_forward: str | None = flag(
        "workload",
        "of --workload ffn: the model's own, or the classic network of two matrices with four "
        "times the hidden size between them (default: swiglu)",
        choices=FEED_FORWARDS,
        role="record",
        serves=PARTS,
    )

    check_setup: bool = flag(
        "workload", "print what is installed and usable here, and exit", default=False
    )
