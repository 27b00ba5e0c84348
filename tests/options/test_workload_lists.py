"""What each of several workloads of a command is asked for, and what several can't be asked for."""

import pytest

from inference_benchmark.errors import RequestError
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.options.workloads import by_workload

THREE = ("--workload", "forward", "training", "generation")


def requests(*flags: str):
    words = ["--device", "cpu", "--mode", "eager", *flags]
    return [resolve(arguments) for arguments in by_workload(make_parser().parse_args(words))]


def test_one_workload_stays_as_it_was_asked_for():
    (request,) = requests("--workload", "forward")
    assert request.workload == "forward"
    assert requests()[0].workload == "generation"
    assert [request.workload for request in requests("--workload", "training", "training")] == [
        "training"
    ]


def test_flags_of_one_workload_are_left_out_for_the_others():
    flags = ("--input-length", "40", "--output-length", "9", "--optimizer", "none")
    sampled = ("--sampling", "multinomial", "--temperature", "0.7")
    forward, training, generation = requests(*THREE, *flags, *sampled)
    assert [request.workload for request in (forward, training, generation)] == list(THREE[1:])
    assert {request.input_length for request in (forward, training, generation)} == {40}
    assert (forward.output_length, generation.output_length) == (0, 9)
    assert (training.optimizer, generation.optimizer) == ("none", None)
    assert (generation.drawn.temperature, forward.drawn, forward.temperature) == (0.7, None, None)


def test_a_flag_that_serves_none_of_them_is_refused():
    with pytest.raises(RequestError, match="--optimizer needs --workload training"):
        requests("--workload", "forward", "generation", "--optimizer", "none")
    with pytest.raises(RequestError, match="--workload training has no use for --quantize"):
        requests(*THREE, "--quantize", "int8")


@pytest.mark.parametrize("part", ["attention", "layer", "depth"])
def test_parts_and_depths_go_with_no_other_workload(part):
    with pytest.raises(RequestError, match=f"--workload {part} goes with no other"):
        requests("--workload", "forward", part)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--output", "x.json"), "--output is for one --workload: .*--save-results"),
        (("--sessions", "2"), "--sessions is for one --workload"),
        (("--sweep", "x.toml"), "--sweep is for one --workload"),
        (("--profile",), "--profile is for one --workload"),
        (("--json",), "--format json and csv are for one --workload"),
        (("--format", "csv"), "--format json and csv are for one --workload"),
    ],
)
def test_what_makes_one_file_or_many_sessions_is_refused(flags, words):
    with pytest.raises(RequestError, match=words):
        requests("--workload", "forward", "generation", *flags)


def test_several_ranks_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RequestError, match="without torchrun"):
        requests("--workload", "forward", "generation")
