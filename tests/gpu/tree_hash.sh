#!/bin/sh
# tree_hash.sh [ROOT]: one hash of templates/, runtime/ and gen/: every file's name and content, but for the logs of what was
# tried (*.md). The record of the GPU tests carries it, so that it can be seen whether they ran on this tree. Needs no git:
# the tree may be a copy.
set -eu

cd "${1:-$(dirname "$0")/../..}"
find templates runtime gen -type f ! -name '*.md' ! -name '.*' ! -name '*~' | LC_ALL=C sort | while IFS= read -r file; do
    sha256sum "$file"
done | sha256sum | cut -c 1-64
