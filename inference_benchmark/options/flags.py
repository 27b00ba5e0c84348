"""The flags of benchmark_inference.py, each declared in one place. Imports no torch.

A new flag is one entry of a table in groups/: --help, the parser, the checks against other flags, the
request, the configuration in the result file and the comparison's fields follow from it.
"""

from dataclasses import dataclass

from inference_benchmark.options.flag import add_flags
from inference_benchmark.options.groups.execution import ExecutionFlags
from inference_benchmark.options.groups.limits import LimitFlags
from inference_benchmark.options.groups.measuring import MeasuringFlags
from inference_benchmark.options.groups.model import ModelFlags
from inference_benchmark.options.groups.output import OutputFlags
from inference_benchmark.options.groups.question import QuestionFlags
from inference_benchmark.options.groups.training import TrainingFlags
from inference_benchmark.options.groups.workload import WorkloadFlags
from inference_benchmark.options.parser import Parser

_EPILOG = """what is printed:
  TTFT     time to the first token: one prefill of the whole prompt
  TBOT     time between output tokens: one decode step (vLLM's TPOT)
  limit    the share of what the hardware allows that was reached: the time that
           bytes over bandwidth or FLOPs over peak need, over the measured time
  verdict  valid, suspect or invalid: whether the number can be trusted, and why

examples:
  python benchmark_inference.py --scenario chat
  python benchmark_inference.py --scenario chat --mode thunder inductor eager
  python benchmark_inference.py --model-name llama3.1-405b --num-layers 8
  python benchmark_inference.py --model-name llama3.1-405b --extrapolate 4 8
  for mode in thunder inductor eager; do
    python benchmark_inference.py --scenario chat --mode $mode --save-results
  done; python compare_results.py results/*.json

exit codes:
  0 measured                       3 it could not run here
  1 a gate failed: wrong output,   4 measured, but result or report can't be
    a cell that failed, --strict     written
  2 the request was wrong          130, 143, 129  ended by Ctrl-C, SIGTERM or
                                     SIGHUP: what was measured is reported"""


# A dataclass has its last base's fields first.
@dataclass(frozen=True, kw_only=True)
class Flags(
    OutputFlags,
    LimitFlags,
    MeasuringFlags,
    ExecutionFlags,
    TrainingFlags,
    QuestionFlags,
    WorkloadFlags,
    ModelFlags,
):
    """Each flag with its default; resolution.py turns what was given into a Request."""


def make_parser() -> Parser:
    parser = Parser(
        prog="benchmark_inference.py",
        usage="%(prog)s [OPTIONS]",
        description="Time LLM inference, prefill and decode, in several ways of executing a model.",
        epilog=_EPILOG,
    )
    add_flags(parser, Flags)
    return parser
