"""Rules for the core's sources, checked by reading the sources."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from copycore.partition import ENDINGS

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "copycore"
MODULES = sorted(path.stem for path in CORE.glob("*.pyx"))
CYTHON = sorted([*CORE.glob("*.pyx"), *CORE.glob("*.pxd")])
SOCKET_ROOMS = {"transport", "poll"}
COPYING_ROOMS = {"cursor", "batch", "retrace", "transport"}  # where memory may be copied


def code(path: Path) -> str:
    """A source without its comments and triple-quoted strings."""
    return re.sub(r"(?s)\"\"\".*?\"\"\"|#[^\n]*", "", path.read_text())


def stub_names(body: list[ast.stmt]) -> set[str]:
    return {
        node.target.id
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        else getattr(node, "name", "")
        for node in body
        if isinstance(node, ast.AnnAssign | ast.FunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("module", MODULES)
def test_stubs_say_what_the_module_has(module: str) -> None:
    loaded = importlib.import_module(f"copycore.{module}")
    stub = ast.parse((CORE / f"{module}.pyi").read_text())
    classes = [node for node in stub.body if isinstance(node, ast.ClassDef)]
    typing_only = {node.name for node in classes if "TypedDict" in map(ast.unparse, node.bases)}
    declared = stub_names(stub.body) - typing_only
    assert declared <= set(vars(loaded))
    for node in classes:
        if node.name not in typing_only:
            assert stub_names(node.body) <= set(dir(getattr(loaded, node.name))), node.name
    internal = set(re.findall(r"cdef class (\w+)", (CORE / f"{module}.pyx").read_text()))
    own = {
        name
        for name, value in vars(loaded).items()
        if getattr(value, "__module__", None) == loaded.__name__ and not name.startswith("_")
    }
    assert own <= declared | internal, "a function without a type"


def literal(module: str, name: str) -> set[str]:
    """The values of a Literal that a stub defines."""
    text = (CORE / f"{module}.pyi").read_text()
    found = re.search(rf"^{name} = (Literal\[.*?\])$", text, re.S | re.M)
    assert found is not None
    return set(re.findall(r'"(.+?)"', found.group(1)))


def test_endings_are_a_closed_type() -> None:
    """The stub lists exactly the endings that are set in the core."""
    sources = "".join(code(path) for path in CORE.glob("*.pyx"))
    broken = set(re.findall(r'BrokenBatch\(\s*"(.+?)"', sources))
    assert broken == literal("rebatch", "Broken")
    assert broken | set(re.findall(r'\bfinish\(\s*"(.+?)"', sources)) == set(ENDINGS)
    assert literal("partition", "Ending") == set(ENDINGS)
    assert re.findall(r"(\w+)\.ending = ", sources) == ["self", "self"], "BrokenBatch and finish"


def test_what_is_only_for_tests_is_there_and_not_used_by_the_product() -> None:
    text = (CORE / "__init__.py").read_text().partition("only, which")[2]
    names = set(re.findall(r"(\w+)``", text))
    assert len(names) > 10
    stubs = "".join(path.read_text() for path in CORE.glob("*.pyi"))
    product = "".join(path.read_text() for path in CORE.parent.glob("replicator/**/*.py"))
    called = {name for name in names if re.search(rf"import.*\b{name}\b|\.{name}\(", product)}
    assert {name for name in names if f"def {name}(" not in stubs} == set()
    assert called == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_cimported_has_a_pxd(module: str) -> None:
    users = [p for p in CYTHON if re.search(rf"from copycore\.{module} cimport", p.read_text())]
    assert (CORE / f"{module}.pxd").exists() or not users


def test_the_build_knows_every_module() -> None:
    listed = re.search(r"MODULES = (\[.*?\])", (ROOT / "setup.py").read_text(), re.S)
    assert listed is not None
    assert sorted(ast.literal_eval(listed.group(1))) == MODULES, "each module once"


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_the_core_is_bytes_in_bytes_out(path: Path) -> None:
    """No Kafka client, no clock, no logging, no policy; sockets only in the modules meant for
    them.
    """
    allowed = {"copycore", "libc", "cpython", "cython", "collections", "array", "threading"}
    headers = {"crc32c_impl.h", "alike_impl.h"}
    if path.stem == "codec":
        allowed |= {"cramjam", "io", "lz4", "zlib", "zstandard"}
    if path.stem == "legacy":
        allowed |= {"zlib"}
    if path.stem in SOCKET_ROOMS:
        allowed |= {"os", "posix"}
        headers |= {"<poll.h>", "<sys/socket.h>", "<sys/uio.h>", "<unistd.h>"}
    imported = re.findall(r"^\s*(?:from|c?import)\s+(\w+)", code(path), re.M)
    assert set(imported) <= allowed
    assert set(re.findall(r'cdef extern from "(.*?)"', code(path))) <= headers
    assert not re.search(r"libc\.time|libc\.stdio|(?<!def )\bprint\(", code(path))


@pytest.mark.parametrize(
    "path", [path for path in CYTHON if path.stem != "cursor"], ids=lambda path: path.name
)
def test_only_the_cursor_moves_a_position(path: Path) -> None:
    assert not re.search(r"\.pos\s*[-+]?=[^=]", code(path)), "a Reader or Writer moved by hand"
    if path.stem not in COPYING_ROOMS:
        assert not re.search(r"\bmem(?:cpy|move)\(", code(path))


def test_the_c_headers_are_free_of_warnings() -> None:
    program = """
        #include "alike_impl.h"
        #include "crc32c_impl.h"
        int main(void) {
            uint8_t byte = 1;
            cs_init();
            (void)cs_alike;
            return cs_crc32c(0, &byte, 1) == cs_extend_table(0, &byte, 1) && *cs_extend_name;
        }
    """
    for level in ("-O0", "-O3"):
        subprocess.run(
            [
                *("cc", "-x", "c", "-fsyntax-only", "-I", str(CORE), level),
                *("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-"),
            ],
            input=program,
            text=True,
            check=True,
            timeout=60,
        )


@pytest.mark.parametrize("without", ["-D__keep", "-U__SSE2__"])
def test_short_comparisons(tmp_path: Path, without: str) -> None:
    """Both ways to compare, at every size and with every byte that differs."""
    program = """
        #include "alike_impl.h"
        int main(void) {
            uint8_t a[CS_SHORT], b[CS_SHORT];
            for (unsigned at = 0; at < CS_SHORT; at++)
                for (unsigned size = 0; size <= CS_SHORT; size++) {
                    memset(a, 7, CS_SHORT);
                    memset(b, 7, CS_SHORT);
                    b[at] ^= (uint8_t)(1u << at % 8);
                    if (cs_alike(a, b, size) != (at >= size)) return 1;
                }
            return 0;
        }
    """
    made = tmp_path / "compare"
    command = [
        "cc",
        "-x",
        "c",
        "-I",
        str(CORE),
        without,
        "-O2",
        "-Wall",
        "-Werror",
        "-o",
        str(made),
    ]
    subprocess.run([*command, "-"], input=program, text=True, check=True, timeout=60)
    subprocess.run([made], check=True, timeout=60)
