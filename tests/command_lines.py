"""The benchmark's command line as tests use it: what it answers, and the requests it makes."""

from inference_benchmark import benchmark_inference
from inference_benchmark.options import resolution
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve


def run(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and what stderr said."""
    try:
        code = benchmark_inference.main([*arguments, "--device", "cpu"])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


def parsed(*arguments: str):
    return resolve(make_parser().parse_args([*arguments, "--device", "cpu"]))


def resolved_for_a_gpu(monkeypatch, *arguments: str):
    monkeypatch.setattr(resolution, "_find_device", lambda wanted: "cuda")
    return resolve(make_parser().parse_args(list(arguments)))
