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
PATTERNS = ("none", "blocks", "sliding", "vertical_slash", "flexprefill", "xattention", "topk_blocks")
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


def _members(**types):
    """A struct inside another."""
    return type("Members", (ctypes.Structure,), {"_fields_": list(types.items())})


class CPattern(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("host_blocks", _members(form=ctypes.c_int)),
        ("sliding", _members(sink_tokens=ctypes.c_int64, window_tokens=ctypes.c_int64)),
        (
            "vertical_slash",
            _members(
                last_queries=ctypes.c_int32,
                vertical_lines=ctypes.c_int64,
                slash_lines=ctypes.c_int64,
                coverage=ctypes.c_double,
            ),
        ),
        (
            "flexprefill",
            _members(gamma=ctypes.c_double, tau=ctypes.c_double, min_tokens=ctypes.c_int64, max_tokens=ctypes.c_int64),
        ),
        ("xattention", _members(stride=ctypes.c_int32, threshold=ctypes.c_double)),
        ("topk_blocks", _members(blocks=ctypes.c_int64, ratio=ctypes.c_double)),
    ]


class CPlanOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("tuning", ctypes.c_int),
        ("compiling", ctypes.c_int),
        ("on_compile", ctypes.c_void_p),
        ("on_compile_payload", ctypes.c_void_p),
        ("pattern", ctypes.POINTER(CPattern)),
        ("output_map", ctypes.c_int32),
    ]


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
        ("output_map", ctypes.c_void_p),
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


@dataclass(frozen=True)
class Pattern:
    """Which blocks of 128 by 128 tokens are attended to; tamis_pattern but for a host's own blocks, by the names that a spec
    uses. Parameters of another kind are not looked at; the defaults are the published ones. The default is all blocks."""

    kind: str = "none"
    sink_tokens: int = 128  # sliding
    window_tokens: int = 3968
    last_queries: int = 64  # vertical_slash
    vertical_lines: int = 1000
    slash_lines: int = 6096
    coverage: float = 0.0
    gamma: float = 0.95  # flexprefill
    tau: float = 0.1
    min_tokens: int = 1024
    max_tokens: int = 0
    stride: int = 16  # xattention
    threshold: float = 0.9
    blocks: int = 0  # topk_blocks
    ratio: float = 0.1

    def replace(self, **changes):
        return replace(self, **changes)

    def numbers(self):
        """The kind and the whole numbers, and the others, in the order of _PLACES: as torch's operator takes them."""
        if self.kind not in PATTERNS or self.kind == "blocks":
            words = ", ".join(word for word in PATTERNS if word != "blocks")
            raise ValueError(f"{self.kind!r} is none of {words}")
        values = [(member, getattr(self, member)) for _, member in _PLACES]
        whole = [value for member, value in values if Pattern.__annotations__[member] is int]
        real = [float(value) for member, value in values if Pattern.__annotations__[member] is float]
        return [PATTERNS.index(self.kind), *whole], real

    @staticmethod
    def struct(whole, real):
        """What numbers() gave, as libtamis takes it."""
        out = CPattern(ctypes.sizeof(CPattern), whole[0])
        whole, real = iter(whole[1:]), iter(real)
        for kind, member in _PLACES:
            setattr(getattr(out, kind), member, next(whole if Pattern.__annotations__[member] is int else real))
        return out


_PLACES = [  # of a pattern's parameters in CPattern
    (kind, member) for kind, members in CPattern._fields_[3:] for member, _ in members._fields_
]
ALL_BLOCKS = Pattern()

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
    "tamis_store_pattern": (ctypes.POINTER(CPattern), ctypes.c_void_p, ctypes.c_char_p),
    "tamis_plan_create_with": (
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(CProblem),
        ctypes.POINTER(CPlanOptions),
    ),
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


    def pattern(self, spec=None):
        """The block pattern that a spec names, as tamis_store_pattern says; ALL_BLOCKS where it names none."""
        out = CPattern(struct_size=ctypes.sizeof(CPattern))
        call("tamis_store_pattern", ctypes.byref(out), self.handle, _name(spec))
        return Pattern(PATTERNS[out.kind], **{member: getattr(getattr(out, kind), member) for kind, member in _PLACES})


class Plan(_Handle):
    """Kernels chosen for a problem, and a pattern; immutable."""

    _free = "tamis_plan_free"

    def __init__(self, context, store, problem, pattern):
        super().__init__()
        self.context, self.store = context, store  # both must outlive it
        options = CPlanOptions(struct_size=ctypes.sizeof(CPlanOptions), pattern=ctypes.pointer(pattern))
        call(
            "tamis_plan_create_with",
            ctypes.byref(self.handle),
            context.handle,
            store.handle if store else None,
            ctypes.byref(problem),
            ctypes.byref(options),
        )
        self.workspace_bytes = load().tamis_plan_workspace_bytes(self.handle)

    def run(self, arguments, workspace, workspace_bytes, stream):
        call("tamis_run", self.handle, ctypes.byref(arguments), workspace, workspace_bytes, stream)


def _name(spec):
    return None if spec is None else spec.encode()
