"""Several ranks on a CPU: the logits of one rank, shares that add up, one voice, and no hanging."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import pytest
import thunder_tracing
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import transformers  # what is in it is loaded when it is used
from conftest import ROOT
from mixture_models import DEEPSEEK, LLAMA4, hugging_face
from programs import Program, run_ranks, start_server, start_torchrun
from step_engines import make_engine

from inference_benchmark import benchmark_inference
from inference_benchmark.model import normed
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.parallel.collectives import push_all_reduce_norm
from inference_benchmark.parallel.ranks import Group, PeerFailed
from inference_benchmark.parallel.sharding import Shard

SIZE = 2
VOCAB = 96
INPUT, STEPS = 24, 8
_LLAMA = replace(
    MODELS["llama-tiny"],
    vocab_size=VOCAB,
    hidden_size=64,
    num_layers=2,
    attention=GroupedQueryAttention(8, 2, 16),
    feed_forward=DenseFeedForward(96),
)
SMALL = {
    "llama": _LLAMA,
    "llama, KV head on both ranks": replace(_LLAMA, attention=GroupedQueryAttention(8, 1, 16)),
    "llama, tied head": replace(_LLAMA, tied_embeddings=True),
    "qwen3": replace(
        _LLAMA, attention=GroupedQueryAttention(8, 2, 16, learned_qk_norm=True), family="qwen3"
    ),
    "deepseek": replace(DEEPSEEK, vocab_size=VOCAB),
    "llama4": replace(LLAMA4, vocab_size=VOCAB),
}
SAVED = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=80,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ),
    "deepseek": lambda: hugging_face(SMALL["deepseek"]),
    "llama4": lambda: hugging_face(SMALL["llama4"]),
}
FP32 = Precision.of("fp32")
SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())


def spawn(function, *arguments) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    start_server()
    multiprocessing.start_processes(
        _as_rank, (address, function, arguments), nprocs=SIZE, start_method="forkserver"
    )


def _as_rank(rank: int, address: str, function, arguments) -> None:
    torch.set_num_threads(1)
    timeout = timedelta(seconds=60)
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=SIZE, timeout=timeout
    )
    function(rank, *arguments)
    dist.destroy_process_group()


def generate(
    config: ModelConfig, shard: Shard, all_reduce: str, precision: str = "fp32"
) -> tuple[torch.Tensor, int]:
    """Logits of a prefill and of STEPS greedy steps, and how many parameters there are."""
    decoder = build_decoder(config, precision, "cpu", INPUT + STEPS, seed=3, shard=shard)
    kernels = KernelConfig(all_reduce=all_reduce)
    engine = make_engine("eager", decoder, 2, INPUT, INPUT + STEPS, kernels)
    prompt = torch.randint(VOCAB, (2, INPUT), generator=torch.Generator().manual_seed(1))
    engine.prefill(prompt)
    logits = [engine.logits.clone()]
    for _ in range(STEPS):
        engine.decode()
        logits.append(engine.logits.clone())
    memory = {
        parameter.untyped_storage().data_ptr(): parameter for parameter in decoder.parameters()
    }
    if config.tied_embeddings:  # the head's rows are part of the table
        memory.pop(decoder.lm_head.weight.untyped_storage().data_ptr())
        memory[0] = decoder.embed_tokens.weight
    return torch.stack(logits), sum(tensor.numel() for tensor in memory.values())


def _compare(rank: int) -> None:
    for name, config in SMALL.items():
        expected, _ = generate(config, Shard(), "none")
        logits, count = generate(config, Shard(rank, SIZE), "nccl")
        error = (logits - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert float(error.max()) < 1e-5, (name, error)
        assert count == config.sharded(SIZE).parameters, name
    for name in ("llama", "llama4"):
        shard = Shard(rank, SIZE)
        expected, _ = generate(SMALL[name], shard, "nccl", "bf16")
        with mock.patch.object(normed, "push_all_reduce_norm", wraps=push_all_reduce_norm) as push:
            pushed, _ = generate(SMALL[name], shard, "push", "bf16")
        assert torch.equal(pushed, expected), name
        # before attention, before the feed-forward network and before the head; not for 48 rows
        assert push.call_count == STEPS * (2 * SMALL[name].num_layers + 1) + 1


def test_ranks_give_the_logits_of_one_and_hold_what_was_counted():
    spawn(_compare)


@pytest.mark.parametrize("name", SMALL)
def test_shares_add_up_to_the_model(name):
    """All of it once, and what is on every rank once more for each further one."""
    config = SMALL[name]
    share = config.sharded(SIZE)
    on_every_rank = config.embedding_parameters + config.norm_parameters + config.fp32_parameters
    for layer in config.layers:
        attention, mixture = layer.attention, layer.feed_forward
        if hasattr(attention, "query_rank"):
            on_every_rank += config.hidden_size * (attention.query_rank + attention.cache_dim)
        elif attention.num_kv_heads < SIZE:
            on_every_rank += config.hidden_size * 2 * attention.num_kv_heads * attention.head_dim
        if hasattr(mixture, "router") and not mixture.router.in_fp32:
            on_every_rank += config.hidden_size * mixture.num_experts
    if config.tied_embeddings:
        assert share.head_parameters * SIZE == config.embedding_parameters
    assert share.parameters * SIZE == config.parameters + (SIZE - 1) * on_every_rank


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "llama-tiny"])
def test_every_preset_can_be_divided(name, size):
    model = MODELS[name]
    share = model.sharded(size)
    bound = 0.5 if size > 2 else 0.7
    assert model.parameters / size <= share.parameters < bound * model.parameters
    assert share.prefill_flops(1, 100) >= model.prefill_flops(1, 100) / size


def test_a_rank_keeps_the_kv_head_that_its_queries_use():
    four = GroupedQueryAttention(8, 2, 16).sharded(4)
    assert (four.num_heads, four.num_kv_heads) == (2, 1)
    with pytest.raises(ValueError, match="8 query heads can't be divided by 3"):
        GroupedQueryAttention(8, 2, 16).sharded(3)


@pytest.mark.parametrize("name", ["llama", "deepseek", "llama4"])
def test_shares_of_a_checkpoint_are_those_of_its_model(tmp_path, name):
    """Read by one rank and by each of two: the same shard of every weight."""
    SAVED[name]().save_pretrained(tmp_path)
    config = read_model(tmp_path)
    whole = empty_decoder(config, "fp32", "cpu")
    load_checkpoint(whole, tmp_path)
    for rank in range(SIZE):
        share = empty_decoder(config, "fp32", "cpu", Shard(rank, SIZE))
        load_checkpoint(share, tmp_path)
        parameters = dict(share.named_parameters())
        for path, weight in whole.named_parameters():
            kept = share.shards.get(path.removesuffix(".weight"))
            expected = torch.empty_like(parameters[path])
            expected.copy_(weight) if kept is None else kept.copy_shard(weight, expected)
            assert torch.equal(parameters[path], expected), path


def _meet(rank: int) -> None:
    group = Group(Shard(rank, SIZE), SIZE, dist.group.WORLD)
    assert group.all_gather(rank * 10) == [0, 10]
    assert group.broadcast(rank) == 0
    if rank == 1:
        group.report(("oom", "no memory"))
    else:
        with pytest.raises(PeerFailed, match="rank 1: no memory"):
            group.all_gather()
    assert group.all_gather(rank) == [0, 1]
    if rank == 1:
        group.interrupt()
    with pytest.raises(KeyboardInterrupt):
        group.all_gather()
    assert group.leave(130 if rank == 0 else None) == 130


def test_a_problem_or_an_interrupt_of_one_rank_is_known_to_all():
    spawn(_meet)


TINY = ["--model-name", "llama-tiny", "--num-layers", "2", "--device", "cpu", "--precision", "fp32"]
SHORT = ["--input-length", "30", "--output-length", "8"]
FEW = ["--num-iterations", "2", "--warmup-iterations", "1"]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def test_one_command_under_torchrun_gives_one_valid_result(tmp_path):
    """torchrun's agent and its ranks are forked; on several GPUs the last test types the command."""
    flags = ["--mode", "eager", *SHORT, *FEW, "--save-results", "--output-dir", str(tmp_path)]
    done = start_torchrun(SIZE, *TINY, *flags).wait()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("summary (") == 1
    assert done.stdout.count("saved: ") == 1
    (path,) = tmp_path.glob("*.json")
    assert_sharded(json.loads(path.read_text()))


def test_a_compiler_traces_what_a_rank_holds():
    flags = [*TINY, "--mode", "thunder", *SHORT, *FEW, "--json"]
    first, second = run_ranks(SIZE, *flags, prepare=thunder_tracing.shorten)
    assert (first.returncode, second.returncode, second.stdout) == (0, 0, ""), first.stderr
    assert_sharded(json.loads(first.stdout.splitlines()[-1]))


def assert_sharded(result: dict) -> None:
    """Valid, right and counted per rank, for TINY and SHORT."""
    import jsonschema  # GPU machines run the other tests of this file without it

    jsonschema.Draft202012Validator(SCHEMA).validate(result)
    assert result["config"]["tensor_parallel"] == 2
    assert result["environment"]["nodes"] == 1
    assert len(result["environment"]["ranks"]) == 2
    for cell in result["cells"]:
        assert cell["status"] == "ok"
        assert cell["output_check"]["passed"]
        rates = cell["summary"]["rates"]
        assert rates["per_gpu_tokens_per_s"] == rates["output_tokens_per_s"] / 2
        per_token = MODELS["llama-tiny"].with_layers(2).sharded(2).kv_bytes_per_token(FP32)
        assert cell["memory"]["kv_cache_bytes"] == per_token * (30 + 8)


def test_one_forward_on_two_ranks():
    flags = ["--workload", "forward", "--batch-size", "1", "2", "--input-length", "30", *FEW]
    first, second = run_ranks(SIZE, *TINY, "--mode", "eager", *flags, "--json")
    assert (first.returncode, second.returncode, second.stdout) == (0, 0, ""), first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert [cell["output_check"]["passed"] for cell in result["cells"]] == [True, True]
    assert all(cell["summary"]["n"] == 2 for cell in result["cells"])


def test_two_depths_are_the_same_on_every_rank():
    """Of times nothing is asked: ranks that wait for busy CPUs can turn two depths over."""
    flags = ["--model-name", "llama-tiny", "--device", "cpu", "--precision", "fp32", *SHORT, *FEW]
    done, other = run_ranks(SIZE, *flags, "--mode", "eager", "--extrapolate", "1", "3", "--json")
    assert done.returncode == other.returncode
    result = json.loads(done.stdout.splitlines()[-1])
    estimate, small, large = result["cells"]
    assert estimate["label"] == "eager b1 EST"
    assert small["output_check"]["passed"]
    assert large["output_check"]["passed"]
    share = MODELS["llama-tiny"].sharded(2)
    assert estimate["memory"]["weights_bytes"] == share.weight_bytes(FP32)
    assert small["memory"]["weights_bytes"] == share.with_layers(1).weight_bytes(FP32)


def test_what_cannot_be_divided_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert benchmark_inference.main([*TINY, "--mode", "eager"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 ranks: llama-tiny: 1000 tokens can't be divided by 3" in line


def test_an_error_is_said_once():
    done = start_torchrun(SIZE, *TINY, "--mode", "eager", *SHORT, "--all-reduce", "one_shot").wait()
    assert done.returncode != 0
    assert done.stderr.count("--all-reduce one_shot is a GPU kernel") == 1


def has_two_rounds(directory) -> bool:
    cells = [json.loads(path.read_text())["cells"][0] for path in directory.glob("*.json")]
    return any(len((cell["samples"] or {"round": []})["round"]) >= 2 for cell in cells)


def ranks_of(process: Program) -> list[int]:
    """Process ids of the ranks, in their order."""
    listed = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
    )
    return sorted(int(pid) for pid in listed.stdout.split())


LONG = ["--mode", "eager", *SHORT, "--num-iterations", "5000", "--save-results"]


def test_a_killed_rank_ends_the_session(tmp_path):
    process = start_torchrun(SIZE, *TINY, *LONG, "--output-dir", str(tmp_path))
    process.wait_until(lambda: has_two_rounds(tmp_path))
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    done = process.wait()
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "rank is gone" in done.stderr
    (path,) = tmp_path.glob("*.json")
    result = json.loads(path.read_text())
    # what the rest saw first: that a rank is gone, or the signal by which torchrun ends them
    assert result["state"] in ("running", "failed", "interrupted")
    assert len(result["cells"][0]["samples"]["metrics"]["ttft_s"]) >= 2


def test_ctrl_c_saves_what_was_measured(tmp_path):
    process = start_torchrun(SIZE, *TINY, *LONG, "--output-dir", str(tmp_path))
    process.wait_until(lambda: has_two_rounds(tmp_path))
    process.signal(signal.SIGINT)
    done = process.wait()
    assert done.returncode != 0
    assert "interrupted" in done.stdout
    (path,) = tmp_path.glob("*.json")
    (cell,) = json.loads(path.read_text())["cells"]
    assert (cell["stop_reason"], cell["status"]) == ("interrupted", "partial")


def run_on_gpus(program: str, *arguments: str) -> str:
    """What rank 0 prints."""
    if torch.cuda.device_count() < SIZE:
        pytest.skip(f"needs {SIZE} GPUs")
    done = subprocess.run(
        [*TORCHRUN, str(SIZE), program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("modes", "all_reduce"),
    [
        ("eager+graphs inductor", "nccl"),
        ("eager+graphs inductor", "one_shot"),
        ("eager+graphs+kernels inductor+kernels", "push"),
    ],
)
def test_the_captured_step_is_right_on_several_gpus(modes, all_reduce):
    flags = "--model-name llama3.1-8b --num-layers 4 --input-length 200 --output-length 40 "
    flags += f"--mode {modes} --num-iterations 3 --json --all-reduce {all_reduce}"
    printed = run_on_gpus("benchmark_inference.py", *flags.split())
    result = json.loads(printed.splitlines()[-1])
    assert result["environment"]["gpu"]["count"] == SIZE
    for cell in result["cells"]:
        assert cell["options"]["all_reduce"] == all_reduce
        assert cell["output_check"]["passed"]
        assert len(cell["gpu_state"]["per_gpu"]) == SIZE


@pytest.mark.gpu
def test_pushed_rows_are_the_same_on_all_ranks_whoever_is_late():
    assert "the ranks agree" in run_on_gpus("tests/parallel/pushing_ranks.py")
