"""Builds the Cython core. Switches, by environment:

COPYSTREAM_DEBUG=1     bounds checks, C asserts, line trace, -O0 -g
COPYSTREAM_SANITIZE=1  address and undefined-behaviour sanitizers (see ``make sanitize``)
COPYSTREAM_COVERAGE=1  line trace for coverage.py
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("COPYSTREAM_DEBUG") == "1"
SANITIZE = os.environ.get("COPYSTREAM_SANITIZE") == "1"
COVERAGE = os.environ.get("COPYSTREAM_COVERAGE") == "1"

MODULES = [
    "crc32c",
    "cursor",
    "batch",
    "records",
    "frames",
    "codec",
    "retrace",
    "legacy",
    "partitioner",
    "rebatch",
    "segments",
    "bucket",
    "allowance",
    "transport",
    "poll",
    "branch",
    "split",
    "sieve",
    "builder",
    "numbering",
    "empty_answers",
    "partition",
    "lane_state",
    "outlet",
    "pipe",
    "lane",
]

# Cython's own generated code trips -Wconversion and -Wunused; the header files that are
# written by hand are held to the full set (their checks are in tests/core/test_source.py).
compile_args = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
    "-Wno-sign-compare",
]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = []

if DEBUG:
    compile_args += ["-O0", "-g", "-UNDEBUG"]
else:
    compile_args += ["-O3"]
if SANITIZE:
    flags = [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
        "-g",
        "-O1",
    ]
    compile_args += flags
    link_args += ["-fsanitize=address,undefined"]
if DEBUG or COVERAGE:
    macros.append(("CYTHON_TRACE_NOGIL", "1"))

extensions = [
    Extension(
        f"copycore.{name}",
        [f"src/copycore/{name}.pyx"],
        include_dirs=["src/copycore"],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
    )
    for name in MODULES
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": "3",
            "boundscheck": DEBUG or SANITIZE,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG or SANITIZE,
            "embedsignature": True,
            "linetrace": DEBUG or COVERAGE,
        },
        force=DEBUG or SANITIZE or COVERAGE,
    ),
)
