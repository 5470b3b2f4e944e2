#!/usr/bin/env bash
# pytorch.sh BUILD [PYTEST ARGUMENT...]: the tests of examples/pytorch/ and examples/quality/, with the library and tool of
# BUILD. In the python of TAMIS_PYTHON where that is set, which has torch, transformers and pytest; else in the environment
# that setup_pytorch.sh makes. Those that need a GPU are skipped where there is none.
set -euo pipefail

build=$(cd "${1:?usage: pytorch.sh BUILD [PYTEST ARGUMENT...]}" && pwd)
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${TAMIS_PYTHON:-}" ]; then
    "$root/tests/setup_pytorch.sh"
    TAMIS_PYTHON=$root/.deps/pytorch/bin/python
fi
export TAMIS_LIBRARY=$build/libtamis.so TAMIS_TOOL=$build/tamis
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export OMP_NUM_THREADS=1 # small models: threads would wait for one another, and for the tests beside these
if [ $# -eq 0 ]; then
    for folder in pytorch quality; do
        [ ! -d "$root/examples/$folder/tests" ] || set -- "$@" "$root/examples/$folder/tests"
    done
fi
exec "$TAMIS_PYTHON" -m pytest -q -p no:cacheprovider -rs --tb=short "$@"
