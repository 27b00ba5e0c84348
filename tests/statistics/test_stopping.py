"""When a session and a warm-up end."""

import pytest

from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule


def cell(runs: int, spread: float = 0.0, tbot: bool = True) -> dict[str, list[float]]:
    times = [1.0 + (spread if i % 2 else -spread) for i in range(runs)]
    return {"ttft_s": times, "tbot_s": list(times) if tbot else []}


class TestStopping:
    def test_converges_after_ten_runs_in_every_cell(self):
        rule = StoppingRule.adaptive("cuda")
        assert rule.decide([cell(9), cell(9)], 1.0) is None
        assert rule.decide([cell(10), cell(9)], 1.0) is None
        assert rule.decide([cell(10), cell(10)], 1.0) == "converged"

    def test_waits_for_the_widest_interval_of_any_metric(self):
        rule = StoppingRule.adaptive("cuda")
        one_wide = {"ttft_s": cell(10, 0.05)["ttft_s"], "tbot_s": cell(10)["tbot_s"]}
        assert rule.decide([cell(10), one_wide], 1.0) is None
        assert rule.decide([cell(100, 0.2)], 1.0) == "max_iterations"

    def test_precision_that_is_asked_for_replaces_one_percent(self):
        wide = [cell(10, 0.02)]  # of ten, the second and the ninth: 0.98 to 1.02
        assert StoppingRule.adaptive("cuda").decide(wide, 1.0) is None
        assert StoppingRule.adaptive("cuda", target_ci=0.021).decide(wide, 1.0) == "converged"
        assert StoppingRule.adaptive("cuda", target_ci=0.019).decide(wide, 1.0) is None

    @pytest.mark.parametrize(
        ("rule", "limit_s"),
        [
            (StoppingRule.adaptive("cuda"), 600),
            (StoppingRule.adaptive("cpu"), 30),
            (StoppingRule.adaptive("cpu", max_seconds=7), 7),
        ],
    )
    def test_timeout_may_stop_below_ten_but_never_below_three(self, rule, limit_s):
        assert rule.decide([cell(3)], limit_s - 0.1) is None
        assert rule.decide([cell(3)], limit_s) == "timeout"
        assert rule.decide([cell(2)], 100 * limit_s) is None

    def test_fixed_means_exactly_that(self):
        rule = StoppingRule.fixed(2)
        assert rule.decide([cell(1)], 1e9) is None
        assert rule.decide([cell(2, 0.5)], 0.0) == "fixed"

    def test_a_metric_without_samples_sets_no_target(self):
        rule = StoppingRule.adaptive("cuda")
        assert rule.decide([cell(10, tbot=False)], 1.0) == "converged"

    def test_refuses_to_decide_on_nothing(self):
        with pytest.raises(ValueError, match="no cell"):
            StoppingRule.fixed(1).decide([], 0.0)


class TestWarmup:
    def test_ends_when_times_agree_and_nothing_was_compiled(self):
        rule = WarmupRule()
        assert not rule.decide([9.0], [5])
        assert not rule.decide([9.0, 1.0], [5, 5])
        assert not rule.decide([9.0, 1.0, 1.005], [5, 5, 6])
        assert rule.decide([9.0, 1.0, 1.005], [5, 6, 6])
        assert not rule.decide([9.0, 1.0, 1.02], [5, 5, 5])
        assert rule.decide([1.0, 1.005], [])  # a mode that can't compile

    def test_ends_after_ten_at_the_latest(self):
        times = [2.0**i for i in range(10)]
        assert not WarmupRule().decide(times[:9], list(range(9)))
        assert WarmupRule().decide(times, list(range(10)))

    def test_fixed_means_exactly_that(self):
        assert WarmupRule.fixed(0).decide([], [])
        assert not WarmupRule.fixed(3).decide([1.0, 1.0], [0, 0])
        assert WarmupRule.fixed(3).decide([1.0, 5.0, 1.0], [0, 1, 2])
