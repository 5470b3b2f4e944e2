"""libtamis by ctypes: the structs and calls of tamis.h that the module uses, and nothing that knows of torch.

A struct here mirrors the C one member by member; tests/test_library.py compares sizes and offsets with what a C compiler
says. Handles are plain integers, wrapped by Context, Store and Plan, which own them; a plan keeps its context and store
alive. Any thread may use them.
"""

import ctypes
import ctypes.util
import logging
import os
from dataclasses import dataclass, replace

CPU = -1  # tamis_context_options.device: the CPU backend
CAUSAL, FULL = 0, 1
DTYPES = ("bf16", "fp16")
POLICIES = ("dense", "coverage", "ratio", "count")
SCOPES = ("head", "kv_group", "layer")
API = (0, 1)  # major and minor version of the tamis.h that is mirrored here
STORE_WRITE = 1  # kernels that are compiled on first use are added, where the file can be written
LOG_FN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)


@LOG_FN
def _log(_payload, level, message):
    """Of all contexts and stores: Python's logger "tamis"."""
    logging.getLogger("tamis").log(logging.WARNING if level == 1 else logging.INFO, "%s", message.decode(errors="replace"))


class TamisError(RuntimeError):
    """A call of libtamis failed: its one line, the compiler's log where there is one, and the status's name."""

    def __init__(self, status, message, detail=""):
        super().__init__(message + ("\n" + detail if detail else ""))
        self.status = status


class CSelection(ctypes.Structure):
    _fields_ = [
        ("policy", ctypes.c_int),
        ("scope", ctypes.c_int),
        ("window", ctypes.c_int32),
        ("pool", ctypes.c_int32),
        ("min_tokens", ctypes.c_int64),
        ("coverage", ctypes.c_double),
        ("ratio", ctypes.c_double),
        ("count", ctypes.c_int64),
    ]


class CProblem(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("dtype", ctypes.c_int),
        ("batch", ctypes.c_int32),
        ("q_heads", ctypes.c_int32),
        ("kv_heads", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("seq_len", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("selection", CSelection),
        ("mask", ctypes.c_int),
    ]


class CContextOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("device", ctypes.c_int32),
        ("cpu_threads", ctypes.c_int32),
        ("precision", ctypes.c_int),
        ("log", LOG_FN),
        ("log_payload", ctypes.c_void_p),
    ]


class CStoreOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("mode", ctypes.c_int), ("log", LOG_FN), ("log_payload", ctypes.c_void_p)]


class CTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("batch_stride", ctypes.c_int64),
        ("head_stride", ctypes.c_int64),
        ("token_stride", ctypes.c_int64),
    ]


class CRunArgs(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("q", CTensor),
        ("k", CTensor),
        ("v", CTensor),
        ("output", CTensor),
        ("lse", ctypes.c_void_p),
        ("score", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
    ]


@dataclass(frozen=True)
class Selection:
    """Which tokens a layer keeps; tamis_selection, by the names that a spec uses. The default is dense."""

    policy: str = "dense"  # coverage, ratio and count say how many
    coverage: float = 0.0
    ratio: float = 1.0
    count: int = 0
    scope: str = "head"
    window: int = 128
    pool: int = 7
    min_tokens: int = 1024

    def replace(self, **changes):
        return replace(self, **changes)

    def numbers(self):
        """The members of CSelection, in its order, as torch's operator and its tracing take them: numbers only."""
        for value, words in ((self.policy, POLICIES), (self.scope, SCOPES)):
            if value not in words:
                raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return (
            POLICIES.index(self.policy),
            SCOPES.index(self.scope),
            self.window,
            self.pool,
            self.min_tokens,
            float(self.coverage),
            float(self.ratio),
            self.count,
        )


DENSE = Selection()

_SIGNATURES = {  # what a call takes; each returns a tamis_status unless _RETURNS says otherwise
    "tamis_context_create": (ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(CContextOptions)),
    "tamis_context_free": (ctypes.c_void_p,),
    "tamis_store_open": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.POINTER(CStoreOptions)),
    "tamis_store_free": (ctypes.c_void_p,),
    "tamis_store_problem": (ctypes.POINTER(CProblem), ctypes.c_void_p, ctypes.c_char_p),
    "tamis_store_layers": (
        ctypes.POINTER(ctypes.c_int32),
        ctypes.POINTER(ctypes.c_int32),
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_void_p,
        ctypes.c_char_p,
    ),
    "tamis_plan_create": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(CProblem)),
    "tamis_plan_free": (ctypes.c_void_p,),
    "tamis_plan_workspace_bytes": (ctypes.c_void_p,),
    "tamis_run": (ctypes.c_void_p, ctypes.POINTER(CRunArgs), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
    "tamis_version": (),
    "tamis_version_string": (),
    "tamis_last_error": (),
    "tamis_last_error_detail": (),
    "tamis_status_name": (ctypes.c_int,),
}
_RETURNS = {
    "tamis_context_free": None,
    "tamis_store_free": None,
    "tamis_plan_free": None,
    "tamis_plan_workspace_bytes": ctypes.c_size_t,
    "tamis_version": ctypes.c_uint32,
    "tamis_version_string": ctypes.c_char_p,
    "tamis_last_error": ctypes.c_char_p,
    "tamis_last_error_detail": ctypes.c_char_p,
    "tamis_status_name": ctypes.c_char_p,
}
_loaded = None


def load():
    """The library: $TAMIS_LIBRARY, else where the loader finds it. TamisError where there is none, or another version's."""
    global _loaded
    if _loaded is None:
        name = os.environ.get("TAMIS_LIBRARY") or ctypes.util.find_library("tamis") or "libtamis.so.0"
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            raise TamisError("TAMIS_ENOTFOUND", f"libtamis does not load; install it or set TAMIS_LIBRARY: {error}") from None
        for function, arguments in _SIGNATURES.items():
            if not hasattr(library, function):
                raise TamisError("TAMIS_EVERSION", f"{name} has no {function}(): it is older than this module")
            getattr(library, function).argtypes = arguments
            getattr(library, function).restype = _RETURNS.get(function, ctypes.c_int)
        version = library.tamis_version()
        if (version // 10000, version // 100 % 100) != API:
            raise TamisError(
                "TAMIS_EVERSION",
                f"{name} is version {library.tamis_version_string().decode()}, {API[0]}.{API[1]} would be right",
            )
        _loaded = library
    return _loaded


def call(function, *arguments):
    """Raises what tamis_last_error() says. The error belongs to the thread, so it is read before anything else is called."""
    library = load()
    status = getattr(library, function)(*arguments)
    if status != 0:
        message, detail = library.tamis_last_error().decode(), library.tamis_last_error_detail().decode()
        raise TamisError(library.tamis_status_name(status).decode(), message, detail)


class _Handle:
    """Owns one handle; freed with its object, or at once by free()."""

    _free = ""

    def __init__(self):
        self.handle = ctypes.c_void_p()

    def free(self):
        if self.handle:
            getattr(load(), self._free)(self.handle)
            self.handle = ctypes.c_void_p()

    def __del__(self):
        try:
            self.free()
        except (AttributeError, TypeError):  # at the interpreter's end, when modules are gone already
            pass


class Context(_Handle):
    """One device: a CUDA ordinal, or CPU."""

    _free = "tamis_context_free"

    def __init__(self, device=CPU, cpu_threads=0):
        super().__init__()
        options = CContextOptions(ctypes.sizeof(CContextOptions), device, cpu_threads, 0, _log, None)
        call("tamis_context_create", ctypes.byref(self.handle), ctypes.byref(options))
        self.device = device


class Store(_Handle):
    """An open store, the file that `tamis gen` writes."""

    _free = "tamis_store_free"

    def __init__(self, path):
        super().__init__()
        self.path = os.fspath(path)
        options = CStoreOptions(ctypes.sizeof(CStoreOptions), STORE_WRITE, _log, None)
        call("tamis_store_open", ctypes.byref(self.handle), os.fsencode(self.path), ctypes.byref(options))

    def problem(self, spec=None):
        """tamis_store_problem: heads, head_dim, dtype, scale and selection of a spec; None: of the only one."""
        out = CProblem(struct_size=ctypes.sizeof(CProblem))
        call("tamis_store_problem", ctypes.byref(out), self.handle, _name(spec))
        return out

    def selection(self, spec=None):
        s = self.problem(spec).selection
        return Selection(POLICIES[s.policy], s.coverage, s.ratio, s.count, SCOPES[s.scope], s.window, s.pool, s.min_tokens)

    def layers(self, spec=None):
        """(number of layers or 0, the sparse ones as a tuple), as tamis_store_layers says."""
        layers, needed = ctypes.c_int32(), ctypes.c_size_t()
        call("tamis_store_layers", ctypes.byref(layers), None, 0, ctypes.byref(needed), self.handle, _name(spec))
        sparse = (ctypes.c_int32 * needed.value)()
        call("tamis_store_layers", ctypes.byref(layers), sparse, needed.value, None, self.handle, _name(spec))
        return layers.value, tuple(sparse)


class Plan(_Handle):
    """Kernels chosen for a problem; immutable."""

    _free = "tamis_plan_free"

    def __init__(self, context, store, problem):
        super().__init__()
        self.context, self.store = context, store  # both must outlive it
        call(
            "tamis_plan_create",
            ctypes.byref(self.handle),
            context.handle,
            store.handle if store else None,
            ctypes.byref(problem),
        )
        self.workspace_bytes = load().tamis_plan_workspace_bytes(self.handle)

    def run(self, arguments, workspace, workspace_bytes, stream):
        call("tamis_run", self.handle, ctypes.byref(arguments), workspace, workspace_bytes, stream)


def _name(spec):
    return None if spec is None else spec.encode()
