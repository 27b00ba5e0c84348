"""A server that speaks Ollama's documented API, and executes what it is given: the project's eager
engine over the GGUF file that was uploaded. It can be told to answer wrongly."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from step_engines import make_engine

from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.gguf.vocabulary import ids_of, text_of
from inference_benchmark.model.weights import empty_decoder

_CHUNK = 1 << 20


class FakeOllama(ThreadingHTTPServer):
    """
    answer: changes the list of lines (dicts) of a generation before they are sent.
    status: answers such a path with this status instead.
    gap_s: between two lines. dies_after: lines, after which the connection is cut.
    """

    daemon_threads = True

    def __init__(self, folder) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.blobs: dict = {}
        self.models: dict = {}
        self.requests: list[tuple[str, dict]] = []
        self.answer: Callable[[list[dict]], list[dict]] = lambda lines: lines
        self.status: dict[str, int] = {}
        self.gap_s = 0.0
        self.dies_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def run(self, request: dict) -> list[dict]:
        """The lines of a generation."""
        options, ids = request["options"], ids_of(request["prompt"])
        count = options["num_predict"]
        engine = make_engine("eager", self.models[request["model"]], 1, len(ids), len(ids) + count)
        engine.prefill(torch.tensor([ids]))
        for _ in range(count - 1):
            engine.decode()
        tokens = engine.tokens[0, len(ids) : len(ids) + count].tolist()
        lines = [{"response": text_of([token]), "done": False} for token in tokens]
        last = {"response": "", "done": True, "done_reason": "length"}
        last |= {"eval_count": count, "eval_duration": 2_000_000 * count}
        last |= {"prompt_eval_count": len(ids), "prompt_eval_duration": 5_000_000}
        last |= {"load_duration": 1_000, "total_duration": 9_000_000}
        return [*lines, last]

    def make(self, name: str, digest: str) -> None:
        path = self.folder / "uploaded.gguf"
        path.write_bytes(self.blobs[digest])
        decoder = empty_decoder(read_model(path), "fp32", "cpu")
        load_checkpoint(decoder, path)
        decoder.set_context_length(256)
        self.models[name] = decoder


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._plain(200 if self.path.rpartition("/")[2] in self.server.blobs else 404)

    def do_GET(self) -> None:
        if self._fails():
            return
        answers = {
            "/api/version": {"version": "0.99.0"},
            "/api/ps": {"models": [{"name": f"{n}:latest"} for n in self.server.models]},
        }
        self._json(answers[self.path])

    def do_DELETE(self) -> None:
        self.server.requests.append((self.path, json.loads(self._body())))
        self.server.models.clear()
        self._plain(200)

    def do_POST(self) -> None:
        body = self._body()
        if self._fails():
            return
        if self.path.startswith("/api/blobs/"):
            digest = self.path.rpartition("/")[2]
            assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.server.blobs[digest] = body
            self._plain(201)
            return
        request = json.loads(body)
        self.server.requests.append((self.path, request))
        if self.path == "/api/create":
            (digest,) = request["files"].values()
            self.server.make(request["model"], digest)
            self._json({"status": "success"})
        elif not request["prompt"]:
            self._json({"response": "", "done": True, "done_reason": "load"})
        else:
            self._stream(self.server.answer(self.server.run(request)))

    def _body(self) -> bytes:
        left, parts = int(self.headers.get("Content-Length", 0)), []
        while left:
            parts.append(self.rfile.read(min(left, _CHUNK)))
            left -= len(parts[-1])
        return b"".join(parts)

    def _fails(self) -> bool:
        status = next(
            (s for path, s in self.server.status.items() if self.path.startswith(path)), 0
        )
        if status:
            self._json({"error": "said the script"}, status)
        return bool(status)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, lines: list[dict]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, line in enumerate(lines):
            if number == self.server.dies_after:
                self.close_connection = True
                return
            chunk = json.dumps(line).encode() + b"\n"
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.flush()
            time.sleep(self.server.gap_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fake_ollama(folder) -> Iterator[FakeOllama]:
    server = FakeOllama(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
