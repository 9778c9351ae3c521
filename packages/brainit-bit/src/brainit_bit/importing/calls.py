"""The few calls that a checkpoint may ask for, and what each becomes.

A pickle makes most objects by calling something. Here a call is a name and arguments, and what is
not in these tables is refused. `MEANINGS` yields tensors and plain containers. `AS_RECORDS` are
calls that real checkpoints hold beside their weights: argument kinds and type hints that graph
layers keep, devices, NumPy scalars, paths. They become records: nothing is computed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor

from brainit_bit.importing.inert import Name, Record, kind_of, refuse
from brainit_bit.importing.tensors import is_empty, rebuild_tensor

MAX_KEY = 2**20


def call(function: object, arguments: object) -> Any:
    """What calling `function` with `arguments` stands for; refuses all but the few known calls."""
    if not isinstance(function, Name):
        refuse(f"it calls a {kind_of(function)}")
    if type(arguments) is not tuple:
        refuse(f"it calls {function} with a {kind_of(arguments)} for arguments")
    meaning = MEANINGS.get(str(function))
    if meaning is not None:
        try:
            return meaning(*arguments)
        except TypeError:
            refuse(f"{function} with {len(arguments)} arguments")
    allowed = AS_RECORDS.get(str(function))
    if allowed is None or not allowed(arguments):
        refuse(f"it calls {function}")
    return Record(function, arguments)


def check_name(name: Name) -> None:
    """Refuse names of the standard library, but for the few that model files are known to hold."""
    if name.module.split(".")[0] in STANDARD_LIBRARY and str(name) not in STANDARD_NAMES:
        refuse(f"it names {name}, which is no model's class")


def check_key(key: object) -> None:
    """Refuse keys of dicts and sets that are no strings or small integers.

    Integers can be chosen so that they collide in Python's hash tables; small ones cannot by much.
    """
    if type(key) is not str and not (type(key) is int and 0 <= key < MAX_KEY):
        refuse(f"a key that is no string or integer in [0, {MAX_KEY}): {kind_of(key)}")


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if not isinstance(tensor, Tensor) or type(requires_grad) is not bool or not is_empty(hooks):
        refuse("a parameter that is no plain tensor")
    return tensor


def _dict() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _set(items: Any) -> set[Any]:
    if type(items) is not list:
        refuse(f"a set of a {kind_of(items)}")
    for item in items:
        check_key(item)
    return set(items)


def _size(items: Any) -> tuple[Any, ...]:
    if type(items) is not tuple:
        refuse(f"a torch.Size of a {kind_of(items)}")
    return items


def _plain(arguments: tuple[Any, ...]) -> bool:
    return all(type(one) in (str, int, bool, bytes, type(None)) for one in arguments)


def _type_hint(arguments: tuple[Any, ...]) -> bool:
    return (
        len(arguments) == 2 and isinstance(arguments[0], Name) and arguments[0].module == "typing"
    )


def _scalar(arguments: tuple[Any, ...]) -> bool:
    return (
        len(arguments) == 2
        and isinstance(arguments[0], Record)
        and kind_of(arguments[0]) == "numpy.dtype"
    )


def _argument(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 2 and type(arguments[0]) is str


MEANINGS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": _dict,
    "__builtin__.set": _set,
    "builtins.set": _set,
}

AS_RECORDS: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "torch.device": _plain,
    "_operator.getitem": _type_hint,  # Optional[Tensor] is operator.getitem(typing.Union, ...)
    "__builtin__.type": lambda arguments: arguments == (None,),
    "builtins.type": lambda arguments: arguments == (None,),
    "inspect.Parameter": _argument,
    "inspect._ParameterKind": _plain,
    "_codecs.encode": _plain,
    "numpy.dtype": _plain,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "pathlib.PosixPath": _plain,
    "pathlib.WindowsPath": _plain,
}

STANDARD_NAMES = {
    *(name for name in (*MEANINGS, *AS_RECORDS) if not name.startswith(("torch", "numpy"))),
    *(f"typing.{name}" for name in ("Any", "Callable", "Dict", "List", "Optional", "OrderedDict")),
    *(f"typing.{name}" for name in ("Sequence", "Set", "Tuple", "Type", "Union")),
    *(
        f"{b}.{name}"
        for b in ("__builtin__", "builtins")
        for name in ("bool", "float", "int", "str")
    ),
    *(f"{b}.{name}" for b in ("__builtin__", "builtins") for name in ("dict", "list", "tuple")),
    "__builtin__.long",
    "__builtin__.unicode",
    "argparse.Namespace",
    "inspect._empty",
}

STANDARD_LIBRARY = {
    *sys.stdlib_module_names,
    # Python 2's names, and modules that some supported Python no longer has.
    *("__builtin__", "__builtins__", "cPickle", "commands", "copy_reg", "exceptions", "asyncore"),
    *("asynchat", "distutils", "imp", "lib2to3", "pipes", "smtpd", "_interpreters", "_pyrepl"),
    *("pip", "setuptools", "pkg_resources"),
}
