"""Ranks that push a step's rows into each other's memory: sums, norms, numbers of calls, order.

One rank at a time: what the others send is put into its inbox before, what it sends is read in
theirs. And ranks that are processes over shared memory, which wait for each other.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kernel_checks import (
    DEVICE,
    INTERPRETED,
    TOLERANCE,
    assert_close,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels import push_all_reduce
from inference_benchmark.kernels.peer_words import WORDS_AT_ONCE, ptx_that_waits
from inference_benchmark.kernels.push_all_reduce import (
    MAX_ROWS,
    Inboxes,
    inbox_words,
    is_served,
    launch_push_all_reduce,
    launch_push_all_reduce_norm,
)

EPS = 1e-5
ROW_WORDS = push_all_reduce.MAX_FEATURES // 2
# ranks, rows, features: less than a warp's words, no power of two, several words per thread
SHAPES = [(2, 1, 64), (2, 3, 200), (4, 2, 514), (8, 1, 130)]


def open_inboxes(size: int, device: str) -> tuple[Tensor, list[Inboxes]]:
    """[ranks, halves, rows, ranks, words], and each rank's view of them."""
    memory = torch.zeros(size, inbox_words(size), dtype=torch.int64, device=device)
    addresses = torch.tensor([inbox.data_ptr() for inbox in memory], device=device)
    calls = torch.zeros(size, MAX_ROWS, dtype=torch.int32, device=device)
    if device == "cpu":
        memory.share_memory_()
        calls.share_memory_()
        addresses = torch.tensor([inbox.data_ptr() for inbox in memory])
    ranks = [Inboxes(addresses, calls[rank], rank, keeps=(memory,)) for rank in range(size)]
    return memory.view(size, 2, MAX_ROWS, size, ROW_WORDS), ranks


def words_of(x: Tensor, number: int) -> Tensor:
    """[rows, features] as it is sent: [rows, features / 2], int64."""
    return (x.view(torch.int32).to(torch.int64) & 0xFFFFFFFF) | number << 32


def normed(parts: list[Tensor], residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """In float64; the total is rounded before it is normalised."""
    total = residual.double() + sum(part.double() for part in parts)
    wide = total.to(residual.dtype).double()
    return F.rms_norm(wide, wide.shape[-1:], weight.double(), EPS), total


def one_rank_at_a_time(size: int, rows: int, features: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    memory, ranks = open_inboxes(size, DEVICE)
    weight = torch.randn(features, device=DEVICE).to(dtype)
    for call in range(1, 4):  # the third one is in the half of the first
        with_norm = call != 2
        parts = torch.randn(size, rows, features, device=DEVICE).to(dtype)
        residual = torch.randn(rows, features, device=DEVICE).to(dtype)
        sent, half = words_of(parts, call), call % 2
        outs = []
        for inboxes in ranks:
            rank = inboxes.rank
            slots = memory[:, :, :rows, :, : features // 2]
            slots[:, half, :, rank] = -1  # to be sent
            slots[rank, half] = sent.transpose(0, 1)  # as if all had sent
            slots[rank, half, :, rank] = -1
            others_half = slots[:, 1 - half].clone()
            part = parts[rank][:, None]  # [rows, 1, features], as in a decode step
            if with_norm:
                arguments = part, residual[:, None], weight, EPS, inboxes
                out = launch_push_all_reduce_norm(*arguments)
            else:
                out = (launch_push_all_reduce(part, inboxes),)
            outs.append([tensor[:, 0] for tensor in out])
            assert torch.equal(slots[:, half, :, rank], sent[rank].expand(size, -1, -1))
            assert torch.equal(slots[:, 1 - half], others_half)
            assert inboxes.calls.tolist() == [call] * rows + [0] * (MAX_ROWS - rows)
        assert all(same_bits(*pair) for out in outs[1:] for pair in zip(out, outs[0], strict=True))
        # The interpreter cuts bf16 off where a GPU rounds.
        cut_off = TOLERANCE[dtype] if INTERPRETED and dtype == torch.bfloat16 else 0.0
        expected = [parts.double().sum(0)]
        if with_norm:
            expected = normed(list(parts), residual, weight)
        for tensor, reference in zip(outs[0], expected, strict=True):
            assert_close(tensor, reference, dtype, cut_off)


@interpreted_only
@pytest.mark.parametrize(
    ("shape", "dtype"), zip(SHAPES, (torch.bfloat16, torch.float16) * 2, strict=True)
)
def test_interpreted_one_rank_at_a_time(shape, dtype, poisoned_memory):
    one_rank_at_a_time(*shape, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 1, 4096), (4, 32, 8192), (8, 2, 16384)])
class TestOnGPU:
    pytestmark = on_gpu

    def test_one_rank_at_a_time(self, shape, dtype, poisoned_memory):
        one_rank_at_a_time(*shape, dtype)


CALLS, FEATURES = 12, 70


def part_of(rank: int, call: int) -> tuple[Tensor, Tensor]:
    """(update, residual) of a rank and call, of changing numbers of rows."""
    rows = (1, 3, 2)[call % 3]
    torch.manual_seed(call)
    residual = torch.randn(rows, 1, FEATURES).to(torch.float16)
    torch.manual_seed(100 * call + rank)
    return torch.randn(rows, 1, FEATURES).to(torch.float16), residual


def run_rank(inboxes: Inboxes, outs: Tensor) -> None:
    """outs [CALLS, 3, 2, FEATURES]"""
    torch.set_num_threads(1)
    delays = random.Random(inboxes.rank)
    weight = torch.ones(FEATURES, dtype=torch.float16)
    for call in range(CALLS):
        update, residual = part_of(inboxes.rank, call)
        time.sleep(delays.choice((0, 0, 0.02)))
        pair = launch_push_all_reduce_norm(update, residual, weight, EPS, inboxes)
        for index, tensor in enumerate(pair):
            outs[call, : len(update), index] = tensor[:, 0]


@interpreted_only
def test_interpreted_ranks_wait_for_each_other():
    size = 2
    _, ranks = open_inboxes(size, "cpu")
    outs = torch.full((size, CALLS, 3, 2, FEATURES), torch.nan, dtype=torch.float16).share_memory_()
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=run_rank, args=(inboxes, outs[inboxes.rank])) for inboxes in ranks
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
        assert process.exitcode == 0
    assert same_bits(outs[0], outs[1])
    weight = torch.ones(FEATURES)
    for call in range(CALLS):
        parts, residuals = zip(*(part_of(rank, call) for rank in range(size)), strict=True)
        expected = normed([part[:, 0] for part in parts], residuals[0][:, 0], weight)
        for index, tensor in enumerate(expected):
            assert_close(outs[0, call, : len(tensor), index], tensor, torch.float16)


@pytest.mark.skipif(INTERPRETED, reason="runs the interpreter's tests and is not one of them")
class TestInInterpreter:
    pytestmark = starts_interpreter

    def test_kernel(self):
        run_in_interpreter(__file__)


def test_what_is_served():
    x = torch.empty(MAX_ROWS, 1, 4096, dtype=torch.bfloat16, device="meta")
    assert is_served(x)
    assert not is_served(x.new_empty(MAX_ROWS + 1, 1, 4096))
    assert not is_served(x.new_empty(1, MAX_ROWS + 1, 4096))
    assert not is_served(x.new_empty(1, 1, push_all_reduce.MAX_FEATURES + 2))
    assert not is_served(x.new_empty(1, 1, 4095))
    inboxes = Inboxes(torch.zeros(2, dtype=torch.int64), torch.zeros(MAX_ROWS), 0)
    row = torch.zeros(1, 8, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="not a few rows of pairs"):
        launch_push_all_reduce(row.float(), inboxes)
    with pytest.raises(ValueError, match="shaped as x"):
        launch_push_all_reduce_norm(row, row[:, :4], row[0], EPS, inboxes)
    with pytest.raises(ValueError, match="one dtype"):
        launch_push_all_reduce_norm(row, row.half(), row[0], EPS, inboxes)
    assert replace(inboxes, rank=1).size == 2


class Lines:
    """Lines of PTX and their operands, carried out; load: address -> the 8 bytes that stand there."""

    OPERATIONS = {
        "mov.b32": lambda a: a,
        "xor.b32": lambda a, b: a ^ b,
        "or.b32": lambda a, b: a | b,
        "setp.ne.b32": lambda a, b: int(a != b),
    }

    def __init__(self, text: str, operands: dict[str, int], load: Callable[[int], int]) -> None:
        lines = (line.strip() for line in re.split(r"[;\n]", text.strip("{}\n ")))
        self.lines = [line for line in lines if line and not line.startswith(".reg")]
        self.values = dict(operands)
        self.load = load

    def run(self) -> dict[str, int]:
        place = 0
        while place < len(self.lines):
            line = self.lines[place]
            place += 1
            if line.startswith("@"):
                predicate, _, label = line[1:].split()
                place = self.lines.index(f"{label}:") if self.values[predicate] else place
            elif not line.endswith(":"):
                self.carry_out(*line.split(maxsplit=1))
        return self.values

    def carry_out(self, operation: str, operands: str) -> None:
        values = self.values
        if operation == "ld.relaxed.sys.global.b64":
            target, pointer, offset = re.match(r"(\w+), \[(\S+)\+(\d+)\]", operands).groups()
            values[target] = self.load(values[pointer] + int(offset))
        elif operation == "mov.b64":
            low, high, source = re.match(r"\{(\S+), (\S+)\}, (\w+)", operands).groups()
            values[low], values[high] = values[source] & 0xFFFFFFFF, values[source] >> 32
        else:
            target, *sources = operands.split(", ")
            given = [values[name] if name in values else int(name) for name in sources]
            values[target] = self.OPERATIONS[operation](*given)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_lines_wait_until_every_word_has_its_number(size):
    """Each word arrives at another time, and before that the half holds an older call's words."""
    stride, number = 32, 7
    text, operands, at_once = ptx_that_waits(stride, size)
    assert at_once == WORDS_AT_ONCE
    count = size * at_once
    assert operands.split(",") == ["=&r"] * count + ["l"] * at_once + ["r"] * at_once
    starts = [8 * place for place in (5, 0, 9, 2)]
    data = {
        start + 8 * stride * rank: 1000 * rank + start for start in starts for rank in range(size)
    }
    arrival = {address: 3 + index % 5 for index, address in enumerate(data)}
    asked = dict.fromkeys(data, 0)

    def load(address: int) -> int:
        asked[address] += 1
        has_arrived = asked[address] >= arrival[address]
        return number << 32 | data[address] if has_arrived else (number - 2) << 32 | 99

    inputs = {f"${count + place}": start for place, start in enumerate(starts)}
    inputs |= {f"${count + at_once + place}": number for place in range(at_once)}
    values = Lines(text, inputs, load).run()
    for rank in range(size):
        for place, start in enumerate(starts):
            assert values[f"${rank * at_once + place}"] == data[start + 8 * stride * rank]
