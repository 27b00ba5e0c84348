"""Carries out kernels written in Gluon with PyTorch on a CPU, program after program.

Triton's interpreter knows no Gluon. Here an asynchronous copy lands when it is waited for, not
before: until then its place in shared memory holds NaN, which no matrix product may meet. What a
program reads before it waits for its predecessor must not be what that one writes.
"""

import builtins
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
from torch import Tensor


class Pointers:
    """Places in a tensor's memory, as kernels compute with them."""

    def __init__(self, memory: Tensor, places: Tensor | int = 0) -> None:
        self.memory, self.places = memory, torch.as_tensor(places)
        self.dtype = SimpleNamespace(element_ty=memory.dtype)
        self.type = SimpleNamespace(layout=None)

    @property
    def shape(self) -> list[int]:
        return list(self.places.shape)

    def __add__(self, offsets: Tensor | int) -> "Pointers":
        return Pointers(self.memory, self.places + offsets)

    def to(self, _: torch.dtype) -> Tensor:
        return self.places

    def load(self, mask: Tensor | bool = True, other: float = 0.0, **_: object) -> Tensor:
        places, mask = torch.broadcast_tensors(self.places, torch.as_tensor(mask))
        self._refuse_outside(places[mask])
        values = self.memory.flatten()[torch.where(mask, places, 0)]
        return torch.where(mask, values, torch.as_tensor(other, dtype=values.dtype))

    def store(self, values: Tensor | int, mask: Tensor | bool = True) -> None:
        masks, all_values = torch.as_tensor(mask), torch.as_tensor(values)
        places, masks, all_values = torch.broadcast_tensors(self.places, masks, all_values)
        self._refuse_outside(places[masks])
        self.memory.view(-1)[places[masks]] = all_values[masks].to(self.memory.dtype)

    def _refuse_outside(self, places: Tensor) -> None:
        if places.numel():
            assert places.min() >= 0
            assert places.max() < self.memory.numel()


class Shared:
    """Shared memory, not yet written."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory

    def index(self, number: Tensor | int) -> "Shared":
        assert 0 <= int(number) < len(self.memory)
        return Shared(self.memory[int(number)])

    def permute(self, order: tuple[int, ...]) -> "Shared":
        return Shared(self.memory.permute(order))


class Program:
    """The one that runs: its number among how many, its copies under way, by groups."""

    def __init__(self, number: int, programs: int, predecessors: Tensor) -> None:
        self.number, self.programs, self.predecessors = number, programs, predecessors
        self.groups: list[list[tuple]] = []
        self.begun: list[tuple] = []
        self.has_waited = False

    def copy(self, shared: Shared, pointers: Pointers, mask: Tensor | bool = True) -> None:
        assert self.has_waited or pointers.memory is not self.predecessors
        shared.memory.fill_(torch.nan)
        self.begun.append((shared, pointers, mask))

    def commit(self) -> None:
        self.groups.append(self.begun)
        self.begun = []

    def wait(self, still_under_way: int) -> None:
        while len(self.groups) > still_under_way:
            for shared, pointers, mask in self.groups.pop(0):
                shared.memory.copy_(pointers.load(mask))

    def carry_out(self, text: str, *_: object, **__: object) -> None:
        self.has_waited |= "griddepcontrol.wait" in text


class Kernel:
    """What gluon.jit makes of a function: called by others, or launched over a grid."""

    running: Program

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, *arguments, **keywords):
        return self.function(*arguments, **keywords)

    def __getitem__(self, grid: tuple[int, ...]):
        """Its first argument is what the predecessor writes."""

        def launch(x: Tensor, *arguments, launch_pdl: bool, **settings) -> None:
            numbers = [Pointers(a) if isinstance(a, Tensor) else a for a in (x, *arguments)]
            numbers = [torch.tensor(a) if isinstance(a, int) else a for a in numbers]
            for number in builtins.range(*grid):
                Kernel.running = Program(number, *grid, x)
                self.function(*numbers, **settings | {"PROGRAMMATIC": True})
                assert Kernel.running.has_waited

        return launch


def _matrix_product(left: Shared, right: Shared, total: Tensor, is_async: bool) -> Tensor:
    assert not left.memory.isnan().any()
    assert not right.memory.isnan().any()
    return total + left.memory.float() @ right.memory.float()


def _add_atomically(pointers: Pointers, value: int, **_: object) -> Tensor:
    before = pointers.load()
    pointers.store(before + value)
    return before


def _range(*limits: Tensor | int) -> Iterator[Tensor]:
    return (torch.tensor(number) for number in builtins.range(*map(int, limits)))


def _nothing(*_: object, **__: object) -> SimpleNamespace:
    return SimpleNamespace()


def _language() -> ModuleType:
    def both(function):
        return lambda left, right: function(torch.as_tensor(left), torch.as_tensor(right))

    language = ModuleType("triton.experimental.gluon.language")
    language.__dict__.update(
        int32=torch.int32,
        int64=torch.int64,
        float32=torch.float32,
        program_id=lambda axis: torch.tensor(Kernel.running.number),
        num_programs=lambda axis: torch.tensor(Kernel.running.programs),
        static_range=builtins.range,
        arange=lambda first, last, layout: torch.arange(first, last),
        zeros=lambda shape, dtype, layout: torch.zeros(shape, dtype=dtype),
        full=lambda shape, value, dtype, layout: torch.full(shape, value, dtype=dtype),
        minimum=both(torch.minimum),
        exp=torch.exp,
        cast=lambda number, dtype: number.to(dtype),
        load=Pointers.load,
        store=Pointers.store,
        atomic_add=_add_atomically,
        reshape=Tensor.reshape,
        permute=Tensor.permute,
        split=lambda halves: halves.unbind(-1),
        convert_layout=lambda values, layout: values,
        inline_asm_elementwise=lambda *a, **k: Kernel.running.carry_out(*a, **k),
        thread_barrier=_nothing,
        allocate_shared_memory=lambda dtype, shape, layout: Shared(
            torch.full(shape, torch.nan, dtype=dtype)
        ),
        SliceLayout=_nothing,
        BlockedLayout=_nothing,
        NVMMADistributedLayout=_nothing,
        NVMMASharedLayout=SimpleNamespace(get_default_for=_nothing),
    )
    return language


def _modules() -> dict[str, ModuleType]:
    root = "triton.experimental"
    gluon, ampere, hopper = (ModuleType(name) for name in ("gluon", "ampere", "hopper"))
    gluon.jit, gluon.language = Kernel, _language()
    ampere.async_copy = SimpleNamespace(
        async_copy_global_to_shared=lambda *a: Kernel.running.copy(*a),
        commit_group=lambda: Kernel.running.commit(),
        wait_group=lambda number: Kernel.running.wait(number),
    )
    hopper.fence_async_shared, hopper.warpgroup_mma = _nothing, _matrix_product
    hopper.warpgroup_mma_wait = lambda number, deps: deps if len(deps) > 1 else deps[0]
    experimental, nvidia = ModuleType(root), ModuleType("nvidia")
    experimental.gluon = gluon
    return {
        root: experimental,
        f"{root}.gluon": gluon,
        f"{root}.gluon.language": gluon.language,
        f"{root}.gluon.language.nvidia": nvidia,
        f"{root}.gluon.language.nvidia.ampere": ampere,
        f"{root}.gluon.language.nvidia.hopper": hopper,
    }


def load_on_cpu(*names: str) -> ModuleType:
    """The last of these modules, which import those before them, with their kernels for the CPU."""
    with mock.patch.dict(sys.modules, _modules()):
        for name in names:
            spec = importlib.util.spec_from_file_location(
                name, importlib.util.find_spec(name).origin
            )
            module = importlib.util.module_from_spec(spec)
            module.range = _range
            sys.modules[name] = module
            spec.loader.exec_module(module)
    return module
