"""Modes: what a name asks for, what it is called, what is measured beside it."""

import pytest
from command_lines import parsed, resolved_for_a_gpu

from inference_benchmark.engines import spec
from inference_benchmark.engines.spec import parse_mode
from inference_benchmark.errors import RequestError
from inference_benchmark.session.planning import plan_cells


@pytest.mark.parametrize(
    ("text", "graphs", "label"),
    [
        ("thunder", "auto", "thunder+graphs"),
        ("eager", "auto", "eager"),
        ("eager", "on", "eager+graphs"),
        ("inductor+nographs", "on", "inductor"),
        ("thunder:inductor", "off", "thunder:inductor"),
        ("thunder:dynamo,inductor_cat", "auto", "thunder:dynamo,inductor_cat+graphs"),
        ("inductor+kernels", "auto", "inductor+graphs+kernels"),
        ("eager+kernels", "auto", "eager+kernels"),
        ("thunder:sdpa+kernels+nographs", "auto", "thunder:sdpa+kernels"),
    ],
)
def test_mode_labels_say_what_is_used(text, graphs, label):
    assert parse_mode(text, (), graphs, "cuda").label == label


def test_thunder_without_nvfuser_says_so(monkeypatch):
    monkeypatch.setattr(spec, "is_installed", lambda executor: executor != "nvfuser")
    shown = parse_mode("thunder", (), "auto", "cuda").shown_label
    assert shown == "thunder[no nvfuser]+graphs"
    shown = parse_mode("thunder+kernels", (), "auto", "cuda").shown_label
    assert shown == "thunder[no nvfuser]+graphs+kernels"
    assert (
        parse_mode("thunder:inductor", (), "auto", "cuda").shown_label == "thunder:inductor+graphs"
    )


def test_compile_modes_with_graphs_of_their_own_are_refused_inside_ours():
    graphed = parse_mode("inductor", (), "auto", "cuda")
    assert graphed.cuda_graphs
    with pytest.raises(RequestError, match="max-autotune-no-cudagraphs"):
        spec.check_compile_mode("reduce-overhead", [graphed])
    spec.check_compile_mode(
        "reduce-overhead", [parse_mode("inductor+nographs", (), "auto", "cuda")]
    )


def test_compile_modes_with_graphs_of_their_own_compile_the_whole_model():
    assert parsed("--mode", "inductor").compile_scope == "layer"
    request = parsed("--mode", "inductor", "--compile-mode", "reduce-overhead")
    assert request.compile_scope == "model"


def test_a_comparison_measures_its_baseline_along():
    request = parsed("--mode", "thunder", "inductor")
    assert [spec.label for spec in request.specs] == ["thunder", "inductor", "eager"]
    single = parsed("--mode", "thunder")
    assert [spec.label for spec in single.specs] == ["thunder"]
    named = parsed("--mode", "thunder", "--baseline", "inductor")
    assert [spec.label for spec in named.specs] == ["thunder", "inductor"]


def test_options_of_thunder_are_values_and_stand_in_the_label(monkeypatch):
    request = resolved_for_a_gpu(
        monkeypatch,
        *("--mode", "thunder:inductor", "eager+graphs", "--thunder-options"),
        "nv_enable_linear=true,depth=3,cache=constant values",
    )
    with_options, plain = plan_cells(request)[0]
    assert with_options.engine.compile_options == (
        ("nv_enable_linear", True),
        ("depth", 3),
        ("cache", "constant values"),
    )
    assert with_options.variant == (
        "thunder:inductor+graphs[nv_enable_linear=true, depth=3, cache=constant values]"
    )
    assert (plain.engine.compile_options, plain.variant) == ((), "eager+graphs")


def test_kernels_are_measured_beside_what_ships(monkeypatch):
    request = resolved_for_a_gpu(monkeypatch, "--mode", "inductor+kernels", "inductor")
    assert [spec.label for spec in request.specs] == [
        "inductor+graphs+kernels",
        "inductor+graphs",
        "eager+graphs",
        "eager+graphs+kernels",
    ]
    only_shipped = resolved_for_a_gpu(monkeypatch, "--mode", "inductor", "eager+graphs")
    assert not any(spec.kernels for spec in only_shipped.specs)


def test_prompts_are_captured_where_that_is_asked_for(monkeypatch):
    for flags, expected in (((), False), (("--capture-prompts",), True)):
        request = resolved_for_a_gpu(monkeypatch, "--mode", "inductor", *flags)
        (cell,) = plan_cells(request)[0]
        assert cell.engine.captures_prompts is expected


def test_labels_name_kernels_that_were_chosen_against_the_mode(monkeypatch):
    def variants(*arguments: str) -> list[str]:
        request = resolved_for_a_gpu(monkeypatch, "--mode", *arguments)
        return [cell.variant for cell in plan_cells(request)[0]]

    assert variants("inductor") == ["inductor+graphs"]
    assert variants("inductor", "--attention", "sdpa") == ["inductor+graphs[sdpa]"]
    assert variants("eager", "--attention", "sdpa") == ["eager"]
    assert variants("inductor", "--attention", "flash_decode") == ["inductor+graphs[flash_decode]"]
    assert variants("eager+kernels", "--linear", "torch") == ["eager+kernels[torch linear]"]
    assert variants("eager", "--attention", "flash_decode", "--linear", "gemv") == [
        "eager[flash_decode, gemv]"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inductor+kernel",), "did you mean .kernels"),
        (("inductor+graphs+nographs",), "repeats or contradicts itself"),
        (("eager", "--capture-prompts"), "does nothing without CUDA graphs"),
        (("inductor", "--capture-prompts", "--batch-size", "8"), "4,096 tokens .*, not 16,384"),
        (("inductor+kernels+kernels",), "repeats or contradicts itself"),
        (
            ("inductor+kernels", "--attention", "sdpa", "--linear", "torch"),
            "leave nothing of mode 'inductor.graphs.kernels'",
        ),
        (("inductor", "eager", "--attention", "flex"), "which 'eager' is not"),
        (("inductor+kernels", "--workload", "forward"), "has no kernel of this project"),
    ],
)
def test_kernels_that_would_do_nothing_are_refused(monkeypatch, arguments, message):
    with pytest.raises(RequestError, match=message):
        resolved_for_a_gpu(monkeypatch, "--mode", *arguments)
