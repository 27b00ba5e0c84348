"""Engines that are servers: whether one is there, before anything is loaded. Imports no torch."""

from argparse import Namespace

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import RequestError
from inference_benchmark.options.checks import given_flags


def check_servers(arguments: Namespace, specs: list[ModeSpec]) -> None:
    """
    Raises:
        RequestError: a URL is given of a server that no mode uses.
        CannotRun: nothing answers there.
    """
    entries = {spec.name: spec.engine for spec in specs if spec.engine.server_check}
    if "ollama_url" in given_flags(arguments) and not entries:
        takers = " or ".join(entry.name for entry in ENGINES.values() if entry.server_check)
        raise RequestError(f"--ollama-url does nothing without --mode {takers}")
    for entry in entries.values():
        entry.check_server(arguments.ollama_url)
