#!/usr/bin/env bash
# The core's tests, the fuzzer and the hostile clusters under the address and undefined-behaviour
# sanitizers (`make sanitize`), in a copy of the tree, so that the working tree keeps its fast build.
# Arguments go to pytest.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
copy=$(mktemp -d "${TMPDIR:-/tmp}/copystream-sanitize.XXXXXX")
trap 'rm -rf "$copy"' EXIT

mkdir "$copy/src"
cp -r "$root"/{setup.py,pyproject.toml,README.md,LICENSE,tests} "$copy/"
cp -r "$root"/src/{copycore,replicator} "$copy/src/"
find "$copy/src" \( -name '*.so' -o -path '*/copycore/*.c' \) -delete

cd "$copy"
# Python's own flags make signed overflow wrap, which hides it from the sanitizer.
COPYSTREAM_SANITIZE=1 CFLAGS="-fno-wrapv" "$python" setup.py --quiet build_ext --inplace -j 2

# Python keeps memory for good, so leaks cannot be told apart; its own allocator would hide
# overruns; allocations beyond reason fail as they do without the sanitizer. Short call stacks for
# every allocation make it all several times faster.
env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:malloc_context_size=5 \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    PYTHONMALLOC=malloc PYTHONPATH="$copy/src" \
    "$python" - "$@" <<'EOF'
import sys

import copycore.batch
import pytest

if not copycore.batch.__file__.startswith(sys.path[1]):
    sys.exit(f"{copycore.batch.__file__} is not the copy that was built for this")
# Only what is printed is captured: the sanitizers write to the descriptor itself, and last words
# in a captured one are lost with the process.
with_java = [
    "test_real_batches.py",
    "test_codec_java.py",
    "test_legacy_java.py",
    "test_partitioner_clients.py",
]
pure = ["tests/core", *(f"--ignore=tests/core/{name}" for name in with_java)]
# The binary that tests/hostile starts inherits the core built here, and the sanitizers.
pure += ["tests/lane", "tests/fuzz", "tests/hostile"]
options = ["-q", "--capture=sys", "-p", "no:cacheprovider", "--timeout=1200"]
sys.exit(pytest.main([*pure, *options, *sys.argv[1:]]))
EOF
