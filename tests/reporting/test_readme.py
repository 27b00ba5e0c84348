"""The README says what the tables and the published results say."""

import pytest
from conftest import ROOT

from inference_benchmark.reporting import readme
from inference_benchmark.reporting.reading import read_result

PUBLISHED = sorted((ROOT / "results" / "published").glob("*/*.json"))


@pytest.mark.parametrize("path", readme.FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tables_are_what_the_presets_and_results_say(path):
    text = path.read_text()
    assert readme.fill(text, readme.FILES[path]) == text, (
        "run: python -m inference_benchmark.reporting.readme"
    )


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- measured -->"):
        readme.fill("no markers", {"measured": lambda: ""})


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_results_are_whole_and_checked(path):
    result = read_result(path)
    assert result["state"] == "complete"
    for cell in result["cells"]:
        if not cell["estimated"]:  # its sources were checked
            assert cell["output_check"]["passed"], cell["label"]
        assert cell["status"] == "ok"
        assert len(cell["samples"]["round"]) == cell["summary"]["n"] > 0
