"""Hostile checkpoints: every known class of attack on readers of pickles and of zip files.

Each is read with an audit hook armed under which only the file itself may be opened, with 256 MiB of
address space to spare and five seconds of processor time.
"""

from __future__ import annotations

import binascii
import io
import os
import pickle
import resource
import signal
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brainit_bit.importing import UnsafeCheckpoint
from brainit_bit.importing.reader import read_checkpoint

ARMED: list[str] = []  # the one file that may be opened
SEEN: list[str] = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not ARMED or event == "builtins.id":
        return
    if event == "open" and arguments[0] == ARMED[0] and not arguments[2] & WRITING:
        return
    SEEN.append(f"{event} {arguments}"[:200])
    raise PermissionError(event)


sys.addaudithook(audit)


def too_long(*_: object) -> None:
    raise AssertionError("more than five seconds of processor time")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Nothing may happen but reading `path`, in little time and memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, too_long)
    SEEN.clear()
    resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)
    ARMED.append(str(path))
    try:
        yield
    finally:
        ARMED.clear()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


# An assembler of pickles ---------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def program(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def archive(data: bytes, patch: Callable[[bytearray], None] | None = None, **storages: bytes) -> bytes:
    """What torch.save would write around a pickle, then patched."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/byteorder", sys.byteorder)
        for key, content in storages.items():
            file.writestr(f"m/data/{key.removeprefix('s')}", content)
    raw = bytearray(buffer.getvalue())
    if patch:
        patch(raw)
    return bytes(raw)


def zipped(body: bytes, protocol: int = 2, **storages: bytes) -> bytes:
    return archive(program(body, protocol), **storages)


class Reduced:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


SHELL = text("touch /tmp/owned")
CODE = text("__import__('os').system('touch /tmp/owned')")


# Samples, class by class ---------------------------------------------------------------------------


def direct_calls() -> Iterator[bytes]:
    for function in (os.system, eval, exec):
        for protocol in range(6):
            yield archive(pickle.dumps(Reduced(function, ("1",)), protocol))
    for module in ("os", "posix", "nt"):
        yield zipped(call(module, "system", SHELL))
    for module in ("builtins", "__builtin__", "__builtins__"):
        yield zipped(call(module, "eval", CODE))
        yield zipped(b"}" + text("state_dict") + call(module, "exec", CODE) + b"s")
    yield zipped(call("subprocess", "Popen", SHELL))
    yield zipped(call("subprocess", "check_output", SHELL))


def old_instances() -> Iterator[bytes]:
    yield zipped(b"(" + SHELL + b"ios\nsystem\n")
    yield zipped(b"(" + name("os", "system") + SHELL + b"o")
    yield zipped(b"(" + name("os", "system") + SHELL + b"o0}")
    yield zipped(b"(" + name("model", "Net") + b"o")
    yield archive(b"(S'touch /tmp/owned'\nios\nsystem\n.")


def objects_and_state() -> Iterator[bytes]:
    made = name("model", "Net") + b")\x81"
    yield zipped(name("subprocess", "Popen") + SHELL + b"\x85\x81")
    yield zipped(name("model", "Net") + b")}" + text("x") + b"Ns\x92", 4)
    for attribute in ("__setstate__", "__reduce__", "__class__", "__dict__", "__getattr__"):
        yield zipped(made + b"}" + text(attribute) + name("model", "run") + b"sb")
        yield zipped(made + b"N}" + text(attribute) + b"Nsb".replace(b"b", b"\x86b"))
    yield zipped(made + b"}b}b")  # state twice
    yield zipped(b"}}b")  # of a plain dict
    yield zipped(name("model", "Net") + b"}b")  # of a class
    yield zipped(text("model") + b")\x81")  # an instance of a text
    yield zipped(made + b")\x81")  # an instance of an instance


def names_in_disguise() -> Iterator[bytes]:
    yield zipped(text("os") + b"q\0" + text("system") + b"q\1" + b"h\0h\1\x93" + SHELL + b"\x85R", 4)
    joined = call("builtins", "getattr", text(""), text("join"))
    yield zipped(joined + b"]" + text("o") + b"a" + text("s") + b"a\x85R" + text("system") + b"\x93", 4)
    yield zipped(call("operator", "itemgetter", number(0)) + text("os") + b"\x85R" + text("x") + b"\x93", 4)
    yield zipped(b"S'os'\nS'system'\n\x93" + SHELL + b"\x85R", 4)
    yield zipped(b"U\x02osU\x06system\x93" + SHELL + b"\x85R", 4)
    yield zipped(b"Vos\nVsystem\n\x93" + SHELL + b"\x85R", 4)


def memo_tricks() -> Iterator[bytes]:
    yield zipped(b"h\x05")
    yield zipped(b"j\xff\xff\xff\xff")
    yield zipped(b"g99999999999999999999\n")
    yield zipped(number(1) + b"q\0h\0" + text("system") + b"\x93", 4)
    yield zipped(b"]q\0}q\0")
    yield zipped(b"q\0")
    yield zipped(b"t")
    yield zipped(b"NN")
    yield zipped(b"(N")
    yield zipped(b"(NR")


def dotted_names() -> Iterator[bytes]:
    yield zipped(text("pathlib") + text("os.system") + b"\x93" + SHELL + b"\x85R", 4)
    yield zipped(name("torch.serialization", "os.system") + SHELL + b"\x85R")
    yield zipped(text("model") + text("Net.run") + b"\x93", 4)
    yield zipped(text("model.") + text("Net") + b"\x93", 4)
    yield zipped(text("mo\ndel") + text("Net") + b"\x93", 4)
    yield zipped(text("мodel") + text("Net") + b"\x93", 4)
    yield zipped(call("trace", "Trace.run", CODE))


def called(names: str) -> Iterator[bytes]:
    for one in names.split():
        module, _, attribute = one.rpartition(".")
        yield zipped(call(module, attribute, CODE))


def resolvers() -> Iterator[bytes]:
    yield from called(
        "pkgutil.resolve_name pydoc.locate operator.attrgetter operator.itemgetter "
        "operator.methodcaller functools.partial functools.reduce importlib.import_module "
        "importlib.__import__ builtins.getattr builtins.__import__ __builtin__.getattr "
        "_operator.attrgetter builtins.map builtins.filter builtins.type __builtin__.type"
    )
    # The one call of getitem that type hints need takes a name of typing alone.
    yield zipped(call("_operator", "getitem", name("sys", "modules"), text("os")))
    yield zipped(call("_operator", "getitem", b"}", text("os")))
    yield zipped(call("_operator", "getitem", call("torch", "device", text("cpu")), text("x")))
    yield zipped(call("builtins", "type", text("X"), b")", b"}"))


def gadgets_of_the_standard_library() -> Iterator[bytes]:
    yield from called(
        "runpy.run_path runpy._run_code timeit.timeit cProfile.run profile.run bdb.Bdb.run pdb.run "
        "code.InteractiveInterpreter doctest.debug_script idlelib.pyshell.ModifiedInterpreter "
        "lib2to3.pgen2.grammar.Grammar ensurepip._run_pip pip.main venv.create pty.spawn "
        "_aix_support._read_cmd_output _osx_support._read_output uuid._get_command_stdout "
        "imaplib.IMAP4_stream asyncio.unix_events._UnixSubprocessTransport "
        "multiprocessing.util.spawnv_passfds ctypes.CDLL _ctypes.CFuncPtr _interpreters.run_string "
        "webbrowser.open commands.getoutput"
    )


def gadgets_of_libraries() -> Iterator[bytes]:
    yield from called(
        "numpy.testing._private.utils.runstring numpy.f2py.crackfortran.getlincoef "
        "torch._inductor.codecache.compile_file torch.utils.bottleneck.__main__.run_prof "
        "torch.utils.collect_env.run torch.jit.unsupported_tensor_ops.execWrapper "
        "torch.fx.experimental.symbolic_shapes.ShapeEnv torch._dynamo.guards.GuardBuilder "
        "torch.utils._config_module.ConfigModule torch.hub.load torch.compile torch.nn.Linear "
        "torch.utils.data.datapipes.utils.decoder.basichandlers torch.package.PackageImporter "
        "torch.ops.load_library torch.Tensor torch.tensor numpy.load numpy.fromfile"
    )


def pickles_in_pickles() -> Iterator[bytes]:
    inner = b"B" + struct.pack("<I", 20) + b"cos\nsystem\n(X\0\0\0\0tR."
    yield zipped(call("pickle", "loads", inner), 3)
    yield zipped(call("_pickle", "loads", inner), 3)
    yield zipped(call("torch", "load", text("other.pt"), b"\x89"))
    yield zipped(call("torch.storage", "_load_from_bytes", inner), 3)
    yield zipped(call("torch.serialization", "load", text("other.pt")))
    yield zipped(call("joblib", "load", text("other.pt")))
    yield zipped(call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b")", b"N"))
    yield zipped(call("numpy.core.multiarray", "scalar", text("O8"), inner), 3)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Reduced(os.system, ("1",))], dtype=object), allow_pickle=True)
    yield buffer.getvalue()


def code_objects() -> Iterator[bytes]:
    yield from called(
        "types.CodeType types.FunctionType marshal.loads cloudpickle.cloudpickle._make_function "
        "cloudpickle.cloudpickle._builtin_type dill._dill._create_function builtins.compile"
    )


def files_and_network() -> Iterator[bytes]:
    yield from called(
        "_io.FileIO io.open builtins.open logging.FileHandler distutils.file_util.write_file "
        "urllib.request.urlopen requests.get aiohttp.request smtplib.SMTP ssl.get_server_certificate "
        "socket.create_connection os.remove os.rename shutil.rmtree pathlib.Path tempfile.mkstemp"
    )


def several_pickles() -> Iterator[bytes]:
    benign, evil = program(b"}"), program(call("os", "system", SHELL))
    yield archive(benign + evil)
    yield archive(benign + b"garbage")
    yield archive(evil + benign)
    yield archive(b"garbage" + evil)
    yield archive(evil[:-1])
    yield archive(benign[:-1])
    yield archive(evil[:-1] + b"\xff\xff.")
    yield archive(b"")


def legacy(*pickles: bytes, rest: bytes = b"") -> bytes:
    parts = [program(number(0x1950A86A20F9469CFC6C)), program(b"M\xe9\x03")]
    parts += [program(b"}" + text("little_endian") + b"\x88s"), program(b"}"), program(b"]")]
    for i, one in enumerate(pickles):
        parts[i] = one or parts[i]
    return b"".join(parts) + rest


def the_old_format() -> Iterator[bytes]:
    evil = program(call("os", "system", SHELL))
    for i in range(5):
        yield legacy(*[b""] * i, evil)
    yield legacy(program(call("builtins", "eval", text("0x1950a86a20f9469cfc6c"))), rest=evil)
    yield legacy(rest=evil)
    yield legacy(rest=b"\0")
    yield legacy(b"", program(b"M\xe8\x03"))
    yield legacy(b"", b"", program(b"}"))
    yield legacy(b"", b"", program(b"}" + text("little_endian") + b"\x89s"))
    for elements, written in ((2**40, 2**40), (2, 3), (3, 2), (2, -1), (-2, -2)):
        tensor = program(storage("0", elements) + b"Q")
        keys = program(b"]" + text("0") + b"a")
        yield legacy(b"", b"", b"", tensor, keys, rest=struct.pack("<qq", written, 0))
    yield legacy(b"", b"", b"", program(storage("0", 2) + b"Q"))
    yield legacy(b"", b"", b"", program(b"(" + text("module") + text("m") + b"NNtQ"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for part in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(part)
            member.size = len(evil)
            file.addfile(member, io.BytesIO(evil))
    yield buffer.getvalue()


def entry_patch(offset_in_directory: int, layout: str, value: int, local: int | None = None) -> Any:
    """Overwrite a field of the first entry, in the directory and perhaps in the local header."""

    def patch(raw: bytearray) -> None:
        struct.pack_into(layout, raw, raw.index(b"PK\1\2") + offset_in_directory, value)
        if local is not None:
            struct.pack_into(layout, raw, local, value)

    return patch


def containers() -> Iterator[bytes]:
    benign, evil = program(b"}"), program(call("os", "system", SHELL))
    yield evil  # a bare pickle whatever its suffix
    for flag in (0x1, 0x20, 0x40, 0x2000):
        yield archive(benign, entry_patch(8, "<H", flag, 6))
        yield archive(benign, entry_patch(8, "<H", flag))
    yield archive(benign, lambda raw: raw.__setitem__(slice(30, 40), b"m/evil.pkl"))
    yield archive(benign, entry_patch(16, "<I", 12345))  # CRC
    yield archive(benign, entry_patch(24, "<I", 1))  # size
    yield archive(benign, entry_patch(24, "<I", 2**31))
    yield archive(benign, entry_patch(20, "<I", 2**31))
    yield archive(benign, entry_patch(42, "<I", 30))  # where the entry lies
    yield archive(benign, entry_patch(10, "<H", 99))  # method
    yield b"7z\xbc\xaf\x27\x1c" + bytes(100)
    yield evil + archive(benign)
    yield archive(benign) + evil
    yield archive(benign)[:-2] + struct.pack("<H", len(evil)) + evil
    yield archive(archive(benign))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", benign * 100)
    yield buffer.getvalue()
    for other in ("../data.pkl", "/data.pkl", "m/../data.pkl", "m/code/x.py", "n/version", "m/data/x"):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
            file.writestr("m/data.pkl", benign)
            file.writestr(other, benign)
        yield buffer.getvalue()


def frames() -> Iterator[bytes]:
    def frame(size: int) -> bytes:
        return b"\x95" + struct.pack("<Q", size)

    yield zipped(frame(2) + b"B\x03\0\0\0abc", 4)
    yield zipped(frame(2) + b"B" + struct.pack("<I", 0x107) + b"a" * 0x107, 4)
    yield zipped(frame(2**63) + b"}", 4)
    yield zipped(frame(100) + b"}", 4)
    yield zipped(frame(30) + frame(2) + b"}" + b"0}" * 20, 4)
    yield zipped(frame(1) + b"N0N0", 4)
    yield archive(program(frame(5) + b"}", 4) + b"abc")


def identities() -> Iterator[bytes]:
    yield zipped(b"P0\n")
    yield zipped(text("0") + b"Q")
    yield zipped(b"(" + text("module") + name("model", "Net") + text("f") + text("s") + b"tQ")
    yield zipped(b"(" + text("file") + name("torch", "FloatStorage") + text("0") + text("c") + b"K\0tQ")
    yield zipped(storage("0", 0, kind="UntypedStorage") + b"Q", s0=b"")
    yield zipped(storage("../0", 0) + b"Q", s0=b"")
    yield zipped(storage("x", 0) + b"Q", s0=b"")
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        yield zipped(code)
    yield zipped(call("copyreg", "add_extension", text("os"), text("system"), b"K\1") + b"\x82\x01")


def shadowing() -> Iterator[bytes]:
    yield zipped(name("sys", "modules") + text("os") + name("model", "Net") + b"s")
    yield zipped(name("sys", "modules") + b"}" + text("os") + b"Nsb")
    yield zipped(name("builtins", "__dict__") + text("len") + b"Ns")
    yield zipped(name("brainit_bit.importing.calls", "MEANINGS") + text("os.system") + b"Ns")
    yield zipped(name("brainit_bit.importing.machine", "MAX_OPCODES") + b"}" + text("x") + b"Nsb")
    yield from called("builtins.setattr builtins.globals builtins.vars sys.addaudithook sys.settrace")


def other_types() -> Iterator[bytes]:
    yield b""
    yield b"\n"
    yield b"x\x9c" + bytes(50)  # joblib's zlib
    yield b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield struct.pack("<Q", 2) + b"{}"  # safetensors
    yield b"PK\3\4"
    yield b"PK\5\6" + bytes(18)
    yield b"\x1f\x8b" + bytes(50)


def bombs() -> Iterator[bytes]:
    yield zipped(b"]" + b"2" * 50 + b"0" * 50)
    for shared in (b"]q\0" + b"(h\0h\0t", b"]q\0(h\0h\0e"):
        grown = shared[3:] if shared.endswith(b"t") else b"](h\0h\0e"
        levels = b"".join(
            grown.replace(b"h\0", b"h" + bytes([i])) + b"q" + bytes([i + 1]) for i in range(60)
        )
        yield zipped(b"]q\0" + levels)
    yield zipped(b"]" * 150 + b"a" * 149)
    yield zipped(b")" + b"\x85" * 150)
    yield zipped(b"]" * 99_000 + b"a" * 98_999)
    yield zipped(b")" + b"\x85" * 199_000)
    yield zipped(b"(" * 150_000)
    yield zipped(b"N0" * 1_000_000 + b"N")
    yield zipped(b"]" + b"]a" * 1_000_000)
    yield zipped(b"]q\0h\0a")  # a list in itself
    yield zipped(b"}q\0" + text("k") + b"h\0s")
    yield zipped(b"}q\0h\0Ns")  # a dict as its own key
    yield zipped(b"\x8b" + struct.pack("<I", 2**31 - 1) + b"\xff" * 99)
    yield zipped(b"\x8b" + struct.pack("<I", 2**22) + b"\x7f" * 2**22)
    yield zipped(b"\x8d" + struct.pack("<Q", 2**62) + b"a", 4)
    yield zipped(b"L" + b"9" * 100_000 + b"L\n")
    yield zipped(b"X\xff\xff\xff\xff")
    collide = b"".join(number(i * (2**61 - 1)) + b"N" for i in range(50_000))
    yield zipped(b"}(" + collide + b"u")
    yield zipped(b"}(" + b"".join(number(-i * 2**40) + b"N" for i in range(1, 50_000)) + b"u")
    yield zipped(b"B" + struct.pack("<I", 9 * 2**20) + bytes(9 * 2**20), 3)


def zip_bombs() -> Iterator[bytes]:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("m/data.pkl", program(storage("0", 2**23) + b"Q"))
        file.writestr("m/data/0", bytes(2**25), zipfile.ZIP_DEFLATED)
    yield buffer.getvalue()
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 9, 1, *[0] * 6) + b"m"
    for count in (100_000, 1_000_000):
        directory = entry * count
        ends = struct.pack("<4s4HIIH", b"PK\5\6", 0, 0, 9, 9, len(directory), 4, 0)
        yield b"PK\3\4" + directory + ends
    for same in ("m/data/0", "m/data.pkl", "m/version"):
        with pytest.warns(UserWarning, match="Duplicate"):  # noqa: SIM117
            with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
                for part in ("m/data.pkl", "m/data/0", "m/version", same):
                    file.writestr(part, program(b"}"))
        yield buffer.getvalue()

    def overlap(raw: bytearray) -> None:  # the second entry inside the first
        second = raw.index(b"PK\1\2", raw.index(b"PK\1\2") + 1)
        struct.pack_into("<I", raw, second + 42, 0)

    yield archive(program(b"}"), overlap)
    inner = archive(program(b"}"))
    quine = bytearray(archive(program(b"B" + struct.pack("<I", len(inner)) + inner, 3)))
    yield bytes(quine) + inner


def storage(key: str, elements: int, kind: str = "FloatStorage") -> bytes:
    fields = (text("storage"), name("torch", kind), text(key), text("cpu"), number(elements))
    return b"(" + b"".join(fields) + b"t"


def tensor(*parts: bytes, elements: int = 4, kind: str = "FloatStorage") -> bytes:
    """A rebuilt tensor over a storage of 16 bytes; parts: offset, sizes, strides."""
    hooks = call("collections", "OrderedDict")
    over = storage("0", elements, kind) + b"Q"
    return call("torch._utils", "_rebuild_tensor_v2", over, *parts, b"\x89", hooks)


def lying_tensors() -> Iterator[bytes]:
    fine = (number(0), numbers(4), numbers(1))
    for elements, kind in ((5, "FloatStorage"), (3, "FloatStorage"), (4, "DoubleStorage")):
        yield zipped(tensor(*fine, elements=elements, kind=kind), s0=bytes(16))
    yield zipped(tensor(*fine, elements=-4), s0=bytes(16))
    yield zipped(tensor(*fine))  # no storage
    for offset, sizes, strides in (
        (1, [4], [1]),
        (-1, [4], [1]),
        (0, [5], [1]),
        (0, [-1], [1]),
        (3, [4], [-1]),
        (0, [2**62, 4], [2**62, 1]),
        (0, [2], [4]),
        (0, [2**40], [0]),  # one element over and over
        (0, [4], [1, 1]),
        (0, [2, 2], [1]),
        (5, [0], [1]),
        (0, [0], [2**63]),
        (0, [1] * 17, [1] * 17),
    ):
        yield zipped(tensor(number(offset), numbers(*sizes), numbers(*strides)), s0=bytes(16))
    yield zipped(tensor(number(0), text("4"), text("1")), s0=bytes(16))
    yield zipped(tensor(number(0), b"G" + bytes(8) + b"\x85", numbers(1)), s0=bytes(16))
    yield zipped(tensor(number(0), b"\x88\x85", numbers(1)), s0=bytes(16))
    yield zipped(tensor(*fine) + b"K\0Ns", s0=bytes(16))  # items of no dict
    yield zipped(tensor(*fine) + b"(NNe", s0=bytes(16))
    yield zipped(tensor(*fine) + b"}b", s0=bytes(16))
    yield zipped(b"](" + tensor(*fine) + tensor(*fine, elements=2, kind="LongStorage") + b"e", s0=bytes(16))
    yield zipped(tensor(*fine, kind="ComplexFloatStorage"), s0=bytes(32))
    for attribute in ("_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage", "_rebuild_qtensor"):
        yield zipped(call("torch._utils", attribute, b"N", b"N"), s0=bytes(16))
    hooked = b"}" + text("h") + name("model", "hook") + b"s"
    yield zipped(call("torch._utils", "_rebuild_parameter", tensor(*fine), b"\x88", hooked), s0=bytes(16))
    yield zipped(call("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"N"))
    yield zipped(call("torch._utils", "_rebuild_tensor_v2", b"N"))
    swapped = archive(program(tensor(*fine)), s0=bytes(16)).replace(b"little", b"big\0\0\0")
    yield swapped


CLASSES = {
    kind.__name__: kind
    for kind in (
        direct_calls,
        old_instances,
        objects_and_state,
        names_in_disguise,
        memo_tricks,
        dotted_names,
        resolvers,
        gadgets_of_the_standard_library,
        gadgets_of_libraries,
        pickles_in_pickles,
        code_objects,
        files_and_network,
        several_pickles,
        the_old_format,
        containers,
        frames,
        identities,
        shadowing,
        other_types,
        bombs,
        zip_bombs,
        lying_tensors,
    )
}


@pytest.fixture(autouse=True, scope="module")
def imports_done(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("warm") / "benign.pt"
    path.write_bytes(zipped(tensor(number(0), numbers(4), numbers(1)), s0=bytes(16)))
    read_checkpoint(path)


@pytest.mark.parametrize("kind", CLASSES)
def test_refused_and_nothing_runs(kind: str, tmp_path: Path) -> None:
    samples = list(CLASSES[kind]())
    assert len(samples) >= 3
    path = tmp_path / "hostile.pt"
    for number, sample in enumerate(samples):
        path.write_bytes(sample)
        result: object = None
        with guarded(path):
            try:
                result = read_checkpoint(path)
            except UnsafeCheckpoint as error:
                result = error
        assert not SEEN, (number, SEEN)
        assert isinstance(result, UnsafeCheckpoint), (number, type(result), sample[:200])
        message = str(result)
        assert message.startswith(f"{path}: refused: "), message
        assert message.isascii(), message
        assert message.isprintable(), message
        assert len(message) < len(str(path)) + 300, message


def test_the_guard_sees_what_a_real_unpickler_would_do(tmp_path: Path) -> None:
    trips = (b"cos\nsystem\n.", pickle.dumps(Reduced(eval, ("1",))), program(name("x.y", "z")))
    for sample in trips:
        with guarded(tmp_path), pytest.raises(PermissionError):
            pickle.loads(sample)
        assert SEEN


def test_the_benign_forms_of_the_samples_are_read(tmp_path: Path) -> None:
    """What the samples are built from is itself fine: they are refused for what they add."""
    fine = tensor(number(0), numbers(2, 2), numbers(2, 1))
    record = name("model", "Net") + b")\x81}" + text("x") + b"Nsb"
    frame = b"\x95" + struct.pack("<Q", 2)
    path = tmp_path / "fine.pt"
    for sample in (
        zipped(fine, s0=bytes(16)),
        zipped(record),
        zipped(frame + b"}", 4),
        legacy(),
        zipped(b"]" * 90 + b"a" * 89),
        zipped(call("_operator", "getitem", name("typing", "Union"), name("torch", "Tensor"))),
        zipped(b"](" + b"N" * 190_000 + b"e"),
    ):
        path.write_bytes(sample)
        with guarded(path):
            read_checkpoint(path)
        assert not SEEN
    keys = program(b"]" + text("0") + b"a")
    raw = struct.pack("<q4f", 4, 1, 2, 3, 4)
    path.write_bytes(legacy(b"", b"", b"", program(fine), keys, rest=raw))
    assert torch.equal(read_checkpoint(path), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("zipfile_format", [True, False])
def test_damage_is_refused_or_harmless(zipfile_format: bool, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    path = tmp_path / "model.pt"
    torch.save(model, path, _use_new_zipfile_serialization=zipfile_format)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    samples = [whole[:cut] for cut in range(0, len(whole), len(whole) // 100)]
    for _ in range(300):
        damaged = bytearray(whole)
        for position in generator.integers(len(whole), size=generator.integers(1, 4)):
            damaged[position] = generator.integers(256)
        samples.append(bytes(damaged))
    refused = 0
    for sample in samples:
        path.write_bytes(sample)
        with guarded(path):
            try:
                read_checkpoint(path)
            except UnsafeCheckpoint:
                refused += 1
        assert not SEEN
    assert refused > 150  # no truncated file is read


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none"):
        with guarded(path), pytest.raises(FileNotFoundError, match="no such file"):
            read_checkpoint(path)


def test_crc_of_a_storage_is_checked(tmp_path: Path) -> None:
    content = struct.pack("<4f", 1, 2, 3, 4)
    raw = zipped(tensor(number(0), numbers(4), numbers(1)), s0=content)
    assert binascii.crc32(content)
    (tmp_path / "a.pt").write_bytes(raw.replace(content, content[:-1] + b"\1"))
    with pytest.raises(UnsafeCheckpoint, match="CRC"):
        read_checkpoint(tmp_path / "a.pt")
