"""Ollama's server, over HTTP: written to its documented API, tried on a scripted server only.

The server takes text and gives text. The model that it is given is the session's weights in a GGUF
file whose vocabulary has one character per token (model/gguf/vocabulary.py), so that a prompt's ids
go in, and ids come out, exactly. `+stored` gives it the file of --model-path, its tensors as they are
stored, with that vocabulary. Times are this process's: a token is there when its line of the answer
is. The server's own counters, in ns, are recorded beside them for every run. What can't be switched
off: its cache of the newest prompt (each run's prompt is another one) and the end of the
text (which has a token of its own here; an answer that is too short is no run).
"""

import time
from dataclasses import replace

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.ollama_client import OllamaClient, OllamaError, decode, encode
from inference_benchmark.engines.stream_engine import Stream, StreamEngine, TokenIds, WrongCount
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.gguf.file_format import is_quantized
from inference_benchmark.model.gguf.vocabulary import ids_of, text_of

_MODEL = "inference-benchmark"
_SPARE_SLOTS = 4  # beside prompt and answer: a full context is shifted, which is other work
_ALL_LAYERS = 999
_COUNTERS = ("load_duration", "prompt_eval_duration", "eval_duration", "total_duration")


class OllamaEngine(StreamEngine):
    """`server_runs` has the server's counters of every run since it was opened; those of timed runs
    are the last ones."""

    capabilities = replace(StreamEngine.capabilities, process="workers")

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        super().__init__(plan, resources)
        self.server_runs: list[dict] = []
        self._prompt: list[int] = []  # of the newest run, which the server's cache has
        files, vocabulary = resources.files, "characters"
        is_stored = "stored" in plan.options
        file = files.stored_gguf(vocabulary) if is_stored else files.gguf(vocabulary)
        self.products = "q8" if is_quantized(file) else None
        self._client = OllamaClient(plan.ollama_url)
        started = time.perf_counter()
        try:
            self._version = self._client.version()
            self._client.create(_MODEL, file)
            self._load()
        except OllamaError as error:
            self.close()
            raise CannotRun(f"Ollama can't have this model: {error}") from None
        self.load_s = time.perf_counter() - started

    def _load(self) -> None:
        """A request without a prompt loads the model."""
        for _, line in self._client.generate(encode(self._request("", 1) | {"stream": False})):
            _refuse_error(decode(line))
        loaded = self._client.loaded(_MODEL)
        held, on_gpu = loaded.get("size"), loaded.get("size_vram")
        if self._is_cuda and held and on_gpu is not None and on_gpu < held:
            raise CannotRun(f"Ollama put only {on_gpu / held:.0%} of the model on its GPU")

    @property
    def _is_cuda(self) -> bool:
        return self.resources.device is not None and self.resources.device.type == "cuda"

    def _request(self, prompt: str, output_length: int) -> dict:
        return {
            "model": _MODEL,
            "prompt": prompt,
            "raw": True,
            "stream": True,
            "keep_alive": -1,
            "options": {
                "num_predict": output_length,
                "num_ctx": self.plan.cache_length + _SPARE_SLOTS,
                "num_gpu": _ALL_LAYERS if self._is_cuda else 0,
                "temperature": 0,
                "top_k": 1,
                "repeat_penalty": 1.0,  # its default of 1.1 would change the choice
                "seed": self.resources.seed,
            },
        }

    def generate(self, prompts: TokenIds, output_length: int) -> Stream:
        (prompt,) = prompts
        body = encode(self._request(text_of(prompt), output_length))
        started = time.perf_counter()
        try:
            lines = [(moment - started, line) for moment, line in self._client.generate(body)]
            tokens, times_s, last = _tokens_of(lines)
        except OllamaError:
            self._client.close()  # what is left of the answer; the next request opens it anew
            raise
        self._check(last, len(tokens), prompt, output_length)
        self._prompt = prompt
        self.server_runs.append(_counters(last))
        return Stream([tokens], times_s)

    def _check(self, last: dict, num_tokens: int, prompt: list[int], output_length: int) -> None:
        """Raise WrongCount unless the server read this prompt and generated so many tokens."""
        counted = last.get("eval_count")
        if counted != output_length or num_tokens != output_length:
            raise WrongCount(
                f"Ollama generated {counted} tokens and sent {num_tokens} of {output_length} "
                f"(done_reason {last.get('done_reason')})"
            )
        read = last.get("prompt_eval_count")
        if read != len(prompt) and prompt != self._prompt:  # a repeated one is in its cache
            raise WrongCount(f"Ollama read {read} tokens of a prompt of {len(prompt)}")

    def facts(self) -> dict:
        """server_runs is the list itself, which later runs still join."""
        loaded = self._client.loaded(_MODEL)
        return {
            "version": self._version,
            "url": self.plan.ollama_url,
            "clock": "wall, over HTTP",
            "options": self._request("", self.plan.cache_length)["options"],
            "size_bytes": loaded.get("size"),
            "size_vram_bytes": loaded.get("size_vram"),
            "kv_cache_dtype": "f16 unless the server's OLLAMA_KV_CACHE_TYPE says otherwise",
            "scheduling": "one sequence; the server's cache of prompts is on, each prompt differs",
            "server_runs": self.server_runs,
        }

    def memory_bytes(self) -> int | None:
        return self._client.loaded(_MODEL).get("size_vram")

    def close(self) -> None:
        """The server forgets the model; one that is gone has forgotten it already."""
        try:
            self._client.delete(_MODEL)
        except OllamaError:
            pass
        finally:
            self._client.close()


def _tokens_of(lines: list[tuple[float, bytes]]) -> tuple[list[int], list[float], dict]:
    """The ids, when each was here, and the last line's content; a line may bring several."""
    tokens: list[int] = []
    times_s: list[float] = []
    content: dict = {}
    for time_s, line in lines:
        content = decode(line)
        _refuse_error(content)
        try:
            newer = ids_of(content.get("response", ""))
        except ValueError as error:
            raise OllamaError(f"in the answer {error}: it is not of this vocabulary") from None
        tokens += newer
        times_s += [time_s] * len(newer)
    if not content.get("done"):
        raise OllamaError(f"the answer ended after {len(tokens)} tokens, before it was done")
    return tokens, times_s, content


def _refuse_error(content: dict) -> None:
    if "error" in content:
        raise OllamaError(f"the server says: {content['error']}")


def _counters(last: dict) -> dict:
    """Seconds, of the server's clock; a decode step's from all but the first token, as its loop
    counts them."""
    counters = {name.replace("_duration", "_s"): last.get(name) for name in _COUNTERS}
    counters = {name: None if ns is None else ns / 1e9 for name, ns in counters.items()}
    steps = last["eval_count"] - 1
    is_known = counters["eval_s"] is not None and steps > 0
    return counters | {"s_per_step": counters["eval_s"] / steps if is_known else None}
