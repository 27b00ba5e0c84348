"""Whether pictures can be drawn here, asked before anything is measured for them."""

from importlib.util import find_spec

from inference_benchmark.errors import CannotRun


def check_plots_package() -> None:
    """
    Raises:
        CannotRun: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise CannotRun("pictures need matplotlib: pip install -e '.[plots]'")
