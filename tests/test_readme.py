"""The README says what the tables and the published results say."""

import json

import jsonschema
import pytest
from conftest import ROOT

from reporting import readme

SCHEMA = json.loads((ROOT / "reporting" / "result.schema.json").read_text())
PUBLISHED = sorted((ROOT / "results" / "published").glob("*.json"))


def test_the_readme_is_what_the_tables_say():
    text = (ROOT / "README.md").read_text()
    assert readme.fill(text) == text, "run: python -m reporting.readme"


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- measured -->"):
        readme.fill("no markers")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_results_are_whole_and_checked(path):
    result = json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(result)
    for cell in result["cells"]:
        assert cell["agreement"]["passed"], cell["label"]
        assert cell["status"] == "ok"
        assert cell["samples"]["ttft_s"]
