"""How the matrices of a model's layers are stored, and what that costs. No torch.

A decode step reads every weight once, so its time follows from the bytes of a weight: half of them,
half of the time. A format stores each weight in `storage_bits`, and a scale for each group of a
row's weights; products are computed in another type. bf16, fp16 and fp32 are stored as they are
multiplied. The embedding table, the head, norms and routers stay in the base type of a model's
precision.

A format of several tensors names the Python module that has its two functions:

    quantize(matrix [out, in]) -> tuple of tensors, what is kept of a linear layer's matrix
    linear(x [..., in], weights) -> [..., out], weights being that tuple

To add one, write that module and `register` the format (examples/weight_format_int8.py): then
--precision names it. QUANTIZED are this project's own, which --quantize names: several of them are
made of one model, each beside the others, and held against it. Their modules are in weight_formats/.
Each has `plain` of PyTorch's operators, `fast` of our kernels and perhaps `fast_swiglu`, of one row.
A name with a package behind a colon is a format as that package makes and multiplies it, with
+kernels too.
"""

from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Matrix:
    """`count` matrices [rows, columns] of a layer; a fraction where a number is an expected one.

    keeps_base_type: --quantize leaves it as it is: a router, whose choices are not to change, and
    what latent attention multiplies slice by slice.
    """

    rows: int
    columns: int
    count: float = 1
    keeps_base_type: bool = False

    @property
    def parameters(self) -> float:
        return self.count * self.rows * self.columns


@dataclass(frozen=True)
class WeightFormat:
    """
    storage_bits: of one weight; of a file's several types their mean.
    compute: the type of the products, which decides the GPU's peak.
    compute: "base" stands for the base type of the model.
    group_size: weights of a row that share a scale; None: all of a row do.
    scale_bits: of one scale, a zero point included; 0 where there is none, or one per matrix.
    columns_multiple: rows are filled up to a multiple of so many weights.
    scales_per_block: scales that share a scale of 32 bits themselves; None: they have none.
    matrix_bits: stored once for each matrix.
    module: the Python module of a format of several tensors; None: one matrix, multiplied as it is.
    made_by_engine: an engine quantises the base type's weights itself, into a copy of its own.
    experts: as what the experts of a mixture are stored, by a name of kernels.stored_experts; None:
        not at all.
    package: that makes and multiplies it, which pip installs by the same name; None: this project.
    base_types: of --precision that it takes.
    rows_of, columns_of: matrices must have a multiple of so many rows and columns.
    needs_gpu: it can't be multiplied on a CPU.
    """

    name: str
    storage_bits: float
    compute: str
    group_size: int | None = None
    scale_bits: int = 0
    module: str | None = None
    made_by_engine: bool = False
    columns_multiple: int = 1
    scales_per_block: int | None = None
    matrix_bits: int = 0
    experts: str | None = None
    package: str | None = None
    base_types: tuple[str, ...] = ("bf16", "fp16", "fp32")
    rows_of: int = 1
    columns_of: int = 1
    needs_gpu: bool = False
    description: str = ""

    def matrix_bytes(self, matrix: Matrix) -> float:
        """Bytes of the matrix and of its scales. Several, the same one of all experts, are stored as
        one matrix."""
        columns = -(-matrix.columns // self.columns_multiple) * self.columns_multiple
        groups = 1 if self.group_size is None else -(-columns // self.group_size)
        bits_per_row = columns * self.storage_bits + groups * self.scale_bits
        rows, further = matrix.count * matrix.rows, self.matrix_bits
        if self.scales_per_block is not None:
            further += -(-rows * groups // self.scales_per_block) * _BLOCK_SCALE_BITS
        return rows * -(-bits_per_row // 8) + further / 8

    def record(self) -> dict:
        """For the result file; of a package with its version."""
        record = {
            "format": self.name,
            "storage_bits": self.storage_bits,
            "group_size": self.group_size,
            "compute": self.compute,
        }
        if self.package is not None:
            record["package"] = f"{self.package} {metadata.version(self.package)}"
        return record


_BLOCK_SCALE_BITS = 32


# fmt: off
_TABLE = (
    #            name   bits compute
    WeightFormat("bf16", 16, "bf16"),
    WeightFormat("fp16", 16, "fp16"),
    WeightFormat("fp32", 32, "fp32"),
    WeightFormat("fp8",   8, "fp8", made_by_engine=True),  # of Transformer Engine
    # Of llama.cpp, in GGUF files.
    WeightFormat("q8_0",  8, "base", group_size=32, scale_bits=16, made_by_engine=True),
    WeightFormat("q4_0",  4, "base", group_size=32, scale_bits=16, made_by_engine=True),
)

_QUANTIZED = (
    WeightFormat(
        "int8", 8, "base", scale_bits=32, columns_multiple=64, experts="bytes",
        module="inference_benchmark.model.weight_formats.int8",
        description="a scale per row",
    ),
    WeightFormat(
        "int4", 4, "base", group_size=128, scale_bits=16, columns_multiple=128,
        experts="int4", module="inference_benchmark.model.weight_formats.int4",
        description="symmetric groups of 128",
    ),
    WeightFormat(
        "int4-asymmetric", 4, "base", group_size=128, scale_bits=24, columns_multiple=128,
        experts="int4", module="inference_benchmark.model.weight_formats.int4_asymmetric",
        description="the same with zero points",
    ),
    WeightFormat(
        "nf4", 4, "base", group_size=64, scale_bits=8, columns_multiple=128,
        scales_per_block=256, matrix_bits=17 * 32,
        experts="nf4", module="inference_benchmark.model.weight_formats.nf4",
        description="QLoRA's, double quantisation",
    ),
    WeightFormat(
        "fp8", 8, "base", scale_bits=32, experts="bytes",
        module="inference_benchmark.model.weight_formats.fp8",
        description="e4m3, a scale per row",
    ),
    WeightFormat(
        "fp8-dynamic", 8, "fp8", scale_bits=32, experts="bytes", base_types=("bf16",),
        module="inference_benchmark.model.weight_formats.fp8_dynamic",
        description="the same, and activations of prompts too",
    ),
    WeightFormat(
        "int8:torchao", 8, "base", scale_bits=32, package="torchao",
        module="inference_benchmark.model.weight_formats.torchao_int8",
        description="a scale per row",
    ),
    WeightFormat(
        "int4:torchao", 4, "base", group_size=128, scale_bits=32, columns_multiple=1024,
        package="torchao", base_types=("bf16",), rows_of=8, needs_gpu=True,
        module="inference_benchmark.model.weight_formats.torchao_int4",
        description="groups of 128 with offsets, tile-packed",
    ),
    WeightFormat(
        "nf4:bitsandbytes", 4, "base", group_size=64, scale_bits=8, scales_per_block=256,
        matrix_bits=257 * 32, package="bitsandbytes", columns_of=64,
        module="inference_benchmark.model.weight_formats.bitsandbytes_nf4",
        description="QLoRA's, double quantisation",
    ),
)
# fmt: on

QUANTIZED: dict[str, WeightFormat] = {entry.name: entry for entry in _QUANTIZED}
FORMATS: dict[str, WeightFormat] = {entry.name: entry for entry in _TABLE}
BASE_TYPES = ("bf16", "fp16", "fp32")  # of activations and of the KV cache
# What --precision may name: formats in which the weights themselves can be built.
PRECISIONS = [entry.name for entry in _TABLE if not entry.made_by_engine]


def register(weight_format: WeightFormat) -> None:
    """Make a format known by its name, wherever a precision is asked for.

    Raises:
        ValueError: the name is taken by another format, or the products' type is unknown.
    """
    if weight_format.compute not in FORMATS:
        raise ValueError(f"{weight_format.name}: unknown compute type {weight_format.compute}")
    if FORMATS.setdefault(weight_format.name, weight_format) != weight_format:
        raise ValueError(f"there is a weight format named {weight_format.name}")
    if not weight_format.made_by_engine and weight_format.name not in PRECISIONS:
        PRECISIONS.append(weight_format.name)


@dataclass(frozen=True)
class Precision:
    """How a model's values are stored: `base` names the type of activations, KV cache, embedding
    table, head and norms, `linear` the weight format of the layers' matrices.

    is_quantized: linear is a name of QUANTIZED. with_head: the head is stored in it too.
    of_file: what linear names where it is no format but the types of a file, as their mean.
    """

    base: str
    linear: str
    is_quantized: bool = False
    with_head: bool = False
    of_file: WeightFormat | None = None

    @classmethod
    def of(cls, name: str, linear: str | None = None) -> "Precision":
        """Of a base type, or of a weight format, whose products then set the base type.

        Raises:
            KeyError: there is no such format.
        """
        if linear is None:
            linear, name = name, FORMATS[name].compute
        return cls(name if name in BASE_TYPES else "bf16", linear)

    @classmethod
    def quantized(cls, base: str, name: str, with_head: bool = False) -> "Precision":
        """Weights of a base type, stored in a format of QUANTIZED."""
        return cls(base, name, True, with_head)

    @classmethod
    def of_a_file(cls, base: str, of_file: WeightFormat) -> "Precision":
        """As a file has the layers' matrices and the head."""
        return cls(base, of_file.name, with_head=True, of_file=of_file)

    @property
    def name(self) -> str:
        with_head = self.with_head and self.of_file is None
        return f"{self.linear}+head" if with_head else self.linear

    @property
    def weight_format(self) -> WeightFormat:
        if self.of_file is not None:
            return self.of_file
        return (QUANTIZED if self.is_quantized else FORMATS)[self.linear]

    @property
    def head_format(self) -> WeightFormat:
        return self.weight_format if self.with_head else FORMATS[self.base]

    def matrix_bytes(self, matrix: Matrix) -> float:
        """Of a matrix of a layer, its scales included."""
        keeps_base_type = self.is_quantized and matrix.keeps_base_type
        return (FORMATS[self.base] if keeps_base_type else self.weight_format).matrix_bytes(matrix)

    @property
    def base_bytes(self) -> int:
        return FORMATS[self.base].storage_bits // 8

    @property
    def compute(self) -> str:
        """The type of the products: what peaks and tolerances refer to."""
        compute = self.weight_format.compute
        return self.base if compute == "base" else compute

    def record(self) -> dict:
        """For the result file."""
        return self.weight_format.record() | {"format": self.name, "compute": self.compute}

    @property
    def stored(self) -> "Precision":
        """Of the weights that all engines share: an engine that quantises keeps a copy beside."""
        return Precision.of(self.base) if self.weight_format.made_by_engine else self
