"""How one flag is declared: a field of a dataclass that holds everything there is to know about it.

The parser, the checks, the request, the configuration in a result file and the fields that a
comparison looks at are all made from these declarations. Imports no torch.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

# What a flag's value means for a result. All but "none" are recorded in its configuration.
#   work       two results are comparable only where they agree in it
#   condition  the same work, done or set up in another way: it can change a time
#   record     for the record: it decides how many runs there are, not how long one takes
#   none       what is printed, and where to
Role = Literal["work", "condition", "record", "none"]


@dataclass(frozen=True)
class Flag:
    """Everything about a flag but its name, its type and its default, which the field has.

    parse: from the command line's text to the value; text stays as it is without.
    excludes: flags that can't be given together with this one, and why.
    needs: a flag, or several of which one will do, without which this one would do nothing.
    serves: the workloads in which it does something; None: all. not_for: those in which it does not.
    ignored_on: devices on which it does nothing, which a notice says.
    const: its value where it is given without one (nargs "?").
    """

    group: str
    help: str
    parse: Callable[[str], Any] | None = None
    choices: tuple[str, ...] | None = None
    nargs: str | None = None
    metavar: str | tuple[str, str] | None = None
    role: Role = "none"
    excludes: Mapping[str, str] | None = None
    needs: str | tuple[str, ...] | None = None
    serves: tuple[str, ...] | None = None
    not_for: tuple[str, ...] = ()
    ignored_on: tuple[str, ...] = ()
    const: Any = None


def flag(group: str, help: str, *, default: Any = None, **settings: Any) -> Any:
    """A field that is a flag; a default of False makes it a switch."""
    return field(default=default, metadata={"flag": Flag(group, help, **settings)})


def flags_of(table: type) -> dict[str, Flag]:
    """The flags of a table by their field's name, in the order in which they are declared."""
    return {
        field.name: field.metadata["flag"] for field in fields(table) if "flag" in field.metadata
    }


def option(name: str) -> str:
    """--batch-size of batch_size."""
    return f"--{name.replace('_', '-')}"


class _Given(argparse.Action):
    """Notes in the namespace's `given` which flags were given, the default's value included."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        before = getattr(namespace, "given", frozenset())
        value = tuple(values) if isinstance(values, list) else values
        setattr(namespace, self.dest, self._combined(parser, namespace, value, self.dest in before))
        namespace.given = before | {self.dest}

    def _combined(self, parser, namespace, value, again: bool):
        if again and value != getattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice, with different values")
        return value


class _Switch(_Given):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, nargs=0, **kwargs)

    def _combined(self, parser, namespace, value, again: bool):
        return True


class _Merge(_Given):
    """--mode eager --mode inductor means --mode eager inductor."""

    def _combined(self, parser, namespace, value, again: bool):
        return (*getattr(namespace, self.dest), *value) if again else value


def add_flags(parser: argparse.ArgumentParser, table: type) -> None:
    """All flags of a table, each in its group."""
    groups: dict[str, Any] = {}
    for declared in fields(table):
        if "flag" not in declared.metadata:
            continue
        group = declared.metadata["flag"].group
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], declared, declared.metadata["flag"])


def _add(group, declared: Field, flag: Flag) -> None:
    settings: dict[str, Any] = {"help": flag.help, "default": declared.default}
    assert declared.default is not MISSING
    if declared.default is False:
        group.add_argument(option(declared.name), action=_Switch, **settings)
        return
    if flag.nargs is not None:
        settings["nargs"] = flag.nargs
    if flag.const is not None:
        settings["const"] = flag.const
    if flag.parse is not None:
        settings["type"] = flag.parse
    settings["choices"] = flag.choices
    if flag.choices is None or flag.metavar is not None:
        settings["metavar"] = flag.metavar
    action = _Merge if flag.nargs == "+" else _Given
    group.add_argument(option(declared.name), action=action, **settings)
