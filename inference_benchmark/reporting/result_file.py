"""The result file: one JSON object per session, from which every table is rendered.

It is rewritten after each round through a temporary file beside it, so that at any moment the file
on disk is whole and holds every finished round. Its shape is reporting/result.schema.json.
"""

from datetime import UTC, datetime

from inference_benchmark.analysis.estimates import estimated_cells, is_source
from inference_benchmark.analysis.validity import Evidence, judge, judge_estimate
from inference_benchmark.hardware import PRICE_COLUMNS, PRICE_DATE, PRICE_SOURCE, Ceilings
from inference_benchmark.options.identity import identity_config
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.saved_cells import SCHEMA_VERSION
from inference_benchmark.session.cell import Cell
from inference_benchmark.statistics.intervals import relative_half_width
from inference_benchmark.statistics.ratios import compare
from inference_benchmark.statistics.verdicts import Ratio
from inference_benchmark.system.gpu_state import energy_per_token_j, summarize_state
from inference_benchmark.system.memory import combine
from inference_benchmark.workloads.metrics import summarize_cell, tbot_samples, total_samples


class ResultBuilder:
    """Turns the state of a session into the result object, at any moment of the session.

    Args:
        request: what was asked for.
        environment: measurement.environment.describe().
        ceilings: by precision name, what limits refer to.
        prices: $ per GPU-hour as {"min", "median", "max"}, or None.
        command: the command line, for the record.
    """

    def __init__(
        self,
        request: Request,
        environment: dict,
        ceilings: dict[str, Ceilings | None],
        prices: dict | None,
        command: list[str],
    ) -> None:
        self.request = request
        self.environment = environment
        self.ceilings = ceilings
        self.prices = prices
        self.command = command
        self.created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.ready_s: float | None = None  # from the command to the first warm-up run
        self.warnings: list[str] = list(request.notices)
        self.num_gpus = request.tensor_parallel

    def build(self, cells: list[Cell]) -> dict:
        """Estimates stand before the cells that they come from."""
        estimates = self._estimates(cells)
        everything = [*estimates, *cells]
        records = [self._cell(cell) for cell in everything]
        for cell, record in zip(everything, records, strict=True):
            record["speedup"] = self._speedup(cell, everything)
        measured = records[len(estimates) :]
        for cell, record in zip(cells, measured, strict=True):
            record["cold_start"]["payback_tokens"] = self._payback_tokens(cell, cells)
            record["validity"] = judge(self._evidence(cell, record, measured))
        for cell, record in zip(estimates, records[: len(estimates)], strict=True):
            sources = [
                found["validity"]
                for other, found in zip(cells, measured, strict=True)
                if is_source(other, cell)
            ]
            record["validity"] = judge_estimate(self._evidence(cell, record, []), sources)
        return {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "command": self.command,
            "environment": self.environment,
            "config": self._config(),
            "model": self._model(),
            "cells": records,
            "warnings": self.warnings,
        }

    def _estimates(self, cells: list[Cell]) -> list[Cell]:
        request = self.request
        if request.extrapolation is None:
            return []
        return estimated_cells(cells, request.extrapolation, request.model, request.share)

    def _config(self) -> dict:
        return identity_config(self.request) | {
            "ready_s": self.ready_s,
            "price_source": self._price_source(),
        }

    def _price_source(self) -> str | None:
        if self.prices is None:
            return None
        if self.request.gpu_price is not None:
            return "given"
        return f"{PRICE_SOURCE} of {PRICE_DATE}, {', '.join(PRICE_COLUMNS)}"

    def _model(self) -> dict:
        model, precision = self.request.model, self.request.precision_of(self.request.specs[0])
        return {
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "weight_bytes": model.weight_bytes(precision),
            "weight_bytes_per_gpu": self.request.share.weight_bytes(precision),
            "kv_bytes_per_token": model.kv_bytes_per_token(precision),
            "kv_bytes_per_token_per_gpu": self.request.share.kv_bytes_per_token(precision),
            "context_length": model.context_length,
            "tied_embeddings": model.tied_embeddings,
        }

    def _cell(self, cell: Cell) -> dict:
        samples, work = cell.samples(), cell.work
        ceilings = self.ceilings.get(cell.precision.name)
        before, after = [list(side) for side in zip(*cell.snapshots, strict=True)] or ([], [])
        tokens = work.batch_size * work.output_length * len(cell.runs)
        # Of several GPUs all snapshots count: energy is their sum, a window lasts on each of them.
        window_s = 2.0 * self.num_gpus
        energy = energy_per_token_j(before, after, tokens, window_s) if cell.snapshots else None
        return {
            "label": cell.label,
            "mode": cell.spec.name,
            "batch_size": cell.batch_size,
            "num_layers": cell.model.num_layers,
            "options": {
                "cuda_graphs": cell.spec.cuda_graphs,
                "executors": list(cell.spec.executors),
                "attention": cell.kernels.attention,
                "linear": cell.kernels.linear,
                "experts": cell.kernels.experts if cell.model.num_experts else None,
                "all_reduce": getattr(cell.kernels, "all_reduce", None),
                "precision": cell.precision.name,
                "compiler": cell.details,
                "routing": cell.routing,
            },
            "timer": cell.timer,
            "estimated": cell.extrapolation is not None,
            "extrapolation": cell.extrapolation and cell.extrapolation.record(),
            "prefill_flops": work.prefill_flops,
            "decode_bytes_per_step": work.decode_bytes,
            "limit": work.limit(ceilings),
            "bound": work.bound(ceilings),
            "samples": {"round": cell.rounds, "started": cell.started, **samples},
            "summary": summarize_cell(samples, work, ceilings, self.num_gpus, self.prices, energy),
            "speedup": None,
            "cold_start": _cold_start(cell),
            "memory": cell.memory | combine(cell.rank_memory),
            "gpu_state": self._gpu_state(before, after),
            "host": cell.host,
            "profile": cell.profile,
            "agreement": cell.agreement,
            "stop_reason": cell.stop_reason,
            "validity": None,
            "status": cell.status,
            "error": cell.error,
        }

    def _gpu_state(self, before: list, after: list) -> dict | None:
        """Of several GPUs everything together, but for throttling: the slowest one holds up all."""
        state = summarize_state(before, after)
        if state is None or self.num_gpus == 1:
            return state
        each = [
            summarize_state(before[rank :: self.num_gpus], after[rank :: self.num_gpus])
            for rank in range(self.num_gpus)
        ]
        shares = [own["throttled_share"] for own in each if own is not None]
        worst = {
            cause: max((s[cause] for s in shares if s[cause] is not None), default=None)
            for cause in state["throttled_share"]
        }
        return state | {"throttled_share": worst, "per_gpu": each}

    def _speedup(self, cell: Cell, cells: list[Cell]) -> dict | None:
        """Against the baseline on the rounds both have; none where an output is wrong."""
        baseline = self._baseline(cell, cells)
        if baseline is None or baseline is cell or not cell.is_sound:
            return None
        found = {"baseline": baseline.label, **_ratios(baseline, cell)}
        plain = _find(cells, "eager", cell)
        if plain is not None and plain is not baseline and plain is not cell:
            found["plain_eager"] = {"baseline": plain.label, **_ratios(plain, cell)}
        return found

    def _baseline(self, cell: Cell, cells: list[Cell]) -> Cell | None:
        wanted = self.request.baseline
        if wanted is None:
            wanted = "eager+graphs" if cell.spec.cuda_graphs else "eager"
        return _find(cells, wanted, cell)

    def _payback_tokens(self, cell: Cell, cells: list[Cell]) -> float | None:
        """Output tokens per sequence after which the mode has won back its cold start against plain
        eager; None where it never does or nothing is known. Of two depths neither is the model in
        question, and the second may use what was compiled for the first."""
        plain = _find(cells, "eager", cell)
        if self.request.extrapolation is not None or plain is None or plain is cell:
            return None
        if not cell.is_sound or cell.work.output_length < 2:
            return None
        per_token = _median_tbot(plain) - _median_tbot(cell)
        if per_token <= 0:
            return None
        return max(0.0, _cold_s(cell) - _cold_s(plain)) / per_token

    def _evidence(self, cell: Cell, record: dict, records: list[dict]) -> Evidence:
        samples = record["samples"]
        totals = total_samples(samples["ttft_s"], samples["decode_s"])
        tbot = tbot_samples(samples["decode_s"], cell.work.output_length)
        clocks = [
            other["gpu_state"]["sm_clock_hz"]["median"]
            for other in records
            if other is not record and _has_clock(other)
        ]
        widths = [relative_half_width(times) for times in (samples["ttft_s"], tbot) if times]
        known = [width for width in widths if width is not None]
        agreed = None if cell.agreement is None else cell.agreement["passed"]
        # The rule that stops a session looks at what is measured, not at estimates.
        adaptive = self.request.num_iterations is None and cell.extrapolation is None
        return Evidence(
            device=self.request.device,
            total_s=tuple(totals),
            ttft_s=tuple(samples["ttft_s"]),
            tbot_s=tuple(tbot),
            gpu_state=record["gpu_state"],
            other_cells_sm_clock_hz=tuple(clocks),
            recompilations=cell.recompilations,
            allocator_retries=cell.memory.get("allocator_retries"),
            timer_disagreement=_timer_disagreement(cell),
            target_ci=(self.request.target_ci or 0.01) if adaptive else None,
            achieved_ci=max(known) if known else None,
            stop_reason=cell.stop_reason,
            agreement_passed=agreed,
        )


def _timer_disagreement(cell: Cell) -> tuple[float, ...] | None:
    if cell.extrapolation is not None:
        return None
    return tuple(abs(run.wall_s / run.total_s - 1) for run in cell.runs)


def _has_clock(record: dict) -> bool:
    state = record["gpu_state"]
    return bool(state and state.get("sm_clock_hz"))


def _find(cells: list[Cell], spec_label: str, like: Cell) -> Cell | None:
    """The sound cell of this mode at the batch size and depth of another one."""
    wanted = spec_label, like.batch_size, like.model.num_layers
    for cell in cells:
        if (cell.spec.label, cell.batch_size, cell.model.num_layers) == wanted and cell.is_sound:
            return cell
    return None


def _ratios(baseline: Cell, cell: Cell) -> dict:
    shared = sorted(set(baseline.rounds) & set(cell.rounds))
    before, after = (_times(each, shared) for each in (baseline, cell))
    return {
        metric: _ratio_record(compare(before[metric], after[metric], paired=True))
        if before[metric]
        else None
        for metric in before
    }


def _times(cell: Cell, rounds: list[int]) -> dict[str, list[float]]:
    runs = [run for run, number in zip(cell.runs, cell.rounds, strict=True) if number in rounds]
    return {
        "ttft": [run.ttft_s for run in runs],
        "tbot": tbot_samples([run.decode_s for run in runs], cell.work.output_length),
        "total": [run.total_s for run in runs],
    }


def _ratio_record(ratio: Ratio) -> dict:
    interval = None if ratio.ci95 is None else list(ratio.ci95)
    return {"ratio": ratio.ratio, "ci95": interval, "verdict": ratio.verdict}


def _cold_start(cell: Cell) -> dict | None:
    if cell.cold_start is None:
        return None
    return {**cell.cold_start, "warmup_s": [run.total_s for run in cell.warmup_runs]}


def _cold_s(cell: Cell) -> float:
    names = ("setup_s", "compile_prefill_s", "compile_decode_s", "capture_s")
    return sum(cell.cold_start.get(name) or 0.0 for name in names)


def _median_tbot(cell: Cell) -> float:
    times = sorted(tbot_samples([run.decode_s for run in cell.runs], cell.work.output_length))
    return times[len(times) // 2]
