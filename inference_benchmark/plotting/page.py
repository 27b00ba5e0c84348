"""One self-contained HTML page: every picture with its sentence and its numbers, and the files.

It asks nothing of a network and runs no script, so that it opens from a mail as from a server; light,
dark and paper are a matter of its style sheet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inference_benchmark.plotting import html
from inference_benchmark.plotting.embedding import WHOLE, Embedded, embed
from inference_benchmark.plotting.overview import lead, overview_table, reasons, session_table
from inference_benchmark.plotting.picture import Picture, slug
from inference_benchmark.plotting.pictures import pictures_of, share_axes
from inference_benchmark.plotting.sources import SourceSet
from inference_benchmark.plotting.style import house_style, settle
from inference_benchmark.plotting.subject import Subject, subjects
from inference_benchmark.plotting.svg import StyleSheet, inline, variables

MOST_BYTES = 1_000_000  # of a page: what a mail takes without a thought
_CSS = Path(__file__).with_name("page.css")
# No script, nothing from elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """What one subject shows: of each set its pictures; of a lone set there is one."""

    subjects: tuple[tuple[str, Subject, list[Picture]], ...]

    @property
    def title(self) -> str:
        return self.subjects[0][1].title


@dataclass
class Page:
    """What a page says, drawn once; files and HTML are made from it.

    first: a title, pictures and further HTML that stand before all else: a comparison.
    """

    sets: Sequence[SourceSet]
    title: str | None = None
    first_title: str = ""
    first: Sequence[Picture] = ()
    first_html: str = ""
    sections: list[Section] = field(default_factory=list)

    def draw(self) -> None:
        with house_style():
            self.sections = list(_sections(self.sets))
            for section in self.sections:
                _align(section)
            for _, picture in self.pictures():
                settle(picture.figure)

    def pictures(self) -> Iterator[tuple[str, Picture]]:
        """(name of a file without its ending, picture), all of them."""
        for picture in self.first:
            yield picture.name, picture
        for number, section in enumerate(self.sections, start=1):
            for name, _, pictures in section.subjects:
                prefix = f"{number}-" if len(self.sections) > 1 else ""
                prefix += f"{slug(name)}-" if len(self.sets) > 1 else ""
                for picture in pictures:
                    yield f"{prefix}{picture.name}", picture

    def html(self) -> str:
        sheet = StyleSheet()
        with house_style():
            body = self._body(sheet)
        frame = self._document(body, sheet, "")
        sources = [source for file_set in self.sets for source in file_set.sources]
        return self._document(body, sheet, _files(embed(sources, MOST_BYTES - _size(frame) - 4096)))

    def _document(self, body: str, sheet: StyleSheet, files: str) -> str:
        title = self.title or _title(self.sections)
        css = f"{variables()}\n{sheet.css()}\n{_CSS.read_text(encoding='utf-8')}"
        header = html.tag("h1", html.text(title))
        header += html.tag("p", html.text(lead(self.sets)), class_="lead")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.text(title)}</title>"
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f'<link rel="icon" href="data:,"><style>{css}</style></head><body>'
            f"<header>{header}{self._contents()}</header><main>{body}</main>"
            f"<footer>{files}</footer></body></html>\n"
        )

    def _contents(self) -> str:
        titles = [self.first_title] if self.first_title else []
        titles += map(self._heading, self.sections)
        links = [
            html.tag("a", html.text(title), href=f"#s{number}")
            for number, title in enumerate([*titles, "Sessions", "Files"])
        ]
        items = "".join(html.tag("li", link) for link in links)
        return html.tag("nav", html.tag("ul", items), aria_label="contents")

    def _heading(self, section: Section) -> str:
        """A lone one's is the page's."""
        return section.title if self.title or len(self.sections) > 1 else "Cells and pictures"

    def _body(self, sheet: StyleSheet) -> str:
        parts: list[tuple[str, str]] = []
        if self.first_title:
            cards = "".join(_card(p, f"first-{p.name}", sheet) for p in self.first)
            cards = html.tag("div", cards, class_="pictures") if cards else ""
            parts.append((self.first_title, cards + self.first_html))
        for number, section in enumerate(self.sections):
            parts.append((self._heading(section), _section(section, f"f{number}", sheet)))
        parts.append(("Sessions", html.table(session_table(self.sets))))
        return (
            "".join(
                html.tag(
                    "section",
                    html.tag("h2", html.text(title), id=f"h{number}") + content,
                    id=f"s{number}",
                    aria_labelledby=f"h{number}",
                )
                for number, (title, content) in enumerate(parts)
            )
            + f'<span id="s{len(parts)}"></span>'
        )


def _sections(sets: Sequence[SourceSet]) -> Iterator[Section]:
    """What was measured alike in several sets stands side by side."""
    by_title: dict[str, list[tuple[str, Subject, list[Picture]]]] = {}
    for file_set in sets:
        for subject in subjects(file_set.results):
            entry = (file_set.name, subject, pictures_of(subject))
            by_title.setdefault(subject.title, []).append(entry)
    return (Section(tuple(entries)) for entries in by_title.values())


def _align(section: Section) -> None:
    if len(section.subjects) < 2:
        return
    for name in _names(section):
        alike = [_named(pictures, name) for _, _, pictures in section.subjects]
        share_axes([picture.figure for picture in alike if picture is not None])


def _names(section: Section) -> list[str]:
    return list(dict.fromkeys(p.name for _, _, pictures in section.subjects for p in pictures))


def _named(pictures: Sequence[Picture], name: str) -> Picture | None:
    return next((picture for picture in pictures if picture.name == name), None)


def _section(section: Section, prefix: str, sheet: StyleSheet) -> str:
    """Cells and why they are not valid; then picture by picture, of all sets side by side."""
    several = len(section.subjects) > 1
    parts = []
    for name, subject, _ in section.subjects:
        caption = f"{name}: cells" if several else "Cells"
        parts.append(
            html.table(overview_table(subject, caption))
            + html.bullets(reasons(subject), class_="note")
        )
    grids = []
    for name in _names(section):
        cards = [
            _card(picture, f"{prefix}-{place}-{name}", sheet, of=set_name if several else "")
            for place, (set_name, _, pictures) in enumerate(section.subjects)
            if (picture := _named(pictures, name)) is not None
        ]
        grids.append("".join(cards))
    if not several:  # else each picture has a row of its own
        grids = ["".join(grids)]
    return "".join(parts) + "".join(html.tag("div", grid, class_="pictures") for grid in grids)


def _card(picture: Picture, name: str, sheet: StyleSheet, of: str = "") -> str:
    title = f"{of}: {picture.title}" if of else picture.title
    drawn = inline(picture.figure, name, title, picture.sentence, sheet)
    caption = html.tag(
        "figcaption",
        html.tag("h3", html.text(title)) + html.tag("p", html.text(picture.sentence)),
    )
    tables = "".join(map(html.table, picture.tables))
    return html.tag("figure", caption + drawn + tables, class_="card")


def _files(embedded: Sequence[Embedded]) -> str:
    """Links that hold the files."""
    items = "".join(html.tag("li", _file(file)) for file in embedded)
    return (
        html.tag("h2", "Files")
        + html.tag(
            "p",
            "The result files that this page was made from are inside it, compressed (gunzip "
            "opens them). The numbers in the tables are theirs: each holds its exact value.",
        )
        + html.tag("ul", items)
    )


def _file(file: Embedded) -> str:
    if file.data is None:
        return f"{html.tag('code', html.text(file.name))}: {html.text(file.note)}"
    link = html.tag(
        "a",
        html.text(file.name),
        download=f"{file.name}.gz",
        href=f"data:application/gzip;base64,{file.data}",
    )
    return link if file.note == WHOLE else f"{link}: {html.text(file.note)}"


def _title(sections: Sequence[Section]) -> str:
    if len(sections) == 1:
        return sections[0].title
    return f"Benchmark of LLM inference, {len(sections)} things measured"


def _size(document: str) -> int:
    return len(document.encode())
