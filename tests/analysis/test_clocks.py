"""Which cells are asked whether they ran at the same clocks."""

import pytest
from scripted import steady, whole_session

from inference_benchmark.analysis import cells

LABELS = ("eager b1", "inductor b1", "eager b8", "inductor b8")


def state(clock_mhz: float, capped: float = 0.0, limit_w: float = 700.0) -> dict:
    """What the driver said of the runs; capped: share of the time at the power limit."""
    return {
        "sm_clock_hz": dict.fromkeys(("min", "median", "max"), clock_mhz * 1e6),
        "power_limit_w": limit_w,
        "default_power_limit_w": 700.0,
        "throttled_share": {"software_power_cap": capped},
    }


@pytest.fixture
def reasons_at(monkeypatch, capsys):
    """States by label -> the codes of each cell's reasons, by label."""
    run = whole_session(monkeypatch, capsys)

    def codes(**states: dict) -> dict[str, set[str]]:
        by_label = {name.replace("_", " "): states[name] for name in states}
        monkeypatch.setattr(cells, "gpu_state", lambda cell: by_label[cell.label])
        scripts = {label: {"script": steady(0.1, 0.05)} for label in by_label}
        sizes = sorted({label.split(" b")[1] for label in by_label})
        arguments = ("--mode", "eager", "inductor", "--batch-size", *sizes, "--num-iterations", "6")
        _, _, result = run(scripts, *arguments)
        return {
            cell["label"]: {reason["code"] for reason in cell["validity"]["reasons"]}
            for cell in result["cells"]
        }

    return codes


def test_cells_of_one_batch_size_at_other_clocks_are_doubted(reasons_at):
    found_codes = reasons_at(eager_b1=state(1980), inductor_b1=state(1830))
    assert all("clocks_differ" in codes for codes in found_codes.values())


def test_a_larger_batch_may_run_at_lower_clocks(reasons_at):
    light, heavy = state(1980), state(1800)
    found_codes = reasons_at(eager_b1=light, inductor_b1=light, eager_b8=heavy, inductor_b8=heavy)
    assert set(found_codes) == set(LABELS)
    assert not any("clocks_differ" in codes for codes in found_codes.values())


@pytest.mark.parametrize(
    ("capped", "limit_w", "is_doubted"),
    [(0.95, 700.0, False), (0.5, 700.0, True), (0.95, 600.0, True)],
)
def test_clocks_are_explained_by_the_boards_own_limit_alone(
    reasons_at, capped, limit_w, is_doubted
):
    slower = state(1640, capped, limit_w)
    found_codes = reasons_at(eager_b1=state(1980), inductor_b1=slower)
    for codes in found_codes.values():
        assert ("clocks_differ" in codes) == is_doubted
