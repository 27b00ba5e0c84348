"""Thunder's tracing, without what its interpreter of Python does again for each instruction.

It disassembles a function whenever it is called, starts a thread and waits for it whenever an
exception passes, and interprets an expression to look up a global name, of which its own building
blocks are full: most of the time of a trace. All three are remembered here. The traces are the same,
in half the time.
"""

import dis
import functools
from types import FrameType, ModuleType

_REPLACED = ("dis", "InterpreterFrame", "WrappedValue", "globals_lookup")


@functools.cache
def shorten() -> None:
    """In this process and from here on; a thunder that has other parts stays as it is."""
    from thunder.core import interpreter

    if not all(hasattr(interpreter, name) for name in _REPLACED):
        return
    _remember_instructions(interpreter)
    _remember_frames(interpreter)
    _remember_globals(interpreter)


def _remember_instructions(interpreter: ModuleType) -> None:
    remembering = ModuleType(dis.__name__)
    vars(remembering).update(vars(dis))
    remembering.get_instructions = functools.cache(lambda code: (*dis.get_instructions(code),))
    interpreter.dis = remembering


def _remember_frames(interpreter: ModuleType) -> None:
    """Of tracebacks; a frame says where something is in a file, and nothing about a call."""
    frames: dict[tuple, FrameType] = {}
    make = interpreter.InterpreterFrame.get_or_make_python_frame

    def remembered(self: object) -> FrameType:
        place = self.code, self.qualname, self.positions.lineno
        if place not in frames:
            frames[place] = make(self)
        return frames[place]

    interpreter.InterpreterFrame.get_or_make_python_frame = remembered


def _remember_globals(interpreter: ModuleType) -> None:
    look_up = interpreter.globals_lookup

    def remembered(names: object, name: object) -> object:
        """The wrapper that this trace already has for a name of the module, or for a built-in."""
        if isinstance(names, interpreter.WrappedValue):
            is_global = name.value in names.value
            holder = names if is_global else names.item_wrappers.get("__builtins__")
            if holder is not None and isinstance(holder.value, dict):
                wrapper = holder.item_wrappers.get(name.value)
                if wrapper is not None and wrapper.value is holder.value[name.value]:
                    return wrapper
        return look_up(names, name)

    interpreter.globals_lookup = remembered
