"""Draws what the repository shows: pages under results/pages, and the pictures of README.md.

`python -m inference_benchmark.plotting.published` writes them from the files in results/published; a
test holds their numbers against these files.
"""

from collections.abc import Sequence
from pathlib import Path

from inference_benchmark.plotting.page import Page
from inference_benchmark.plotting.picture import Picture
from inference_benchmark.plotting.sources import read_set
from inference_benchmark.plotting.style import house_style
from inference_benchmark.plotting.svg import standalone
from inference_benchmark.plotting.writing import write_page
from inference_benchmark.reporting.readme.files import PUBLISHED, ROOT, fill

PAGES = ROOT / "results" / "pages"
README = ROOT / "README.md"
# Page by page, the folders of results/published that it is made from.
FOLDERS = {"batch_sizes": ("batch_sizes",), "depth": ("depth",)}
# What README.md shows: (page, picture).
SHOWN = (("batch_sizes", "pareto"), ("batch_sizes", "kernels-decode"), ("depth", "depth"))


def main() -> None:
    pages = {name: draw(name) for name in FOLDERS}
    PAGES.mkdir(exist_ok=True)
    for name, page in pages.items():
        write_page(page, PAGES / f"{name}.html")
    shown = [(name, picture_of(pages[name], picture)) for name, picture in SHOWN]
    for name, picture in shown:
        with house_style():
            text = standalone(picture.figure, picture.name, picture.title, picture.sentence)
        picture_path(name, picture).write_text(text, encoding="utf-8")
    README.write_text(fill(README.read_text(), {"pictures": lambda: section(shown)}))


def draw(name: str) -> Page:
    files = [str(path) for folder in FOLDERS[name] for path in (PUBLISHED / folder).glob("*.json")]
    page = Page([read_set(name, sorted(files))])
    page.draw()
    return page


def picture_of(page: Page, name: str) -> Picture:
    return next(picture for file_name, picture in page.pictures() if file_name == name)


def picture_path(name: str, picture: Picture) -> Path:
    return PAGES / f"{name}-{picture.name}.svg"


def section(shown: Sequence[tuple[str, Picture]]) -> str:
    """Each picture with its sentence, and a link to its page."""
    parts = []
    for name, picture in shown:
        path, page = (
            absolute.relative_to(ROOT) for absolute in (picture_path(name, picture), PAGES)
        )
        parts.append(
            f"![{picture.title}]({path})\n\n{picture.title}: {picture.sentence} "
            f"([page]({page / name}.html))"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
