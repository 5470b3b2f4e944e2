"""The structs of library.py against tamis.h, as a C compiler lays it out; stores; what goes wrong is said."""

import ctypes
import os
import subprocess
import sys

import pytest
from small import ROOT, SMALL

import tamis
from tamis import library

STRUCTS = {
    "tamis_selection": library.CSelection,
    "tamis_problem": library.CProblem,
    "tamis_context_options": library.CContextOptions,
    "tamis_store_options": library.CStoreOptions,
    "tamis_pattern": library.CPattern,
    "tamis_plan_options": library.CPlanOptions,
    "tamis_tensor": library.CTensor,
    "tamis_run_args": library.CRunArgs,
}
CONSTANTS = {
    "TAMIS_DEVICE_CPU": library.CPU,
    "TAMIS_STORE_WRITE": library.STORE_WRITE,
    "TAMIS_BF16": library.DTYPES.index("bf16"),
    "TAMIS_FP16": library.DTYPES.index("fp16"),
    "TAMIS_DENSE": library.POLICIES.index("dense"),
    "TAMIS_COVERAGE": library.POLICIES.index("coverage"),
    "TAMIS_RATIO": library.POLICIES.index("ratio"),
    "TAMIS_COUNT": library.POLICIES.index("count"),
    "TAMIS_SCOPE_HEAD": library.SCOPES.index("head"),
    "TAMIS_SCOPE_KV_GROUP": library.SCOPES.index("kv_group"),
    "TAMIS_SCOPE_LAYER": library.SCOPES.index("layer"),
    **{f"TAMIS_PATTERN_{word.upper()}": i for i, word in enumerate(library.PATTERNS) if word != "blocks"},
    "TAMIS_PATTERN_HOST_BLOCKS": library.PATTERNS.index("blocks"),
    "TAMIS_CAUSAL": library.CAUSAL,
    "TAMIS_FULL": library.FULL,
    "TAMIS_VERSION_MAJOR": library.API[0],
    "TAMIS_VERSION_MINOR": library.API[1],
}


def test_structs_are_those_of_the_header(tmp_path):
    lines = [f'printf("{name} %d\\n", (int){name});' for name in CONSTANTS]
    expected = {name: value for name, value in CONSTANTS.items()}
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        expected[name] = ctypes.sizeof(struct)
        for member, kind in struct._fields_:
            lines.append(f'printf("{name}.{member} %zu\\n", offsetof({name}, {member}));')
            expected[f"{name}.{member}"] = getattr(struct, member).offset
            for inner, _ in getattr(kind, "_fields_", ()):
                lines.append(f'printf("{name}.{member}.{inner} %zu\\n", offsetof({name}, {member}.{inner}));')
                expected[f"{name}.{member}.{inner}"] = getattr(struct, member).offset + getattr(kind, inner).offset
    source = tmp_path / "offsets.c"
    source.write_text("#include <stdio.h>\n#include <tamis.h>\nint main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n")
    subprocess.run(["cc", "-I", ROOT / "runtime", source, "-o", tmp_path / "offsets"], check=True)
    printed = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    assert {line.split()[0]: int(line.split()[1]) for line in printed.splitlines()} == expected


def test_store(store):
    opened = tamis.Store(store)
    assert opened.layers("gqa_d128") == (3, (1, 2))
    assert opened.selection("mha_d64") == tamis.Selection("ratio", ratio=0.5, window=16, min_tokens=16)
    assert opened.pattern("mha_d64") == tamis.ALL_BLOCKS == tamis.Pattern()  # whose defaults are the library's
    assert opened.pattern("patterned") == tamis.Pattern("sliding", sink_tokens=4, window_tokens=200)
    problem = opened.problem("mha_d64")
    assert (problem.q_heads, problem.kv_heads, problem.head_dim) == SMALL["mha_d64"]


def test_what_goes_wrong_is_said(store, tmp_path):
    with pytest.raises(tamis.TamisError, match="nowhere.tamis") as error:
        tamis.Store(tmp_path / "nowhere.tamis")
    assert error.value.status == "TAMIS_ENOTFOUND"
    with pytest.raises(tamis.TamisError, match="gqa_d128"):  # the message lists what there is
        tamis.Store(store).problem("absent")
    with pytest.raises(ValueError, match="'most' is none of dense, coverage"):
        tamis.Selection("most").numbers()
    with pytest.raises(ValueError, match="'blocks' is none of none, sliding, vertical_slash"):
        tamis.Pattern("blocks").numbers()


def test_no_library_is_said():
    code = "import tamis; tamis.Store('x')"
    env = {**os.environ, "TAMIS_LIBRARY": "/nowhere/libtamis.so", "PYTHONPATH": str(ROOT / "examples" / "pytorch")}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "install it or set TAMIS_LIBRARY" in result.stderr
