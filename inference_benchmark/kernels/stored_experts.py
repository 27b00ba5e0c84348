"""The same matrix of all experts of a layer, as the weight formats store it.

A format is that of one matrix of all experts' rows, expert after expert, so that what nf4 has for each
256 groups may belong to two experts. Whatever the format, some experts are asked for as weights of a
type: to be multiplied as those of a model that is not quantised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.kernels.fp8_few_rows import launch_scale_rows
from inference_benchmark.kernels.int4_linear import dequantize_int4
from inference_benchmark.kernels.nf4_linear import scaled_levels
from inference_benchmark.kernels.packed_matrix import PackedMatrix
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, launch_unpack


@dataclass(frozen=True)
class ByteExperts:
    """values [experts, rows, columns] in int8 or e4m3, times scales [experts, rows, 1] in fp32."""

    values: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        """Experts, and rows of each."""
        return self.values.shape[:2]

    def widen(self, experts: range | Tensor, columns: int, dtype: torch.dtype) -> Tensor:
        """The weights [n, rows, columns] of the experts with these numbers, rounded to dtype once."""
        values, scales = _pick(self.values, experts), _pick(self.scales, experts)
        return (values.to(torch.promote_types(dtype, torch.float32)) * scales).to(dtype)

    def launch_widen(self, experts: range, columns: int, dtype: torch.dtype) -> Tensor:
        """The same on the current device and stream, without the wide weights in between."""
        values, scales = _pick(self.values, experts), _pick(self.scales, experts)
        rows = launch_scale_rows(values.flatten(0, 1), scales.flatten(0, 1), dtype)
        return rows.view(values.shape)


@dataclass(frozen=True)
class _PackedExperts:
    """words [experts, rows, blocks * 16] and scales [experts, rows, groups] of 4 bits.

    PyTorch's operators widen one expert after the other, as they write many times its bytes on the way.
    """

    words: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.words.shape[:2]

    def widen(self, experts: range | Tensor, columns: int, dtype: torch.dtype) -> Tensor:
        if isinstance(experts, range):
            experts = torch.arange(experts.start, experts.stop, device=self.words.device)
        out = self.words.new_empty((experts.numel(), self.shape[1], columns), dtype=dtype)
        for place, number in enumerate(experts.split(1)):
            out[place].copy_(self._expert(number)[:, :columns])
        return out

    def launch_widen(self, experts: range, columns: int, dtype: torch.dtype) -> Tensor:
        rows = self.shape[1]
        of_experts = range(experts.start * rows, experts.stop * rows)
        matrix = launch_unpack(self._packed(), columns, dtype, rows=of_experts)
        return matrix.view(len(experts), rows, columns)

    def _expert(self, number: Tensor) -> Tensor:
        """The weights [rows, blocks * 128] in fp32 of the expert with this number [1]."""
        raise NotImplementedError

    def _packed(self) -> PackedMatrix:
        """All rows of all experts."""
        raise NotImplementedError


@dataclass(frozen=True)
class Int4Experts(_PackedExperts):
    """As int4_linear's weights, with zeros [experts, rows, groups] or without."""

    zeros: Tensor | None = None

    def _expert(self, number: Tensor) -> Tensor:
        zeros = None if self.zeros is None else _pick(self.zeros, number)[0]
        scales = _pick(self.scales, number)[0].float()
        return dequantize_int4(_pick(self.words, number)[0], scales, zeros)

    def _packed(self) -> PackedMatrix:
        words, scales = self.words.flatten(0, 1), self.scales.flatten(0, 1)
        if self.zeros is None:
            return PackedMatrix("int4", words, scales)
        return PackedMatrix("int4_zeros", words, scales, self.zeros.flatten(0, 1))


@dataclass(frozen=True)
class Nf4Experts(_PackedExperts):
    """As nf4_linear's weights."""

    scale_scales: Tensor
    scale_mean: Tensor
    levels: Tensor

    def _expert(self, number: Tensor) -> Tensor:
        scales = _pick(self.scales, number)[0]
        groups = torch.arange(scales.numel(), device=scales.device) + number * scales.numel()
        of_block = self.scale_scales.index_select(0, groups // SCALE_BLOCK).view(scales.shape)
        of_groups = scales.float() * of_block + self.scale_mean
        return scaled_levels(_pick(self.words, number)[0], of_groups, self.levels)

    def _packed(self) -> PackedMatrix:
        words, scales = self.words.flatten(0, 1), self.scales.flatten(0, 1)
        further = self.scale_scales, self.scale_mean, self.levels
        return PackedMatrix("nf4", words, scales, None, *further)


StoredExperts = ByteExperts | Int4Experts | Nf4Experts
# By the name that a weight format gives: made of the format's tensors.
STORED_EXPERTS = {"bytes": ByteExperts, "int4": Int4Experts, "nf4": Nf4Experts}


def _pick(tensor: Tensor, experts: range | Tensor) -> Tensor:
    """Of a tensor [experts, ...] the part of these."""
    if isinstance(experts, range):
        return tensor[experts.start : experts.stop]
    if tensor.element_size() > 1:
        return tensor.index_select(0, experts)
    # PyTorch picks no floats of 8 bits.
    return tensor.view(torch.uint8).index_select(0, experts).view(tensor.dtype)
