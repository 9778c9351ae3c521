"""Pickles that would run code, or name it, or make no sense: a generator of samples a class."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Iterator

import numpy as np
from hostile_bytes import Reduced, archive, call, name, number, program, storage, text, zipped

SHELL = text("touch /tmp/owned")
CODE = text("__import__('os').system('touch /tmp/owned')")


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
    yield zipped(
        text("os") + b"q\0" + text("system") + b"q\1" + b"h\0h\1\x93" + SHELL + b"\x85R", 4
    )
    joined = call("builtins", "getattr", text(""), text("join"))
    yield zipped(
        joined + b"]" + text("o") + b"a" + text("s") + b"a\x85R" + text("system") + b"\x93", 4
    )
    yield zipped(
        call("operator", "itemgetter", number(0)) + text("os") + b"\x85R" + text("x") + b"\x93", 4
    )
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
    yield zipped(
        call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b")", b"N")
    )
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
        "urllib.request.urlopen requests.get aiohttp.request smtplib.SMTP "
        "ssl.get_server_certificate socket.create_connection os.remove os.rename "
        "shutil.rmtree pathlib.Path tempfile.mkstemp"
    )


def programs_that_do_not_add_up() -> Iterator[bytes]:
    yield zipped(b"}", 1)
    yield zipped(b"}", 6)
    yield zipped(b"}\x80\x02")
    yield archive(b"}.")
    yield zipped(b"]q\0q\0")
    yield zipped(b"](K\1\x90", 4)  # items of a set for a list
    yield zipped(b"\x8f(G" + bytes(8) + b"\x90", 4)
    yield zipped(b"}(Nu")
    yield zipped(b"}(K\1NK\1Nu")
    yield zipped(b"NN\x86R")
    yield zipped(text("os.system") + SHELL + b"\x85R")
    yield zipped(text("torch.Size") + b")\x85R")
    yield zipped(name("torch", "Size") + b"NR")
    yield zipped(call("torch", "Size", b"]"))
    yield zipped(call("torch", "Size"))
    yield zipped(call("collections", "OrderedDict", b"]"))
    yield zipped(call("builtins", "set", text("abc")))
    yield zipped(call("builtins", "set", b"](" + b"G" + bytes(8) + b"e"))
    yield zipped(call("torch", "device", b"]"))


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
    yield zipped(
        b"(" + text("file") + name("torch", "FloatStorage") + text("0") + text("c") + b"K\0tQ"
    )
    yield zipped(storage("0", 0, kind="UntypedStorage") + b"Q", s0=b"")
    yield zipped(
        storage("0", 0).replace(b"cpu", b"CPU").replace(b"X\3\0\0\0CPU", b"N") + b"Q", s0=b""
    )
    yield zipped(storage("0", 0)[:-1] + b"K\1tQ", s0=b"")  # a view of a storage
    yield zipped(storage("../0", 0) + b"Q", s0=b"")
    yield zipped(storage("x", 0) + b"Q", s0=b"")
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        yield zipped(code)
    yield zipped(call("copyreg", "add_extension", text("os"), text("system"), b"K\1") + b"\x82\x01")


def shadowing() -> Iterator[bytes]:
    for one in ("modules", "path", "meta_path"):
        yield zipped(name("sys", one))
    yield zipped(b"}" + text("activation") + name("os", "system") + b"s")
    yield zipped(name("sys", "modules") + text("os") + name("model", "Net") + b"s")
    yield zipped(name("sys", "modules") + b"}" + text("os") + b"Nsb")
    yield zipped(name("builtins", "__dict__") + text("len") + b"Ns")
    yield zipped(name("brainit_bit.importing.calls", "MEANINGS") + text("os.system") + b"Ns")
    yield zipped(name("brainit_bit.importing.machine", "MAX_OPCODES") + b"}" + text("x") + b"Nsb")
    yield from called(
        "builtins.setattr builtins.globals builtins.vars sys.addaudithook sys.settrace"
    )
