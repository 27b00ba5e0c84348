"""A bare loop over an engine's own API: what a session's figures of that engine are held against.

    python tests/audit/write_model.py llama3.2-1b FOLDER
    python tests/audit/bare_loops.py vllm FOLDER --input-length 1000 --output-length 1000 --output x.json

FOLDER has a config.json, for llama.cpp model.gguf beside it, and weights where there are any; without
them they are random ones of the engine's own. Nothing of this project is imported, so the engine's own
Python runs it: no worker, no check, and without --stream no streamer, just calls that its users make.
TTFT is the time of a call for one token, TBOT what a call for all of them takes beyond it, over the
others. Lengths are those of the session that it is held against: the same prompt, the same depth of the
cache.

tinygrad's Llama is this project's own, so there is no other loop over it to hold it against.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path
from statistics import median

RUNS = 3


def vllm_call(folder: str, lengths: tuple[int, int], batch: int, device: str):
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    from vllm import LLM, SamplingParams

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

    def call(prompts: list[list[int]], count: int) -> None:
        sampling = SamplingParams(
            temperature=0, ignore_eos=True, detokenize=False, max_tokens=count
        )
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = llm.generate(inputs, sampling, use_tqdm=False)
        assert all(len(output.outputs[0].token_ids) == count for output in outputs)

    return call


def transformers_call(
    folder: str, lengths: tuple[int, int], batch: int, device: str, streams: bool = False
):
    """Its compiled static cache on a GPU; on a CPU it compiles nothing unasked. streams: with a streamer
    that does nothing, but for which `generate` brings each token to the host."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.generation.streamers import BaseStreamer

    class Ignoring(BaseStreamer):
        def put(self, value):
            pass

        def end(self):
            pass

    config = AutoConfig.from_pretrained(folder)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()

    def call(prompts: list[list[int]], count: int) -> None:
        ids = torch.tensor(prompts, device=device)
        settings = GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=None, cache_implementation="static"
        )
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            streamer=Ignoring() if streams else None,
        ).tolist()
        assert all(len(row) == lengths[0] + count for row in output)

    return call


def llama_cpp_call(folder: str, lengths: tuple[int, int], batch: int, device: str):
    """llama_decode, token by token, as its examples do; the host takes the largest logit."""
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
        settings.n_threads = settings.n_threads_batch = len(os.sched_getaffinity(0))
    context = llama_cpp.llama_init_from_model(model, settings)
    cache = llama_cpp.llama_get_memory(context)
    tokens = llama_cpp.llama_batch_init(batch * lengths[0], 0, 1)

    def add(token: int, position: int, sequence: int, wants_logits: bool) -> None:
        place = tokens.n_tokens
        tokens.token[place], tokens.pos[place] = token, position
        tokens.n_seq_id[place], tokens.seq_id[place][0] = 1, sequence
        tokens.logits[place] = wants_logits
        tokens.n_tokens += 1

    def chosen(places: list[int]) -> list[int]:
        assert llama_cpp.llama_decode(context, tokens) == 0
        rows = (llama_cpp.llama_get_logits_ith(context, place) for place in places)
        return [int(np.ctypeslib.as_array(row, (vocab_size,)).argmax()) for row in rows]

    def call(prompts: list[list[int]], count: int) -> None:
        llama_cpp.llama_memory_clear(cache, False)
        tokens.n_tokens = 0
        last = lengths[0] - 1
        for sequence, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                add(token, position, sequence, position == last)
        newest = chosen([(sequence + 1) * lengths[0] - 1 for sequence in range(batch)])
        for position in range(lengths[0], lengths[0] + count - 1):
            tokens.n_tokens = 0
            for sequence, token in enumerate(newest):
                add(token, position, sequence, True)
            newest = chosen(list(range(batch)))

    return call


# By the mode whose figures they are held against.
CALLS = {
    "vllm": vllm_call,
    "llama.cpp": llama_cpp_call,
    "transformers+static+compile": transformers_call,
}
STREAMED = "transformers+static+compile"  # what --stream is for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=CALLS)
    parser.add_argument("folder")
    parser.add_argument("--input-length", type=int, default=1000)
    parser.add_argument("--output-length", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--stream", action="store_true", help=f"of {STREAMED}: with a streamer")
    parser.add_argument("--output", type=Path)
    flags = parser.parse_args()
    if flags.stream and flags.engine != STREAMED:
        parser.error(f"--stream is for {STREAMED}")
    lengths = (flags.input_length, flags.output_length)
    vocab = json.loads((Path(flags.folder) / "config.json").read_text())["vocab_size"]
    options = {"streams": True} if flags.stream else {}
    call = CALLS[flags.engine](flags.folder, lengths, flags.batch_size, flags.device, **options)

    def timed(count: int) -> float:
        prompts = [random.choices(range(vocab), k=lengths[0]) for _ in range(flags.batch_size)]
        started = time.perf_counter()
        call(prompts, count)
        return time.perf_counter() - started

    for count in (1, lengths[1], lengths[1]):
        timed(count)
    first_s, all_s = ([timed(count) for _ in range(flags.runs)] for count in (1, lengths[1]))
    ttft_s, total_s = median(first_s), median(all_s)
    record = {
        "engine": flags.engine,
        "model": Path(flags.folder).name,
        "input_length": lengths[0],
        "output_length": lengths[1],
        "batch_size": flags.batch_size,
        "device": flags.device,
        "streams": flags.stream,
        "ttft_s": ttft_s,
        "tbot_s": (total_s - ttft_s) / (lengths[1] - 1),
        "total_s": total_s,
        "runs": {"first_s": first_s, "all_s": all_s},
    }
    print(json.dumps(record))
    if flags.output is not None:
        flags.output.write_text(json.dumps(record))


if __name__ == "__main__":
    main()
