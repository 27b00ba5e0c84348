"""All pictures of a subject, in the order in which a page shows them."""

from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from inference_benchmark.plotting.depth import depth_picture
from inference_benchmark.plotting.kernels import kernel_pictures
from inference_benchmark.plotting.memory import memory_picture
from inference_benchmark.plotting.pareto import pareto_pictures
from inference_benchmark.plotting.picture import Picture
from inference_benchmark.plotting.roofline import roofline_picture
from inference_benchmark.plotting.runs import runs_pictures
from inference_benchmark.plotting.speedups import speedup_picture
from inference_benchmark.plotting.startup import startup_picture
from inference_benchmark.plotting.steps import steps_pictures
from inference_benchmark.plotting.subject import Subject

_MAKERS = (
    pareto_pictures,
    roofline_picture,
    depth_picture,
    speedup_picture,
    runs_pictures,
    steps_pictures,
    kernel_pictures,
    startup_picture,
    memory_picture,
)


def pictures_of(subject: Subject) -> list[Picture]:
    """Those for which the subject has numbers. To be called in house_style()."""
    return [picture for maker in _MAKERS for picture in _listed(maker(subject))]


def _listed(made: Picture | list[Picture] | None) -> list[Picture]:
    if made is None:
        return []
    return made if isinstance(made, list) else [made]


def share_axes(figures: Sequence[Figure]) -> None:
    """The same ends of the axes in pictures that stand side by side, where they have the same
    panels: only then can they be compared at a glance."""
    panels = [figure.axes for figure in figures]
    if len({len(axes) for axes in panels}) > 1:
        return
    for alike in zip(*panels, strict=True):
        for axis_name in ("x", "y"):
            is_of_rows = axis_name == "y" and not any(axes.get_yticks().size for axes in alike)
            if (
                not is_of_rows
                and len({getattr(axes, f"get_{axis_name}scale")() for axes in alike}) == 1
            ):
                _share(axis_name, alike)


def _share(axis_name: str, alike: Iterable) -> None:
    ends = [getattr(axes, f"get_{axis_name}lim")() for axes in alike]
    low, high = min(map(min, ends)), max(map(max, ends))
    for axes, (first, last) in zip(alike, ends, strict=True):
        getattr(axes, f"set_{axis_name}lim")((low, high) if first < last else (high, low))
