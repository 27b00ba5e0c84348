"""Pictures and the page as files."""

from pathlib import Path

from inference_benchmark.plotting.page import Page
from inference_benchmark.plotting.picture import Picture
from inference_benchmark.plotting.style import house_style
from inference_benchmark.plotting.svg import standalone

FORMATS = ("html", "svg", "png")
PAGE_NAME = "report.html"
_DOTS_PER_INCH = 200


def write(page: Page, folder: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Write a drawn page's files into a folder, which is made; what is there under their names is
    replaced.

    Raises:
        OSError: they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_page(page, folder / PAGE_NAME)] if "html" in formats else []
    with house_style():
        for name, picture in page.pictures():
            for format in formats:
                if format != "html":
                    path = folder / f"{name}.{format}"
                    _write_picture(picture, path)
                    written.append(path)
    return written


def write_page(page: Page, path: Path) -> Path:
    path.write_text(page.html(), encoding="utf-8")
    return path


def _write_picture(picture: Picture, path: Path) -> None:
    if path.suffix == ".svg":
        text = standalone(picture.figure, picture.name, picture.title, picture.sentence)
        path.write_text(text, encoding="utf-8")
    else:
        picture.figure.savefig(path, dpi=_DOTS_PER_INCH)
