"""A bare loop over an engine's own API: what a session's figures of that engine are held against.

    python tests/audit/bare_loops.py vllm FOLDER --input-length 1000 --output-length 1000 --output x.json

FOLDER has a config.json, and weights where there are any; without them they are random ones of the
engine's own. Nothing of this project is imported, so the engine's own Python runs it: no worker, no
streamer, no check, just the call that its users make. TTFT is the time of a call for one token, TBOT
what a call for all of them takes beyond it, over the others.
"""

import argparse
import json
import random
import time
from pathlib import Path
from statistics import median

RUNS = 3


def vllm_call(folder: str, lengths: tuple[int, int], batch: int, device: str):
    import os

    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    from vllm import LLM, SamplingParams

    has_weights = bool(list(Path(folder).glob("*.safetensors")))
    options = {"enforce_eager": True} if device == "cpu" else {}
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


def transformers_call(folder: str, lengths: tuple[int, int], batch: int, device: str):
    """Its compiled static cache on a GPU; on a CPU it compiles nothing unasked."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(folder)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()

    def call(prompts: list[list[int]], count: int) -> None:
        ids = torch.tensor(prompts, device=device)
        settings = GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=None, cache_implementation="static"
        )
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=settings
        ).tolist()
        assert all(len(row) == lengths[0] + count for row in output)

    return call


CALLS = {"vllm": vllm_call, "transformers": transformers_call}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=CALLS)
    parser.add_argument("folder")
    parser.add_argument("--input-length", type=int, default=1000)
    parser.add_argument("--output-length", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    flags = parser.parse_args()
    lengths = (flags.input_length, flags.output_length)
    vocab = json.loads((Path(flags.folder) / "config.json").read_text())["vocab_size"]
    call = CALLS[flags.engine](flags.folder, lengths, flags.batch_size, flags.device)

    def timed(count: int) -> float:
        prompts = [random.choices(range(vocab), k=lengths[0]) for _ in range(flags.batch_size)]
        started = time.perf_counter()
        call(prompts, count)
        return time.perf_counter() - started

    for count in (1, lengths[1], lengths[1]):
        timed(count)
    first_s, all_s = ([timed(count) for _ in range(RUNS)] for count in (1, lengths[1]))
    ttft_s, total_s = median(first_s), median(all_s)
    record = {
        "engine": flags.engine,
        "input_length": lengths[0],
        "output_length": lengths[1],
        "batch_size": flags.batch_size,
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
