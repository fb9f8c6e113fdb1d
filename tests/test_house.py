"""The house rules that no linter knows: sizes, names, and one module per floor's purpose."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = sorted((ROOT / "src" / "shore").rglob("*.py"))
RUST = sorted(p for p in (ROOT / "crates").rglob("*.rs") if "target" not in p.parts)
NAMES_NOTHING = re.compile(r"(Manager|Helper|Util|Utils|Handler|Service|Boss)$")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_python_file_opens_with_its_theory_and_stays_readable(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module opens with its theory"
    assert text.count("\n") <= 450, "look for the missing noun"
    long = [f.name for f in functions(path) if (f.end_lineno or 0) - f.lineno >= 80]
    assert not long, f"functions over 80 lines: {long}"


@pytest.mark.parametrize("path", RUST, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_rust_file_stays_readable(path: Path) -> None:
    code = path.read_text().split("#[cfg(test)]")[0]
    assert code.count("\n") <= 450 or "tests" in path.parts, "look for the missing noun"


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_class_is_named_after_nothing(path: Path) -> None:
    classes = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    assert not [name for name in classes if NAMES_NOTHING.search(name)]


def test_unsafe_code_lives_in_the_dataplane_crate_only() -> None:
    offenders = [
        path
        for path in RUST
        if re.search(r"\bunsafe\b(?!_)", re.sub(r"//.*", "", path.read_text()))
        and "dataplane" not in path.parts
    ]
    assert not offenders
