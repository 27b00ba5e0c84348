"""Where READMEs and published results lie, and how a marked section is written anew."""

import re
from pathlib import Path

from inference_benchmark.reporting.reading import read_result

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "results" / "published"


def fill(text: str, sections: dict) -> str:
    """text with every marked section <!-- name --> ... <!-- /name --> written anew."""
    for name, section in sections.items():
        body = f"<!-- {name} -->\n{section()}\n<!-- /{name} -->"
        text, count = re.subn(
            rf"<!-- {name} -->(?:.*?<!-- /{name} -->)?", lambda _, body=body: body, text, flags=re.S
        )
        if count != 1:
            raise ValueError(f"the marker <!-- {name} --> is needed once, found {count} times")
    return text


def results_in(folder: str) -> list[dict]:
    """Those of a folder of results/published, by the names of their files."""
    return [read_result(path) for path in sorted((PUBLISHED / folder).glob("*.json"))]


def example(name: str) -> str:
    """A file of examples/, whole."""
    return f"```python\n{(ROOT / 'examples' / f'{name}.py').read_text().rstrip()}\n```"


def package_file(name: str) -> str:
    """A file of the package, whole."""
    path = ROOT / "inference_benchmark" / name
    return f"```python\n{path.read_text().rstrip()}\n```"
