"""What cells and models are called."""

from inference_benchmark.reporting.labels import compact, joined, model_label


def test_what_is_said_of_several_cells_names_them_briefly():
    cells = [
        {"name": {"variant": mode, "batch_size": 1, "depth": f"{depth}L"}}
        for mode in ("eager", "thunder")
        for depth in (4, 8)
    ]
    assert joined(cells[:3], cells) == "eager b1 4L, 8L, thunder b1 4L"
    assert joined(cells, cells) == "all cells"
    assert joined(cells[:1], cells[:1]) == "eager b1 4L"
    assert compact(cells) == "eager, thunder at b1 4L, b1 8L"
    assert compact(cells[:3]) == "eager b1 4L, 8L, thunder b1 4L"


def test_a_reduced_model_is_named_as_such():
    config = {"model_name": "llama3.1-8b", "num_layers": 8, "full_num_layers": 32}
    assert model_label(config) == "llama3.1-8b [8 of 32 layers]"
