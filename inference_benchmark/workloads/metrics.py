"""From a cell's raw samples to the metrics of the result file. Pure arithmetic, no torch.

Rates are tokens over the median time, never a mean of rates, so that a rate always agrees with the
time printed beside it.
"""

from dataclasses import dataclass

from inference_benchmark.hardware import Ceilings, cost_per_million_tokens
from inference_benchmark.models import ModelConfig, Precision, decode_contexts
from inference_benchmark.statistics.summaries import step_percentiles, summarize


@dataclass(frozen=True)
class Work:
    """What one run of a cell has to do, and the least time the hardware alone needs for it."""

    batch_size: int
    input_length: int
    output_length: int
    prefill_flops: int
    prefill_bytes: int
    decode_flops: float  # per step, averaged over a run's steps
    decode_bytes: float
    prefill_attention_flops: int  # of prefill_flops
    decode_kv_bytes: float  # of decode_bytes
    decode_attention_flops: float  # of decode_flops

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        precision: Precision,
        batch_size: int,
        input_length: int,
        output_length: int,
    ) -> "Work":
        contexts = decode_contexts(input_length, output_length)
        return cls(
            batch_size,
            input_length,
            output_length,
            model.prefill_flops(batch_size, input_length),
            model.prefill_bytes(precision, batch_size, input_length),
            model.decode_flops(batch_size, contexts),
            model.decode_bytes(precision, batch_size, contexts),
            model.prefill_attention_flops(batch_size, input_length),
            model.decode_kv_bytes(precision, batch_size, contexts),
            model.decode_attention_flops(batch_size, contexts),
        )

    def limit(self, ceilings: Ceilings | None) -> dict | None:
        """The larger of bytes and FLOPs over their rate, and what attention and matmuls need of it."""
        if ceilings is None:
            return None
        bandwidth, peak = ceilings.bandwidth_bytes_per_s, ceilings.peak_flops

        def least_s(flops: float, moved: float) -> float:
            return max(flops / peak, moved / bandwidth)

        ttft_s = least_s(self.prefill_flops, self.prefill_bytes)
        tbot_s = least_s(self.decode_flops, self.decode_bytes)
        prefill_matmul_flops = self.prefill_flops - self.prefill_attention_flops
        decode_matmul_flops = self.decode_flops - self.decode_attention_flops
        weight_bytes = self.decode_bytes - self.decode_kv_bytes
        total_s = ttft_s + (self.output_length - 1) * tbot_s
        return {
            "ttft_s": ttft_s,
            "tbot_s": tbot_s if self.output_length > 1 else None,
            "total_s": total_s,
            "basis": ceilings.basis,
            "by_kind": {
                "prefill": {
                    "matmul": least_s(prefill_matmul_flops, self.prefill_bytes),
                    "attention": self.prefill_attention_flops / peak,
                },
                "decode": {
                    "matmul": least_s(decode_matmul_flops, weight_bytes),
                    "attention": least_s(self.decode_attention_flops, self.decode_kv_bytes),
                },
            },
        }

    def bound(self, ceilings: Ceilings | None) -> dict | None:
        """What the hardware limit of each phase is made of: "compute" or "bandwidth"."""
        if ceilings is None:
            return None
        bandwidth, peak = ceilings.bandwidth_bytes_per_s, ceilings.peak_flops
        prefill_computes = self.prefill_flops / peak >= self.prefill_bytes / bandwidth
        decode_computes = self.decode_flops / peak >= self.decode_bytes / bandwidth
        names = {True: "compute", False: "bandwidth"}
        return {"prefill": names[prefill_computes], "decode": names[decode_computes]}


def tbot_samples(decode_s: list[float], output_length: int) -> list[float]:
    """Time between output tokens of each run; empty where there is one output token only."""
    if output_length < 2:
        return []
    return [time / (output_length - 1) for time in decode_s]


def total_samples(ttft_s: list[float], decode_s: list[float]) -> list[float]:
    return [first + rest for first, rest in zip(ttft_s, decode_s, strict=True)]


def summarize_cell(
    samples: dict,
    work: Work,
    ceilings: Ceilings | None,
    num_gpus: int,
    prices: dict | None,
    energy_per_token_j: float | None,
) -> dict:
    """The result file's `summary` of one cell.

    Args:
        samples: {"ttft_s": [...], "decode_s": [...], "step_s": [[...], ...]}, one entry per run.
        prices: $ per GPU-hour, {"min", "median", "max"}, or None.
    """
    ttft = summarize(samples["ttft_s"])
    tbot = summarize(tbot_samples(samples["decode_s"], work.output_length))
    totals = total_samples(samples["ttft_s"], samples["decode_s"])
    total = summarize(totals)
    decode = summarize(samples["decode_s"]) if work.output_length > 1 else summarize([])
    output_tokens = work.batch_size * work.output_length
    all_tokens = output_tokens + work.batch_size * work.input_length
    output_rate = _rate(output_tokens, total["median"])
    return {
        "ttft_s": ttft,
        "tbot_s": tbot,
        "decode_s": decode,
        "total_s": total,
        "step_s": step_percentiles(samples["step_s"]),
        "overall_tokens_per_s": _rate(all_tokens, total["median"]),
        "output_tokens_per_s": output_rate,
        "prefill_tokens_per_s": _rate(work.batch_size * work.input_length, ttft["median"]),
        "decode_tokens_per_s": _rate(work.batch_size, tbot["median"]),
        "output_tokens_per_s_std": summarize([output_tokens / time for time in totals])["std"],
        "per_gpu_tokens_per_s": None if output_rate is None else output_rate / num_gpus,
        "per_user_tokens_per_s": _rate(1, tbot["median"]),
        "s_per_token": None if total["median"] is None else total["median"] / work.output_length,
        "mfu": _share(work.prefill_flops, ttft["median"], ceilings and ceilings.peak_flops),
        "mbu": _share(
            work.decode_bytes, tbot["median"], ceilings and ceilings.bandwidth_bytes_per_s
        ),
        "energy_per_token_j": energy_per_token_j,
        "cost_per_million_tokens": _cost(prices, num_gpus, output_tokens, all_tokens, total),
    }


def _rate(tokens: int, seconds: float | None) -> float | None:
    return tokens / seconds if seconds else None


def _share(work: float, seconds: float | None, ceiling: float | None) -> float | None:
    """Rate of the work done over what the hardware can do, 0..1."""
    return work / seconds / ceiling if seconds and ceiling else None


def _cost(prices, num_gpus: int, output_tokens: int, all_tokens: int, total: dict) -> dict | None:
    if prices is None or not total["median"]:
        return None
    return {
        "output": cost_per_million_tokens(prices, num_gpus, output_tokens / total["median"]),
        "total": cost_per_million_tokens(prices, num_gpus, all_tokens / total["median"]),
    }
