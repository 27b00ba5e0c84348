"""Sessions of several groups: what is open at a time, what fits, what is printed and saved when."""

from dataclasses import replace

import pytest
from scripted import whole_session

from inference_benchmark.command.fit import arrange, need, with_batch_sizes
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.session.planning import plan_cells

GB = 10**9
H200 = 143 * GB
FIXED = ("--num-iterations", "3", "--warmup-iterations", "0")


def request_of(*flags: str):
    arguments = ["--device", "cpu", "--model-name", "llama3.1-8b", "--mode", "inductor", *flags]
    return resolve(make_parser().parse_args(arguments))


def groups_of(available, *flags: str):
    request = request_of(*flags)
    return arrange(request, plan_cells(request), available).groups


def test_the_sweep_of_batch_sizes_fits_one_h200():
    sizes = [str(2**n) for n in range(9)]
    groups = groups_of(H200, "--scenario", "chat", "--batch-size", *sizes)
    assert [group.batch_size for group in groups] == [int(size) for size in sizes]
    largest = groups[-1]
    cache = 256 * 2000 * 128 * 1024  # 67 GB
    assert need(largest.cells).kv_cache == cache  # the reference keeps that of one layer only
    assert all(group.cells[0].interleaved for group in groups)


@pytest.mark.parametrize(("available", "largest"), [(H200, 256), (25 * GB, 8)])
def test_a_sweep_goes_up_to_what_is_predicted_to_fit(available, largest):
    """Of 25 GB the weights take 16, the runtime 1.5, the check 3; 8 sequences of 2000 tokens take 2.1."""
    request = request_of("--scenario", "chat", "--batch-size", "sweep")
    swept = with_batch_sizes(request, plan_cells, available)
    assert swept.batch_sizes == tuple(2**n for n in range(largest.bit_length()))
    groups = arrange(swept, plan_cells(swept), available).groups
    assert groups[-1].predicted_bytes <= available
    twice = replace(request, batch_size=(2 * largest,))
    with pytest.raises(CannotRun):
        arrange(twice, plan_cells(twice), available)


def test_a_sweep_of_several_depths_has_the_same_sizes_at_each():
    request = request_of("--depth", "0", "65536", "--batch-size", "sweep")
    swept = with_batch_sizes(request, plan_cells, H200)
    # 16 GB of weights, 8.7 GB of cache for each sequence of the deeper one
    assert swept.batch_sizes == (1, 2, 4, 8)
    places = [
        (cell.batch_size, cell.context_depth) for cells in plan_cells(swept) for cell in cells
    ]
    assert places == [(size, depth) for depth in (0, 65536) for size in (1, 2, 4, 8)]


def test_a_sweep_is_refused_where_nothing_is_known_or_fits():
    request = request_of("--scenario", "chat", "--batch-size", "sweep")
    with pytest.raises(CannotRun, match="name the sizes"):
        with_batch_sizes(request, plan_cells, None)
    alone = with_batch_sizes(request, plan_cells, 12 * GB)
    with pytest.raises(CannotRun, match="--num-layers [0-9]+ with --batch-size 1"):
        arrange(alone, plan_cells(alone), 12 * GB)
    with pytest.raises(RequestError, match="no others"):
        request_of("--batch-size", "1", "sweep")


def test_what_counts_is_the_largest_group_and_not_the_sum():
    flags = ("--input-length", "1000", "--output-length", "1000", "--batch-size", "8", "16")
    small, large = groups_of(None, *flags)
    (alone,) = groups_of(large.predicted_bytes, *flags[:4], "--batch-size", "16")
    assert alone.predicted_bytes == large.predicted_bytes > small.predicted_bytes


def test_modes_that_do_not_fit_together_run_one_after_the_other():
    flags = ("--scenario", "chat", "--batch-size", "128", "--baseline", "eager")
    together = groups_of(None, *flags)[0]
    assert len(together.cells) == 2
    groups = groups_of(together.predicted_bytes - 20 * GB, *flags)
    assert [[cell.spec.name for cell in group.cells] for group in groups] == [
        ["inductor"],
        ["eager"],
    ]
    assert not any(cell.interleaved for group in groups for cell in group.cells)


def test_what_fits_nowhere_is_refused_with_advice():
    flags = ("--scenario", "chat", "--batch-size", "1", "64")
    with pytest.raises(CannotRun, match="needs about .* GB .* --batch-size [0-9]"):
        groups_of(25 * GB, *flags)
    assert groups_of(25 * GB, *flags, "--force")
    with pytest.raises(CannotRun, match="--num-layers [0-9] with --batch-size 1"):
        groups_of(12 * GB, *flags)


@pytest.fixture
def run(monkeypatch, capsys):
    return whole_session(monkeypatch, capsys)


def test_a_group_is_closed_before_the_next_is_opened(run):
    opened = []

    class Watching(dict):
        def get(self, label, default):
            opened.append(label)
            return {"log": opened, "name": f"{label} runs"}

    code, _, result = run(
        Watching(), "--batch-size", "1", "2", "--mode", "eager", "inductor", *FIXED
    )
    assert code == 0
    last_of_first = max(i for i, title in enumerate(opened) if title.endswith("b1 runs"))
    assert last_of_first < opened.index("eager b2")
    assert [cell["label"] for cell in result["cells"]] == [
        "eager b1",
        "inductor b1",
        "eager b2",
        "inductor b2",
    ]
    assert result["cells"][3]["speedup"]["baseline"] == "eager b2"
    assert result["cells"][3]["group"] == {"batch_size": 2, "interleaved": True}


def test_cells_that_took_no_turns_are_compared_as_two_samples(run, monkeypatch):
    from inference_benchmark.command import benchmark

    def one_by_one(request, batches, available):
        plan = arrange(request, batches, None)
        (group,) = plan.groups
        cells = [replace(cell, interleaved=False) for cell in group.cells]
        return replace(plan, groups=tuple(replace(group, cells=(cell,)) for cell in cells))

    monkeypatch.setattr(benchmark, "arrange", one_by_one)
    _, _, result = run({}, "--mode", "eager", "inductor", "--num-iterations", "6")
    inductor = result["cells"][1]
    assert inductor["group"]["interleaved"] is False
    assert inductor["speedup"]["metrics"]["ttft_s"]["ratio"] == pytest.approx(1.0)
    assert inductor["speedup"]["metrics"]["ttft_s"]["verdict"] == "same"


def test_ctrl_c_in_the_second_group_keeps_the_first_one_whole(run):
    code, _, result = run(
        {"eager b2": {"fail_at": 3, "error": KeyboardInterrupt()}},
        *("--batch-size", "1", "2", *FIXED),
    )
    assert code == 130
    first, second = result["cells"]
    assert (first["status"], first["stop_reason"]) == ("ok", "fixed")
    assert (second["status"], second["stop_reason"]) == ("partial", "interrupted")
    assert (first["summary"]["n"], second["summary"]["n"]) == (3, 1)
    assert result["state"] == "interrupted"


def test_wrong_outputs_have_no_speed(run):
    from scripted import WRONG

    code, out, result = run(
        {"inductor b1": {"check": WRONG}}, "--mode", "eager", "inductor", *FIXED
    )
    assert code == 1
    wrong = result["cells"][1]
    assert (wrong["samples"], wrong["summary"], wrong["speedup"]) == (None, None, None)
    assert wrong["wrong_output_samples"]["metrics"]["ttft_s"] == [0.1] * 3
    assert wrong["cold_start"]["payback_tokens"] is None
    assert wrong["cold_start"]["warmup_s"] == []
    assert "WRONG" in out
