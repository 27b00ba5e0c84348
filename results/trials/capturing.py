"""How trials capture what they time."""

from collections.abc import Callable

import torch


def captured(step: Callable[[], object], **options: str) -> tuple[torch.cuda.CUDAGraph, object]:
    """A CUDA graph of a step that has run once before, and what the step returned while it was captured.

    options: of torch.cuda.graph.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **options):
        result = step()
    return graph, result
