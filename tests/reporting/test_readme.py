"""The README says what the tables and the published results say."""

import pytest
from conftest import PUBLISHED, ROOT

from inference_benchmark.reporting.reading import read_result
from inference_benchmark.reporting.readme import sections
from inference_benchmark.reporting.readme.files import fill


@pytest.mark.parametrize("path", sections.FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tables_are_what_the_presets_and_results_say(path):
    text = path.read_text()
    assert fill(text, sections.FILES[path]) == text, (
        "run: python -m inference_benchmark.reporting.readme"
    )


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- measured -->"):
        fill("no markers", {"measured": lambda: ""})


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_results_are_whole_and_checked(path):
    result = read_result(path)
    # Sessions that a machine's end or a time limit cut short, as README.md and results/README.md say.
    cut_short = (
        path.parent.name == "attention_as_shipped" or path.stem == "llama3.1-8b_torchao_int8"
    )
    assert result["state"] == "complete" or cut_short
    measured = [cell for cell in result["cells"] if cell["samples"]["round"]]
    assert len(measured) == len(result["cells"]) - (result["state"] == "running")
    for cell in measured:
        if not cell["estimated"]:  # its sources were checked
            assert cell["output_check"]["passed"], cell["label"]
        assert cell["status"] == "ok" or cut_short
        assert len(cell["samples"]["round"]) == cell["summary"]["n"] > 0


@pytest.fixture(scope="module")
def audits():
    return sections.audits()


def test_published_audits_hold_what_is_promised(audits):
    cpu, gpu = audits
    assert {fault["fault"] for fault in cpu.faults} == {fault["fault"] for fault in gpu.faults}
    for audit in audits:
        assert len(audit.faults) > 40
        assert sum(fault["listed"] and not fault["caught"] for fault in audit.faults) <= 3
        assert audit.valid
        assert all(run["passed"] for run in audit.valid)


def test_what_cannot_be_seen_is_what_the_check_says_today(audits):
    import inference_benchmark.output_check as output_check

    limits = output_check.__doc__.split("What the check cannot see")[1]
    assert audits[0].cannot_see == limits
    assert limits.count("\n- ") <= 3
