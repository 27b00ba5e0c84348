"""A bare loop over an engine's own API: what a session's figures of that engine are held against.

    python tests/audit/write_model.py llama3.2-1b FOLDER
    python tests/audit/bare_loops.py vllm FOLDER --input-length 1000 --output-length 1000 --output x.json

FOLDER has a config.json, for llama.cpp model.gguf beside it, and weights where there are any; without
them they are random ones of the engine's own. Nothing of this project is imported, so the engine's own
Python runs it: no worker, no check, just the calls that its users make.

A run is one generation of all tokens after prompts that are new, of a session's lengths: the same depth
of the cache. Prompts are brought into the form that the engine's call takes before the clock starts.
TTFT is when every sequence has its first token, the total when every one has its last, TBOT what lies
between over the others: a session means the same by them. As there, no garbage is collected meanwhile.

tinygrad's Llama is this project's own, so there is no other loop over it to hold it against.
"""

import argparse
import gc
import json
import os
import random
import time
from itertools import count
from pathlib import Path
from statistics import median

RUNS, WARMUPS = 3, 2


def vllm_loop(folder: str, lengths: tuple[int, int], batch: int, device: str):
    """add_request for each prompt, then step until no request is unfinished.

    On a GPU vLLM schedules asynchronously unless told otherwise, in this process too (0.26:
    InprocClient calls EngineCore.step_with_batch_queue, with a queue of two batches; on a CPU
    EngineCore.step). So the first `step` starts the prompt and returns nothing; the second schedules
    and starts the step that follows, then waits for the prompt's token. A first token comes behind the
    host's part of that step, in a loop and in a session, but not in a generation of one token, which
    nothing follows.
    """
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    has_weights = bool(list(Path(folder).glob("*.safetensors")))
    options = {"compilation_config": {"cudagraph_capture_sizes": [batch]}}
    if device == "cpu":
        options = {"enforce_eager": True}
    llm = LLM(
        model=folder,
        skip_tokenizer_init=True,
        load_format="auto" if has_weights else "dummy",
        enable_prefix_caching=False,
        max_model_len=sum(lengths),
        max_num_seqs=batch,
        max_num_batched_tokens=max(batch * lengths[0], sum(lengths)),
        gpu_memory_utilization=0.5,
        **options,
    )
    engine = llm.llm_engine
    # DELTA: an output holds what is new, as for one who streams.
    sampling = SamplingParams(
        n=1,
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        max_tokens=lengths[1],
        output_kind=RequestOutputKind.DELTA,
    )
    names = map(str, count())

    def run(prompts: list[list[int]]) -> tuple[float, float]:
        requests = {next(names): {"prompt_token_ids": prompt} for prompt in prompts}
        lacking, num_tokens, first_s, last_s = set(requests), 0, 0.0, 0.0
        started = time.perf_counter()
        for name, prompt in requests.items():
            engine.add_request(name, prompt, sampling)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            if not outputs:
                continue
            last_s = time.perf_counter() - started
            num_tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
            if lacking:
                lacking -= {output.request_id for output in outputs if output.outputs[0].token_ids}
                first_s = last_s
        assert num_tokens == batch * lengths[1], num_tokens
        return first_s, last_s

    return run


def transformers_loop(
    folder: str, lengths: tuple[int, int], batch: int, device: str, streams: bool = True
):
    """generate with a static cache, which it compiles on a GPU; on a CPU it compiles nothing unasked.

    A streamer is put the prompt, then each step's tokens when they are on the host. The cache is one
    for all runs, emptied by each: asked for by name (cache_implementation), `generate` would make
    another in every call, one slot shorter. streams False: without a streamer the time of a first token
    is not known.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, StaticCache
    from transformers.generation.streamers import BaseStreamer

    class Times(BaseStreamer):
        def __init__(self):
            self.sizes, self.times = [], []

        def put(self, value):
            self.times.append(time.perf_counter())
            self.sizes.append(value.numel())

        def end(self):
            pass

    config = AutoConfig.from_pretrained(folder)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()
    cache = StaticCache(config=model.config, max_cache_len=sum(lengths))
    settings = GenerationConfig(max_new_tokens=lengths[1], do_sample=False, eos_token_id=None)

    def run(prompts: list[list[int]]) -> tuple[float | None, float]:
        ids = torch.tensor(prompts, device=device)
        mask = torch.ones_like(ids)
        streamer = Times() if streams else None
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        cache.reset()
        output = model.generate(
            ids,
            attention_mask=mask,
            generation_config=settings,
            past_key_values=cache,
            streamer=streamer,
        )
        rows = output.tolist()
        ended = time.perf_counter()
        assert [len(row) for row in rows] == [sum(lengths)] * batch
        if streamer is None:
            return None, ended - started
        assert streamer.sizes == [batch * lengths[0]] + [batch] * lengths[1], streamer.sizes[:3]
        return streamer.times[1] - started, streamer.times[-1] - started

    return run


def llama_cpp_loop(folder: str, lengths: tuple[int, int], batch: int, device: str):
    """llama_decode, token by token, as its examples do; the host takes the largest logit.

    What a step's batch holds but for tokens and positions is written once, and the prompts' batch
    before the clock starts.
    """
    import llama_cpp
    import numpy as np

    on_gpu = device == "cuda"
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.n_gpu_layers = 10_000 if on_gpu else 0
    path = str(Path(folder) / "model.gguf").encode()
    model = llama_cpp.llama_model_load_from_file(path, settings)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    settings = llama_cpp.llama_context_default_params()
    settings.n_seq_max = batch
    settings.n_ctx = batch * -(-sum(lengths) // 256) * 256  # slots come in 256s
    settings.n_batch = max(settings.n_batch, batch * lengths[0])
    if on_gpu:
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        settings.type_k = settings.type_v = 30  # bf16
    else:  # more threads than CPUs wait for each other
        num_threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
        settings.n_threads = settings.n_threads_batch = num_threads
    context = llama_cpp.llama_init_from_model(model, settings)
    cache = llama_cpp.llama_get_memory(context)

    def new_batch(length: int):
        """Room for so many tokens of each sequence, one after the other, logits of the last of each;
        and its tokens and positions [sequences, length]."""
        tokens = llama_cpp.llama_batch_init(batch * length, 0, 1)
        tokens.n_tokens = batch * length
        for place in range(batch * length):
            tokens.n_seq_id[place], tokens.seq_id[place][0] = 1, place // length
            tokens.logits[place] = place % length == length - 1
        views = (
            np.ctypeslib.as_array(part, (batch, length)) for part in (tokens.token, tokens.pos)
        )
        return tokens, *views

    prompt_batch, prompt_tokens, prompt_positions = new_batch(lengths[0])
    prompt_positions[:] = np.arange(lengths[0])
    step_batch, step_tokens, step_positions = new_batch(1)

    def chosen(tokens, length: int) -> list[int]:
        assert llama_cpp.llama_decode(context, tokens) == 0
        places = range(length - 1, batch * length, length)
        rows = (llama_cpp.llama_get_logits_ith(context, place) for place in places)
        return [int(np.ctypeslib.as_array(row, (vocab_size,)).argmax()) for row in rows]

    def run(prompts: list[list[int]]) -> tuple[float, float]:
        llama_cpp.llama_memory_clear(cache, False)
        prompt_tokens[:] = prompts
        started = time.perf_counter()
        step_tokens[:, 0] = chosen(prompt_batch, lengths[0])
        first_s = time.perf_counter() - started
        for position in range(lengths[0], sum(lengths) - 1):
            step_positions[:] = position
            step_tokens[:, 0] = chosen(step_batch, 1)
        return first_s, time.perf_counter() - started

    return run


# By the mode whose figures they are held against.
LOOPS = {
    "vllm": vllm_loop,
    "llama.cpp": llama_cpp_loop,
    "transformers+static+compile": transformers_loop,
}
STREAMED = "transformers+static+compile"  # what --no-stream is for


def timed(run, vocab_size: int, input_length: int, batch: int) -> tuple[float | None, float]:
    """(first token, last token) of one run over prompts of its own, in seconds."""
    prompts = [random.choices(range(vocab_size), k=input_length) for _ in range(batch)]
    gc.collect()
    gc.disable()
    try:
        return run(prompts)
    finally:
        gc.enable()


def record(flags: argparse.Namespace, times: list[tuple[float | None, float]]) -> dict:
    """What is saved: medians over runs, TBOT's of each run's own; null where nothing was streamed."""
    others = flags.output_length - 1
    first_s = [first for first, _ in times if first is not None]
    tbot_s = [(last - first) / others for first, last in times if first is not None]
    all_s = [last for _, last in times]
    return {
        "engine": flags.engine,
        "model": Path(flags.folder).name,
        "input_length": flags.input_length,
        "output_length": flags.output_length,
        "batch_size": flags.batch_size,
        "device": flags.device,
        "streams": not flags.no_stream,
        "ttft_s": median(first_s) if first_s else None,
        "tbot_s": median(tbot_s) if tbot_s else None,
        "total_s": median(all_s),
        "runs": {"first_s": first_s, "all_s": all_s},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=LOOPS)
    parser.add_argument("folder")
    parser.add_argument("--input-length", type=int, default=1000)
    parser.add_argument("--output-length", type=int, default=1000, help="at least 2")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--warmup-runs", type=int, default=WARMUPS)
    parser.add_argument(
        "--no-stream", action="store_true", help=f"of {STREAMED}: no streamer, the total alone"
    )
    parser.add_argument("--output", type=Path)
    flags = parser.parse_args()
    if flags.no_stream and flags.engine != STREAMED:
        parser.error(f"--no-stream is for {STREAMED}")
    if flags.output_length < 2:
        parser.error("--output-length: a first token and others, so 2 at least")
    lengths = (flags.input_length, flags.output_length)
    config = Path(flags.folder) / "config.json"
    if not config.is_file():
        parser.error(f"{config} is not there: tests/audit/write_model.py makes such a folder")
    vocab_size = json.loads(config.read_text())["vocab_size"]
    options = {"streams": False} if flags.no_stream else {}
    run = LOOPS[flags.engine](flags.folder, lengths, flags.batch_size, flags.device, **options)
    times = [
        timed(run, vocab_size, lengths[0], flags.batch_size)
        for _ in range(flags.warmup_runs + flags.runs)
    ]
    saved = json.dumps(record(flags, times[flags.warmup_runs :]))
    print(saved)
    if flags.output is not None:
        flags.output.write_text(saved)


if __name__ == "__main__":
    main()
