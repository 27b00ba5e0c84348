"""Which kernel sums a decode step's messages over ranks: what auto takes, and why it can't."""

import pytest
import torch
import torch.distributed as dist
from command_lines import parsed, resolved_for_a_gpu
from dispatched import Operators

from inference_benchmark.command.facts import _fallback
from inference_benchmark.errors import CannotRun
from inference_benchmark.kernels.push_all_reduce import MAX_ROWS
from inference_benchmark.model.normed import make_normed_linear, make_normed_swiglu
from inference_benchmark.parallel import collectives, ranks
from inference_benchmark.parallel.ranks import Group, Ranks
from inference_benchmark.parallel.sharding import Shard
from inference_benchmark.parallel.shared_sums import SHARED_SUMS
from inference_benchmark.session.planning import plan_cells

EVERY = tuple(SHARED_SUMS)


@pytest.fixture
def variants(monkeypatch):
    """(mode, flags, kernels that work) -> [(variant, all-reduce)] on two GPUs."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def plan(mode: str, *flags: str, works: tuple[str, ...] = EVERY) -> tuple[str, str]:
        request = resolved_for_a_gpu(monkeypatch, "--mode", mode, *flags)
        cell = plan_cells(request, works)[0][0]
        return cell.variant, cell.engine.kernels.all_reduce

    return plan


def test_auto_is_ours_or_pytorchs_kernel_where_they_work(variants):
    assert variants("inductor+kernels") == ("inductor+graphs+kernels", "push")
    for works, precision, backend in (
        (("push", "one_shot"), "fp16", "push"),
        (("push", "one_shot"), "fp32", "one_shot"),
        ((), "bf16", "nccl"),
    ):
        planned = variants("inductor+kernels", "--precision", precision, works=works)
        assert planned == ("inductor+graphs+kernels", backend)
    assert variants("inductor") == ("inductor+graphs", "one_shot")
    assert variants("inductor", works=()) == ("inductor+graphs", "nccl")
    assert variants("inductor", "--precision", "fp16") == ("inductor+graphs", "nccl")
    assert variants("eager") == ("eager", "nccl")


def test_labels_say_what_else_was_asked_for(variants):
    assert variants("inductor", "--all-reduce", "push") == ("inductor+graphs[push]", "push")
    asked = variants("inductor+kernels", "--all-reduce", "one_shot")
    assert asked == ("inductor+graphs+kernels[one_shot]", "one_shot")
    unchanged = variants("inductor+kernels", "--all-reduce", "push")
    assert unchanged == ("inductor+graphs+kernels", "push")
    assert variants("inductor", "--all-reduce", "nccl") == ("inductor+graphs[nccl]", "nccl")
    assert variants("inductor", "--all-reduce", "one_shot") == ("inductor+graphs", "one_shot")


def test_one_rank_sums_nothing(monkeypatch):
    request = resolved_for_a_gpu(monkeypatch, "--mode", "inductor+kernels")
    (cell, *_) = plan_cells(request)[0]
    assert (cell.variant, cell.engine.kernels.all_reduce) == ("inductor+graphs+kernels", "none")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--all-reduce", "push", "--precision", "fp32"), "push knows bf16 and fp16"),
        (("--all-reduce", "one_shot", "--precision", "fp16"), "one_shot knows bf16 and fp32"),
    ],
)
def test_precisions_that_a_kernel_does_not_know_are_refused(monkeypatch, flags, words):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CannotRun, match=words):
        resolved_for_a_gpu(monkeypatch, "--mode", "inductor", *flags)


def test_a_cpu_has_none(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CannotRun, match="push is a GPU kernel"):
        parsed("--mode", "eager", "--device", "cpu", "--all-reduce", "push")


@pytest.fixture
def pair(monkeypatch) -> Group:
    """Of two ranks that agree, on GPUs that reach each other."""
    group = Group(Shard(0, 2), 2, None)
    monkeypatch.setattr(group, "all_gather", lambda value=None: [value, value])
    monkeypatch.setattr(ranks, "_reaches_all_peers", lambda local_size: True)
    return group


def test_what_works_on_all_ranks_is_used(monkeypatch, pair):
    shared = []
    monkeypatch.setattr(collectives, "share_memory", shared.append)
    ranks._share_memory(pair, "cuda", "auto")
    assert (pair.shared_sums, pair.no_shared_sums) == ({"push", "one_shot"}, None)
    ranks._share_memory(pair, "cuda", "push")
    assert pair.shared_sums == {"push"}
    assert shared == ["push", "one_shot", "push"]


def fails(name: str) -> None:
    raise RuntimeError("no handle\nand a trace")


def test_one_kernel_that_fails_leaves_the_other(monkeypatch, pair):
    monkeypatch.setattr(
        collectives, "share_memory", lambda name: fails(name) if name == "push" else None
    )
    ranks._share_memory(pair, "cuda", "auto")
    assert (pair.shared_sums, pair.no_shared_sums) == ({"one_shot"}, "no handle")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m, group: m.setattr(group, "local_size", 1), "it needs 2, 4, 8 GPUs of one host"),
        (
            lambda m, group: m.setattr(ranks, "_reaches_all_peers", lambda local_size: False),
            "these GPUs can't read each other's memory",
        ),
        (lambda m, group: m.setattr(collectives, "share_memory", fails), "no handle"),
    ],
)
def test_why_it_does_not_work_is_said(monkeypatch, pair, change, reason):
    change(monkeypatch, pair)
    ranks._share_memory(pair, "cuda", "auto")
    assert (pair.shared_sums, pair.no_shared_sums) == (frozenset(), reason)
    with pytest.raises(CannotRun, match=f"--all-reduce push: {reason}"):
        ranks._share_memory(pair, "cuda", "push")

    class Cell:
        def __init__(self, mode: str) -> None:
            request = resolved_for_a_gpu(monkeypatch, "--mode", mode)
            self.plan = plan_cells(request)[0][0]

    said = f"all-reduce of small messages by NCCL: {reason}"
    assert _fallback([Cell("eager"), Cell("inductor")], pair) == [said]
    assert _fallback([Cell("eager")], pair) == []
    assert _fallback([Cell("inductor")], Ranks()) == []
    pair.shared_sums = frozenset({"one_shot"})
    assert "by NCCL or one_shot alone: " in _fallback([Cell("inductor")], pair)[0]


@pytest.fixture
def lone_group():
    """Of one rank, whose sum is its own."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("lone_group")
def test_operators_are_what_compilers_take_them_for():
    operators = torch.ops.inference_benchmark
    update, residual = torch.randn(2, 2, 1, 16).to(torch.bfloat16)
    weight = torch.ones(16, dtype=torch.bfloat16)
    torch.library.opcheck(operators.push_all_reduce.default, (update,))
    arguments = (update, residual, weight, 1e-5)
    torch.library.opcheck(operators.push_all_reduce_norm.default, arguments)


@pytest.mark.usefixtures("lone_group")
def test_thunder_takes_it_too():
    """Its tensors have types of their own while it traces."""
    thunder = pytest.importorskip("thunder", reason="needs lightning-thunder")
    from inference_benchmark.engines.thunder_operators import OPERATORS

    given = [torch.ones(shape, dtype=torch.bfloat16) for shape in ((1, 8), (1, 8), (8,), (4, 8))]
    jitted = thunder.jit(make_normed_linear("gemv", 1e-5, None, "push"), executors=[OPERATORS])
    with Operators() as operators:
        jitted(*given)
    assert operators.seen == ["push_all_reduce_norm", "gemv"]


@pytest.mark.usefixtures("lone_group")
@pytest.mark.parametrize(
    ("backend", "rows", "linear", "swiglu"),
    [
        ("torch", 1, ["push_all_reduce_norm"], ["push_all_reduce_norm"]),
        ("gemv", 1, ["push_all_reduce_norm", "gemv"], ["push_all_reduce_norm", "gemv_swiglu"]),
        (
            "gemv",
            3,
            ["push_all_reduce_norm", "few_rows_linear"],
            ["push_all_reduce_norm", "few_rows_swiglu"],
        ),
        ("gemv", MAX_ROWS + 1, ["all_reduce"], ["all_reduce"]),
    ],
)
def test_sum_addition_and_norm_are_one_operator(backend, rows, linear, swiglu):
    torch.manual_seed(0)
    shapes = ((rows, 1, 64), (rows, 1, 64), (64,), (8, 64))
    given = [torch.randn(shape).to(torch.bfloat16) for shape in shapes]
    for make, names in ((make_normed_linear, linear), (make_normed_swiglu, swiglu)):
        with Operators() as operators:
            result, total = make(backend, 1e-5, None, "push")(*given)
        assert operators.seen == names
        expected, expected_total = make("torch", 1e-5)(*given)
        assert torch.equal(total, expected_total)
        torch.testing.assert_close(result, expected)
    with Operators() as operators:
        summed = collectives.make_all_reduce("push")(given[0])
    assert operators.seen == ["all_reduce" if rows > MAX_ROWS else "push_all_reduce"]
    assert torch.equal(summed, given[0])
