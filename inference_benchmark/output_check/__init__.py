"""Whether an engine computes what the reference computes: before the timing, and in what was timed.

`check_before` compares an engine with the reference before it is timed, `check_timed_runs` replays
tokens of timed runs afterwards, `merge` makes one record of both, `combine` one of several ranks'.

Of an engine that shows tokens alone, what moves no logit by more than rounding does stays unseen: the
tokens of its runs are those that rounding explains, and nothing is known of its cache.

What the check cannot see, because random weights give it nothing to be seen by:

- a prompt's attention that leaves out a small part of a long prompt: attention over random keys is
  an average, to which one part in a hundred adds less than rounding; decode steps have needles for
  it, but a prefill makes its own keys. A fault of more than that shows in the cache.
- an expert of a mixture's last layer that none of the tokens checked before the timing chose: what
  it adds to the logits is less than what rounding does to the choice of other experts, so that the
  replay of timed tokens, in which the reference chooses experts itself, does not show it.
- 8-bit weights of feed-forward layers alone: what these add to a layer's output is a small part of
  it, so that their rounding stays below that of the residual stream. 8-bit weights of attention
  show in the first layer's cache.
"""

from inference_benchmark.output_check.before import check_before
from inference_benchmark.output_check.forward import check_forward_before, check_timed_forward
from inference_benchmark.output_check.record import combine, merge
from inference_benchmark.output_check.stream import check_stream_before
from inference_benchmark.output_check.timed import TimedRun, check_timed_runs

__all__ = [
    "TimedRun",
    "check_before",
    "check_forward_before",
    "check_stream_before",
    "check_timed_forward",
    "check_timed_runs",
    "combine",
    "merge",
]
