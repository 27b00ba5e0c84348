"""Requests that can't be served: each a command with its exit code and words that it must say."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK, COMPARE = "benchmark_inference.py", "compare_results.py"
REQUEST, CANNOT_RUN = 2, 3


@dataclass(frozen=True)
class Trial:
    """One command that can't be served; {folder} in its arguments is an empty folder.

    prepare: puts files into that folder first.
    """

    group: str
    case: str
    arguments: tuple[str, ...]
    code: int
    words: str
    program: str = BENCHMARK
    prepare: Callable[[Path], None] | None = field(default=None, compare=False)
    environment: dict[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.group}: {self.case}"

    def command(self, folder: Path) -> list[str]:
        """What follows the program's name."""
        arguments = [argument.replace("{folder}", str(folder)) for argument in self.arguments]
        return [*arguments, "--device", "cpu"] if self.program == BENCHMARK else arguments


def values() -> list[Trial]:
    def wrong(case: str, *arguments: str, words: str, code: int = REQUEST, **settings) -> Trial:
        return Trial("values", case, arguments, code, words, **settings)

    torchrun = {"RANK": "0", "WORLD_SIZE": "2"}
    return [
        wrong("a batch size of 20 digits", "--batch-size", "9" * 20, words="2147483647 or less"),
        wrong("a batch size of 5,000 digits", "--batch-size", "9" * 5000, words="is no number"),
        wrong("a batch that fits nowhere", "--batch-size", "999999999", "--mode", "eager",
              code=CANNOT_RUN, words="would fit: --batch-size"),
        wrong("no number", "--input-length", "2k", words="invalid whole number value: '2k'"),
        wrong("a negative number", "--output-length", "-5", words="must be 1 or more"),
        wrong("1e308 seconds", "--max-seconds", "1e308", words="or less, not 1e308"),
        wrong("a price of infinity", "--gpu-price", "inf", words="or less, not inf"),
        wrong("an interval of nan", "--target-ci", "nan", words="must be over 0"),
        wrong("GB/s where TB/s are meant", "--gpu-bandwidth", "3350", words="no GPU has 3350 TB/s"),
        wrong("another unit", "--gpu-bandwidth", "4.8TFLOP/s", words="is no rate"),
        wrong("an impossible peak", "--gpu-peak", "989000000", words="no GPU has"),
        wrong("a model's name misspelt", "--model-name", "llama3.1-8c", words="did you mean"),
        wrong("a mode's name misspelt", "--mode", "inducter", words="did you mean inductor?"),
        wrong("a scenario's name misspelt", "--scenario", "chatt", words="did you mean chat?"),
        wrong("a flag's name misspelt", "--modle-name", "x", words="did you mean --model-name?"),
        wrong("a flag's name cut short", "--session", "3", words="did you mean --sessions?"),
        wrong("a choice misspelt", "--precision", "bf61", words="did you mean bf16?"),
        wrong("a value for a switch", "--quiet=yes", words="takes no value"),
        wrong("a folder whose name is empty", "--output-dir", "", words="is empty"),
        wrong("a folder for results that nothing saves", "--output-dir", "here",
              words="does nothing without --save-results"),
        wrong("a scenario with a length", "--scenario", "chat", "--input-length", "9",
              words="a scenario sets both lengths"),
        wrong("a compile mode without inductor", "--mode", "eager", "--compile-mode",
              "max-autotune", words="needs --mode inductor"),
        wrong("executors given twice", "--mode", "thunder:sdpa", "--thunder-executors",
              "inductor", words="names its own executors"),
        wrong("a flag given twice", "--seed", "1", "--seed", "2", words="is given twice"),
        wrong("flags that exclude each other", "--num-iterations", "5", "--max-seconds", "3",
              words="exclude each other"),
        wrong("more context than the model has", "--model-name", "llama2-7b", "--scenario",
              "reasoning", words="has a context of 4096"),
        wrong("a model that does not fit", "--model-name", "llama3.1-405b", "--mode", "eager",
              code=CANNOT_RUN, words="needs about"),
        wrong("a GPU's kernel on a CPU", "--attention", "flash_decode", code=CANNOT_RUN,
              words="is a GPU kernel"),
        wrong("CUDA graphs on a CPU", "--mode", "eager+graphs", words="need a CUDA GPU"),
        wrong("TensorRT on a CPU", "--mode", "tensorrt", code=CANNOT_RUN, words="a CUDA GPU"),
        wrong("Ollama without its server", "--mode", "ollama", "--ollama-url", "http://127.0.0.1:9",
              code=CANNOT_RUN, words="ollama serve"),
        wrong("a URL that is none", "--mode", "ollama", "--ollama-url", "localhost",
              words="is not http://HOST:PORT"),
        wrong("escapes in a name", "--scenario", "chat\x1b[31m\nchat", words=r"chat\x1b[31m chat"),
        wrong("WORLD_SIZE=abc", "--mode", "eager", environment=torchrun | {"WORLD_SIZE": "abc"},
              words="WORLD_SIZE is 'abc'"),
        wrong("more ranks than the model divides by", "--mode", "eager",
              environment=torchrun | {"WORLD_SIZE": "3"}, words="2 would do"),
        wrong("a folder that can't be made", "--save-results", "--output-dir", "/proc/nowhere",
              code=CANNOT_RUN, words="can't be written"),
        wrong("a file that is there", "--output", "{folder}/a.json", prepare=touch("a.json"),
              words="exists; --overwrite replaces it"),
        wrong("a folder as the file", "--output", "{folder}", words="is a directory"),
        wrong("a device as the file", "--output", "/dev/null", "--overwrite",
              words="is not a regular file"),
    ]  # fmt: skip


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def checkpoints() -> list[Trial]:
    def broken(
        case: str, words: str, config: object = None, flags: tuple[str, ...] = (), **files: object
    ) -> Trial:
        if config is not None:
            files["config.json"] = config
        files.setdefault("model.safetensors", safetensors({}))
        flags = ("--mode", "eager", "--model-path", "{folder}", *flags)
        return Trial(
            "checkpoints", case, flags, CANNOT_RUN, words, prepare=lambda folder: put(folder, files)
        )

    def changed(case: str, words: str, **fields: object) -> Trial:
        return broken(case, words, LLAMA | fields)

    def gguf(case: str, content: bytes, words: str) -> Trial:
        flags = ("--mode", "eager", "--model-path", "{folder}/model.gguf")
        files = {"model.gguf": content}
        return Trial(
            "checkpoints", case, flags, CANNOT_RUN, words, prepare=lambda folder: put(folder, files)
        )

    index = "model.safetensors.index.json"
    return [
        Trial("checkpoints", "no such folder", ("--model-path", "{folder}/none"), CANNOT_RUN,
              "--model-path"),
        Trial("checkpoints", "an empty folder", ("--model-path", "{folder}"), CANNOT_RUN,
              "--model-path"),
        Trial("checkpoints", "pickles only", ("--model-path", "{folder}"), CANNOT_RUN,
              "a pickle", prepare=touch("pytorch_model.bin")),
        broken("no config.json", "config.json"),
        broken("a config.json that is cut off", "config.json", '{"architectures": ["Llama'),
        broken("a config.json that is a list", "config.json", []),
        broken("a config.json of 100,000 brackets", "config.json", "[" * 100_000),
        Trial("checkpoints", "a named pipe as config.json", ("--model-path", "{folder}"),
              CANNOT_RUN, "config.json", prepare=named_pipe),
        broken("an unknown architecture", "unsupported", {"architectures": ["GPT2LMHeadModel"]}),
        changed("no vocabulary", "vocab_size", vocab_size=None),
        changed("a number of layers that is a boolean", "num_hidden_layers",
                num_hidden_layers=True),
        changed("1e30 layers", "num_hidden_layers", num_hidden_layers=1e30),
        changed("1e9 layers", "num_hidden_layers", num_hidden_layers=1_000_000_000),
        changed("a rope_theta that is a text", "rope_theta", rope_theta="10000"),
        changed("heads that do not divide", "num_key_value_heads", num_key_value_heads=3),
        broken("an index that is a list", index, LLAMA, **{index: {"weight_map": [1]}}),
        broken("an index that leaves the folder", "/etc/passwd", LLAMA,
               **{index: {"weight_map": {"lm_head.weight": "../../../../etc/passwd"}}}),
        broken("weights that are missing", "missing", LLAMA),
        broken("weights that are cut off", "model.safetensors", LLAMA,
               **{"model.safetensors": b"\x10\x00"}),
        gguf("a GGUF file that is cut off", b"GGUF\x03", "truncated or damaged"),
        gguf("a GGUF file that is none", b"PK\x03\x04", "does not begin with GGUF"),
        gguf("a GGUF file of another architecture", b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
             "unsupported architecture none"),
        Trial("checkpoints", "a question without a model", ("--prompt", "Why?"), REQUEST,
              "without --model-path"),
        broken("a question without a tokenizer", "holds no tokenizer.json", LLAMA,
               flags=("--prompt", "Why?")),
        Trial("checkpoints", "a question with a scenario", ("--prompt", "Why?", "--model-path",
              "{folder}", "--scenario", "chat"), REQUEST, "--scenario does nothing"),
    ]  # fmt: skip


def result_files() -> list[Trial]:
    def broken(case: str, content: object, words: str) -> Trial:
        return Trial(
            "result files", case, ("{folder}/a.json",), REQUEST, words, COMPARE,
            lambda folder: put(folder, {"a.json": content}),
        )  # fmt: skip

    sample = json.loads((ROOT / "tests" / "reporting" / "version_1.json").read_text())

    def changed(**fields: object) -> dict:
        return sample | fields

    def with_times(time: object) -> dict:
        (first, *others) = sample["cells"]
        samples = {**first["samples"], "ttft_s": [time] * len(first["samples"]["ttft_s"])}
        return sample | {"cells": [first | {"samples": samples}, *others]}

    return [
        Trial("result files", "no such file", ("{folder}/none.json",), REQUEST, "can't be read",
              COMPARE),
        broken("an empty file", "", "is empty"),
        broken("no JSON", "model: llama", "is not JSON, or is truncated"),
        broken("a file that is cut off", json.dumps(sample)[:-500], "is truncated"),
        broken("100,000 brackets", "[" * 100_000, "is not JSON, or is truncated"),
        broken("a list", [1, 2], "is not a result file"),
        broken("JSON of something else", {"a": 1}, "is not a result file"),
        broken("a newer version", changed(schema_version=99), "newer than"),
        broken("cells that are no list", changed(cells=3), "is not a whole result file"),
        broken("no environment", changed(environment=None), "is not a whole result file"),
        broken("times of 1e308", with_times(1e308), "is not a"),
        broken("negative times", with_times(-1.0), "is not a"),
        broken("times that are texts", with_times("fast"), "is not a"),
        Trial("result files", "a file named twice", ("{folder}/a.json", "{folder}/a.json"),
              REQUEST, "is named twice", COMPARE, lambda folder: put(folder, {"a.json": sample})),
        Trial("result files", "escapes in a file's name", ("{folder}/\x1b[2J\n.json",), REQUEST,
              "[2J", COMPARE),
        Trial("result files", "a share of 5", ("a.json", "--threshold", "5"), REQUEST,
              "is not a share", COMPARE),
        Trial("result files", "a gate's name misspelt", ("a.json", "--fail-on-regresion"), REQUEST,
              "did you mean --fail-on-regression?", COMPARE),
        Trial("result files", "binary", ("{folder}/a.json",), REQUEST, "is not JSON", COMPARE,
              lambda folder: put(folder, {"a.json": bytes(range(256))})),
    ]  # fmt: skip


def put(folder: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        data = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def touch(name: str) -> Callable[[Path], None]:
    return lambda folder: put(folder, {name: ""})


def named_pipe(folder: Path) -> None:
    put(folder, {"model.safetensors": safetensors({})})
    os.mkfifo(folder / "config.json")


def safetensors(header: dict) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


TRIALS = [*values(), *checkpoints(), *result_files()]
