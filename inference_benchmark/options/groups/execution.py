"""How the model is executed."""

from dataclasses import dataclass

from inference_benchmark.engines import shown
from inference_benchmark.engines.base import MAX_CAPTURED_PROMPT_TOKENS
from inference_benchmark.engines.spec import COMPILE_MODES, EXECUTORS
from inference_benchmark.options import values
from inference_benchmark.options.flag import flag
from inference_benchmark.workloads import PARTS


@dataclass(frozen=True, kw_only=True)
class ExecutionFlags:
    mode: tuple[str, ...] = flag(
        "execution",
        f"NAME[:EXECUTORS][+graphs|+nographs][+kernels], NAME one of {', '.join(shown())}: as "
        "their makers ship them; +kernels: with this project's kernels; several are measured in "
        "turn (default: thunder)",
        nargs="+",
        default=("thunder",),
        metavar="MODE",
    )
    pytorch_base: bool = flag(
        "execution",
        "measure plain PyTorch in fp32 as the cell pytorch-base, beside what --mode names",
        default=False,
    )
    pytorch_optimised: bool = flag(
        "execution",
        "measure torch.compile in fp16 as the cell pytorch-optimised; with --pytorch-base also "
        "pytorch-fp16, against which both show what precision and compiling bring",
        default=False,
    )
    thunder_executors: str = flag(
        "execution",
        f"comma-separated, of {', '.join(EXECUTORS)} (default: thunder's own choice)",
        default="",
        metavar="LIST",
    )
    thunder_options: str = flag(
        "execution",
        "comma-separated NAME=VALUE that thunder.jit takes, such as nv_enable_linear=true "
        "(default: none)",
        default="",
        metavar="LIST",
        role="condition",
    )
    compile_mode: str = flag(
        "execution",
        f"torch.compile's mode, for inductor: {', '.join(COMPILE_MODES)} (default: default)",
        choices=COMPILE_MODES,
        metavar="MODE",
        default="default",
        role="condition",
    )
    compile_scope: str = flag(
        "execution",
        "compile one layer and reuse it, the whole model, or the whole decode step with the choice "
        "of the next token (default: layer)",
        choices=("layer", "model", "step"),
        default="layer",
        role="condition",
        not_for=PARTS,
    )
    sampling: str | None = flag(  # None: greedy, which older files do not name
        "execution",
        "of the next token: the most likely one, or one drawn from the distribution, seeded "
        "(default: greedy; multinomial for --prompt)",
        choices=("greedy", "multinomial"),
        role="condition",
        serves=("generation",),
    )
    temperature: float | None = flag(
        "execution",
        "of --sampling multinomial (default: 1), of the answer to --prompt (default: 0.85)",
        parse=values.temperature,
        metavar="T",
        role="condition",
        needs=("sampling", "prompt"),
    )
    top_k: int | None = flag(
        "execution",
        "of both: among the K most likely tokens (default: all)",
        parse=values.positive_int,
        metavar="K",
        role="condition",
        needs=("sampling", "prompt"),
    )
    cuda_graphs: str = flag(
        "execution",
        "capture the decode step; auto: on for thunder and inductor, off for eager (default: auto)",
        choices=("auto", "on", "off"),
        default="auto",
        not_for=PARTS,
    )
    capture_prompts: bool = flag(
        "execution",
        "where decode steps are captured, capture the prompt too, of up to "
        f"{MAX_CAPTURED_PROMPT_TOKENS} tokens in all sequences",
        default=False,
        role="condition",
        serves=("generation",),
    )
    attention: str = flag(
        "execution",
        "of a decode step; flash_decode: our kernel; the others are PyTorch's; auto: flash_decode "
        "in modes with +kernels, flex in inductor, sdpa in plain eager and on a CPU, else matmul "
        "(default: auto)",
        choices=("auto", "sdpa", "matmul", "flex", "flash_decode"),
        default="auto",
        role="condition",
    )
    linear: str = flag(
        "execution",
        "of up to 32 tokens, of few tokens' experts, and the greedy choice; auto: gemv, our kernels, in "
        "modes with +kernels, else torch (default: auto)",
        choices=("auto", "torch", "gemv"),
        default="auto",
        role="condition",
    )
    all_reduce: str | None = flag(
        "execution",
        "of a decode step on several GPUs (start with torchrun), for small messages; one_shot: "
        "PyTorch's kernel; push: ours, with the addition and norm behind it; auto: nccl in plain "
        "eager, push in modes with +kernels, else one_shot, where they work (default: auto)",
        choices=("auto", "nccl", "one_shot", "push"),
        default="auto",
        role="condition",
    )
    engine_python: tuple[tuple[str, str], ...] = flag(
        "execution",
        "the Python that an engine in a process of its own runs in: vllm=/venv/bin/python "
        "(default: this one)",
        parse=values.engine_python,
        nargs="+",
        default=(),
        metavar="ENGINE=PATH",
    )
    engine_timeout: float = flag(
        "execution",
        "seconds that one call of an engine in a process of its own may take before it is given up: "
        "its start, or a run (default: 1800)",
        parse=values.seconds,
        default=1800.0,
        metavar="S",
    )
    ollama_url: str = flag(
        "execution",
        "Ollama's server, for mode ollama (default: http://127.0.0.1:11434)",
        parse=values.url,
        default="http://127.0.0.1:11434",
        metavar="URL",
    )
    device: str = flag(
        "execution",
        "default: auto",
        choices=("auto", "cuda", "cpu"),
        default="auto",
        role="record",
    )
