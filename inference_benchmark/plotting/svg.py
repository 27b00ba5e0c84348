"""A figure as SVG that a page can hold: small, with names for who can't see it, dark where the page is.

matplotlib repeats the style of every element. Here each distinct style becomes a class, and colours
become variables that a style sheet sets for light and for dark. Ids get a prefix, so that pictures
of one page don't refer to each other's parts.
"""

import io
import re
from html import escape
from xml.etree import ElementTree

from matplotlib.figure import Figure

from inference_benchmark.plotting.style import DARK, PAPER

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOR = re.compile(r"#[0-9a-f]{6}")
ElementTree.register_namespace("", _SVG)


class StyleSheet:
    """Classes by the style that they stand for, shared by the pictures of a page."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def class_of(self, style: str) -> str:
        return self._classes.setdefault(style, f"p{len(self._classes):x}")

    def css(self) -> str:
        rules = [
            f".{name}{{{_COLOR.sub(_variable, style)}}}" for style, name in self._classes.items()
        ]
        return "\n".join(
            (f".picture{{font-family:{_FONT}}}.picture *{{stroke-linejoin:round}}", *rules)
        )


def variables() -> str:
    """What colours are in the light, in the dark, and on paper."""
    light = ";".join(f"{_name(color)}:{color}" for color in DARK)
    dark = ";".join(f"{_name(color)}:{other}" for color, other in DARK.items())
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )


def _name(color: str) -> str:
    return f"--c{list(DARK).index(color)}"


def _variable(match: re.Match) -> str:
    return f"var({_name(match[0])},{match[0]})" if match[0] in DARK else match[0]


def inline(figure: Figure, name: str, title: str, description: str, sheet: StyleSheet) -> str:
    """For a page. name: unique on it."""
    root = _parsed(figure)
    _drop_rest(root)
    _shorten(root, name, sheet)
    _, _, width, height = root.get("viewBox").split()
    head = (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    return f"{head}{_content(root)}</svg>"


def standalone(figure: Figure, name: str, title: str, description: str) -> str:
    """A file of its own, which follows the reader's colour scheme as well."""
    sheet = StyleSheet()
    picture = inline(figure, name, title, description, sheet)
    _, _, width, height = re.search(r'viewBox="([^"]*)"', picture)[1].split()
    style = f"<style>{variables()}\n{sheet.css()}\nsvg{{background:var({_name(PAPER)})}}</style>"
    namespace = f'<svg xmlns="{_SVG}" width="{width}" height="{height}" '
    return picture.replace("<svg ", namespace, 1).replace("</desc>", f"</desc>{style}", 1) + "\n"


def _parsed(figure: Figure) -> ElementTree.Element:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return ElementTree.fromstring(stream.getvalue())


def _drop_rest(root: ElementTree.Element) -> None:
    """Metadata, and a style that would be the whole page's."""
    for child in list(root):
        if child.tag.endswith("}metadata") or child.find(f"{{{_SVG}}}style") is not None:
            root.remove(child)


def _shorten(root: ElementTree.Element, prefix: str, sheet: StyleSheet) -> None:
    text = ElementTree.tostring(root, encoding="unicode")
    used = sorted(set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)))
    new_ids = {old: f"{prefix}-{place:x}" for place, old in enumerate(used)}

    def renamed(value: str) -> str:
        return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{new_ids[match[1]]})", value)

    for element in root.iter():
        attributes = element.attrib
        style = attributes.pop("style", "")
        for name, value in list(attributes.items()):
            if name == "id":
                del attributes["id"]
                if value in new_ids:
                    attributes["id"] = new_ids[value]
            elif name == _LINK:
                del attributes[_LINK]
                attributes["href"] = f"#{new_ids[value[1:]]}"
            elif name in ("fill", "stroke"):
                style = f"{style};{name}:{attributes.pop(name)}"
            elif "rotate(-0 " in value:
                del attributes[name]
            else:
                attributes[name] = _NUMBER.sub(_rounded, " ".join(renamed(value).split()))
        if style:
            attributes["class"] = sheet.class_of(_normal(renamed(style)))
    _unwrap(root)


def _unwrap(parent: ElementTree.Element) -> None:
    """Groups without attributes are replaced by what they hold."""
    for child in list(parent):
        _unwrap(child)
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            place = list(parent).index(child)
            parent[place : place + 1] = list(child)


def _normal(style: str) -> str:
    """In one order, in the font of the page."""
    parts = {part.strip().replace(": ", ":") for part in style.split(";")} - {""}
    parts = {part for part in parts if not part.startswith("font-family")}
    return ";".join(sorted(parts))


def _rounded(match: re.Match) -> str:
    text = f"{float(match[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _content(root: ElementTree.Element) -> str:
    text = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    return re.sub(r">\s+<", "><", text)
