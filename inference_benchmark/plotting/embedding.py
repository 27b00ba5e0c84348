"""The result files inside a page, to be saved from it: compressed, and as whole as its size allows.

Without a script: a link holds the data. Where a page would grow over what a mail takes, the times of
single steps, which are most of a file, are left out, and the page says so.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass

from inference_benchmark.plotting.sources import Source

WHOLE = "whole, as it was read"
WITHOUT_STEPS = "without the times of single steps, which would make this page too large"
LEFT_OUT = "not in this page, which it would make too large"


@dataclass(frozen=True)
class Embedded:
    """data: gzip of the file, base64; None: left out."""

    name: str
    data: str | None
    note: str


def embed(sources: Sequence[Source], budget: int) -> list[Embedded]:
    """budget: bytes that all data together may take."""
    for shorten, note in ((lambda source: source.text, WHOLE), (_without_steps, WITHOUT_STEPS)):
        packed = [_packed(shorten(source)) for source in sources]
        if sum(map(len, packed)) <= budget:
            return [
                Embedded(source.name, data, note)
                for source, data in zip(sources, packed, strict=True)
            ]
    return [Embedded(source.name, None, LEFT_OUT) for source in sources]


def unpack(data: str) -> str:
    return gzip.decompress(base64.b64decode(data)).decode()


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _without_steps(source: Source) -> str:
    """A result still: samples without steps, as those of an estimate are."""
    document = json.loads(json.dumps(source.result))
    for cell in document["cells"]:
        for samples in (cell["samples"], cell["wrong_output_samples"]):
            if samples:
                samples["steps"] = {name: [] for name in samples["steps"]}
    return json.dumps(document)
