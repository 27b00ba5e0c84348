"""examples/own_model.py with norm, RoPE and SwiGLU as one Triton kernel each, forward and backward.

    python benchmark_inference.py --implementation examples/own_model.py:build \\
        examples/fused_model.py:build --model-name llama3.2-1b --mode eager --workload forward

In eager each of these is half a dozen kernels, which read and write the activations every time; one
kernel reads and writes them once. On a CPU, and where no Triton is, the plain operations stay.
"""

import torch
from own_model import Attention, FeedForward, Layer, Llama, RMSNorm

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    triton = None


def build(config):
    return FusedLlama(config)


class FusedNorm(RMSNorm):
    def forward(self, x):
        return Norm.apply(x, self.weight, self.eps) if has_kernels(x) else super().forward(x)


class FusedAttention(Attention):
    def rotate(self, x, cos, sin):
        return Rope.apply(x, cos, sin) if has_kernels(x) else super().rotate(x, cos, sin)


class FusedFeedForward(FeedForward):
    def activate(self, gate, up):
        return Swiglu.apply(gate, up) if has_kernels(gate) else super().activate(gate, up)


class FusedLayer(Layer):
    attention, feed_forward, norm = FusedAttention, FusedFeedForward, FusedNorm


class FusedLlama(Llama):
    layer = FusedLayer


def has_kernels(x):
    return triton is not None and x.is_cuda


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        rows, size = x.numel() // x.shape[-1], x.shape[-1]
        x = x.contiguous()
        y = torch.empty(x.shape, dtype=weight.dtype, device=x.device)
        scales = torch.empty(rows, dtype=torch.float32, device=x.device)
        norm_forward[(rows,)](x, weight, y, scales, size, eps, triton.next_power_of_2(size))
        ctx.save_for_backward(x, weight, scales)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, scales = ctx.saved_tensors
        rows, size = scales.numel(), x.shape[-1]
        dy, dx = dy.contiguous(), torch.empty_like(x)
        rows_per_program = triton.next_power_of_2(triton.cdiv(rows, 528))
        programs = triton.cdiv(rows, rows_per_program)
        partial = torch.empty(programs, size, dtype=torch.float32, device=x.device)
        norm_backward[(programs,)](
            dy,
            x,
            weight,
            scales,
            dx,
            partial,
            rows,
            size,
            rows_per_program,
            triton.next_power_of_2(size),
        )
        return dx, partial.sum(0).to(weight.dtype), None


class Rope(torch.autograd.Function):
    """A rotation; its gradient is rotated back."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return rotated(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx, dy):
        return rotated(dy, *ctx.saved_tensors, -1.0), None, None


def rotated(x, cos, sin, direction):
    """x [batch, heads, length, head_dim], with any strides but the last; a transposed copy."""
    batch, heads, length, size = x.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    y = torch.empty(batch, length, heads, size, dtype=x.dtype, device=x.device).transpose(1, 2)
    block = triton.next_power_of_2(size // 2)
    rotate[(batch * length,)](
        *(x, cos, sin, y, length, heads, size // 2, direction),
        *(x.stride(0), x.stride(1), x.stride(2), y.stride(0), y.stride(1), y.stride(2)),
        triton.next_power_of_2(heads),
        block,
    )
    return y


class Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        y = torch.empty_like(gate)
        swiglu_forward[(triton.cdiv(y.numel(), 2048),)](gate, up, y, y.numel(), 2048)
        return y

    @staticmethod
    def backward(ctx, dy):
        gate, up = ctx.saved_tensors
        d_gate, d_up, count = torch.empty_like(gate), torch.empty_like(up), gate.numel()
        swiglu_backward[(triton.cdiv(count, 2048),)](
            dy.contiguous(), gate, up, d_gate, d_up, count, 2048
        )
        return d_gate, d_up


if triton is not None:

    @triton.jit
    def norm_forward(x, weight, y, scales, size, eps, block: tl.constexpr):
        row, column = tl.program_id(0).to(tl.int64), tl.arange(0, block)
        inside = column < size
        value = tl.load(x + row * size + column, inside, 0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(value * value) / size + eps)
        tl.store(scales + row, scale)
        normal = (value * scale).to(x.dtype.element_ty).to(tl.float32)
        result = normal * tl.load(weight + column, inside, 0.0).to(tl.float32)
        tl.store(y + row * size + column, result.to(y.dtype.element_ty), inside)

    @triton.jit
    def norm_backward(
        dy,
        x,
        weight,
        scales,
        dx,
        partial,
        rows,
        size,
        rows_per_program: tl.constexpr,
        block: tl.constexpr,
    ):
        """A program takes so many rows, and adds up its part of the weight's gradient."""
        column = tl.arange(0, block)
        w = tl.load(weight + column, column < size, 0.0).to(tl.float32)
        d_weight = tl.zeros((block,), tl.float32)
        for number in range(rows_per_program):
            row = tl.program_id(0) * rows_per_program + number
            inside = (column < size) & (row < rows)
            at = row.to(tl.int64) * size + column
            value = tl.load(x + at, inside, 0.0).to(tl.float32)
            gradient = tl.load(dy + at, inside, 0.0).to(tl.float32)
            scale = tl.load(scales + row, row < rows, 0.0)
            normal = value * scale
            d_weight += gradient * normal
            gradient = gradient * w
            shared = tl.sum(gradient * normal) / size
            result = (gradient - normal * shared) * scale
            tl.store(dx + at, result.to(dx.dtype.element_ty), inside)
        tl.store(partial + tl.program_id(0) * size + column, d_weight, column < size)

    @triton.jit
    def rotate(
        x,
        cos,
        sin,
        y,
        length,
        heads,
        half,
        direction,
        x_batch,
        x_head,
        x_token,
        y_batch,
        y_head,
        y_token,
        head_block: tl.constexpr,
        block: tl.constexpr,
    ):
        """A program takes all heads of one token; both halves of a pair have the same angle."""
        batch, token = tl.program_id(0) // length, tl.program_id(0) % length
        head, column = tl.arange(0, head_block)[:, None], tl.arange(0, block)[None, :]
        inside = (head < heads) & (column < half)
        c = tl.load(cos + token * 2 * half + column, column < half, 0.0).to(tl.float32)
        s = tl.load(sin + token * 2 * half + column, column < half, 0.0).to(tl.float32)
        s = s * direction
        source = x + batch.to(tl.int64) * x_batch + head * x_head + token * x_token + column
        target = y + batch.to(tl.int64) * y_batch + head * y_head + token * y_token + column
        first = tl.load(source, inside, 0.0).to(tl.float32)
        second = tl.load(source + half, inside, 0.0).to(tl.float32)
        dtype = y.dtype.element_ty
        tl.store(target, (first * c - second * s).to(dtype), inside)
        tl.store(target + half, (second * c + first * s).to(dtype), inside)

    @triton.jit
    def swiglu_forward(gate, up, y, count, block: tl.constexpr):
        at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = at < count
        g = tl.load(gate + at, inside, 0.0).to(tl.float32)
        u = tl.load(up + at, inside, 0.0).to(tl.float32)
        tl.store(y + at, (g * tl.sigmoid(g) * u).to(y.dtype.element_ty), inside)

    @triton.jit
    def swiglu_backward(dy, gate, up, d_gate, d_up, count, block: tl.constexpr):
        at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = at < count
        d = tl.load(dy + at, inside, 0.0).to(tl.float32)
        g = tl.load(gate + at, inside, 0.0).to(tl.float32)
        u = tl.load(up + at, inside, 0.0).to(tl.float32)
        sigmoid = tl.sigmoid(g)
        of_gate = d * u * sigmoid * (1 + g * (1 - sigmoid))
        tl.store(d_gate + at, of_gate.to(d_gate.dtype.element_ty), inside)
        tl.store(d_up + at, (d * g * sigmoid).to(d_up.dtype.element_ty), inside)
