"""Ollama's HTTP API with the standard library alone: what of it is needed to measure a model.

As documented in docs/api.md of its repository (github.com/ollama/ollama): /api/version, /api/blobs,
/api/create, /api/generate, /api/ps, /api/delete.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from inference_benchmark.errors import CannotRun, printable

_CONNECT_S = 10.0
_ANSWER_S = 600.0  # of the server, to anything: loading a large model takes minutes
_BLOCK_BYTES = 1 << 20
_LONGEST = 200  # characters of what a server says


class OllamaError(RuntimeError):
    """The server refused, failed, or said what its documentation does not have."""


def check_server(url: str) -> None:
    """
    Raises:
        CannotRun: no server answers there.
    """
    try:
        OllamaClient(url, timeout_s=_CONNECT_S).version()
    except OllamaError as error:
        raise CannotRun(
            f"mode 'ollama' needs Ollama's server at {url}: {error}; start it with "
            "'ollama serve', or say by --ollama-url where it is"
        ) from None


class OllamaClient:
    """One connection, kept open.

    Raises (every method): OllamaError.
    """

    def __init__(self, url: str, timeout_s: float = _ANSWER_S) -> None:
        parts = urlsplit(url)
        connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._path = parts.path.rstrip("/")
        self._connection = connection(
            parts.hostname, parts.port, timeout=timeout_s, blocksize=_BLOCK_BYTES
        )

    def version(self) -> str:
        return str(self._ask("GET", "/api/version").get("version"))

    def create(self, model: str, file: Path) -> None:
        """Give the server a model of that name: the file as a blob, unless it has it, then a model."""
        with file.open("rb") as content:
            digest = f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
            if not self._has_blob(digest):
                content.seek(0)
                headers = {"Content-Length": str(file.stat().st_size)}
                self._read(self._request("POST", f"/api/blobs/{digest}", content, headers))
        answer = self._ask(
            "POST", "/api/create", {"model": model, "files": {file.name: digest}, "stream": False}
        )
        if answer.get("status") != "success":
            raise OllamaError(f"creating {model} ended with {_shown(answer)}")

    def _has_blob(self, digest: str) -> bool:
        response = self._send("HEAD", f"/api/blobs/{digest}")
        response.read()
        return response.status == 200

    def generate(self, body: bytes) -> Iterator[tuple[float, bytes]]:
        """Each line of the answer with the moment it was here, by perf_counter.

        body: as `encode` makes it.
        """
        response = self._request("POST", "/api/generate", body)
        try:
            while line := response.readline():
                yield time.perf_counter(), line
            response.read()  # nothing more, but http.client closes it here only
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise OllamaError(f"the server left within an answer: {_said(error)}") from None

    def loaded(self, model: str) -> dict:
        """What /api/ps says of the model; {} where it is not loaded."""
        models = self._ask("GET", "/api/ps").get("models") or []
        return next((loaded for loaded in models if loaded.get("name", "").startswith(model)), {})

    def delete(self, model: str) -> None:
        """Unload it, then have the server forget it."""
        self._ask(
            "POST",
            "/api/generate",
            {"model": model, "prompt": "", "keep_alive": 0, "stream": False},
        )
        self._read(self._request("DELETE", "/api/delete", encode({"model": model})))

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, content: dict | None = None) -> dict:
        body = None if content is None else encode(content)
        text = self._read(self._request(method, path, body))
        answer = decode(text)
        if "error" in answer:
            raise OllamaError(f"{path}: {_shown(answer['error'])}")
        return answer

    def _request(self, method: str, path: str, body=None, headers: dict | None = None):
        """The answer's beginning, of a request that the server accepts."""
        response = self._send(method, path, body, headers)
        if response.status >= 300:
            text = self._read(response).decode(errors="replace")
            raise OllamaError(f"{path} answers {response.status} {response.reason}: {_shown(text)}")
        return response

    def _send(self, method: str, path: str, body=None, headers=None) -> HTTPResponse:
        try:
            self._connection.request(method, self._path + path, body, headers or {})
            return self._connection.getresponse()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise OllamaError(f"no answer: {_said(error)}") from None

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise OllamaError(f"the server left within an answer: {_said(error)}") from None


def encode(content: dict) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def decode(text: bytes) -> dict:
    """
    Raises:
        OllamaError: it is no JSON object.
    """
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise OllamaError(f"the server answers {_shown(text.decode(errors='replace'))}, not JSON")
    return content


def _shown(answer: object) -> str:
    text = printable(answer)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or printable(error) or type(error).__name__
