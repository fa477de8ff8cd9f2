"""Imports run one way, and what is to be pure stays pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailtls_nb

PACKAGE = Path(mailtls_nb.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up; the longest prefix counts. A module imports from its own layer and those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__", "errors", "durable", "interruption", "locking"),
    ("secret", "names", "parameters"),
    ("pki", "sendmail"),
    ("plan", "verdict", "finding", "expiry"),
    ("hosts",),
    ("observe", "apply"),
    ("library", "record", "audit", "approval", "testbed"),
    ("procedures",),
    ("pictures", "display"),
    ("run", "engine"),
    ("runner", "refresh"),
    ("demo", "cli"),
)
# pki's shell: these touch the disk.
_PKI_SHELL = {
    "adoption",
    "compromised",
    "creation",
    "cross_signing",
    "directory",
    "inspection",
    "lint",
    "lint_files",
    "mending",
    "recovery",
    "revoking",
    "succession",
    "survey",
}
_IMPURE_MODULES = {"subprocess", "socket", "os", "time", "tempfile", "shutil", "getpass", "random", "secrets"}
_IMPURE_CALLS = {"open", "now", "utcnow", "today", "read_bytes", "read_text", "write_bytes", "write_text"}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _layer(name: str) -> int:
    top = name.partition(".")[0]
    return next(level for level, members in enumerate(LAYERS) if top in members)


def _imports(path: Path) -> Iterator[str]:
    """Modules of the package that are imported, wherever in the file; `mailtls_nb` itself as ``__init__``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mailtls_nb":
            rest = node.module.partition(".")[2]
            for alias in node.names:
                yield rest or (alias.name if _is_module(alias.name) else "__init__")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mailtls_nb":
                    yield alias.name.partition(".")[2] or "__init__"


def _is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()


def _is_pure(name: str) -> bool:
    top, _, rest = name.partition(".")
    return top in {"errors", "names", "parameters", "plan", "verdict", "finding", "expiry", "sendmail"} or (
        top == "pki" and rest not in _PKI_SHELL
    )


def _impurities(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _IMPURE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _IMPURE_MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _IMPURE_CALLS:
                yield f"{called}()"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_run_one_way(path: Path) -> None:
    """No module imports from a layer above its own; `mailtls_nb` itself looks up `run` only when asked."""
    name = _name(path)
    if name == "__init__":
        return
    above = {imported for imported in _imports(path) if _layer(imported) > _layer(name)}
    assert not above, f"{name} imports {above}"


@pytest.mark.parametrize("path", [path for path in MODULES if _is_pure(_name(path))], ids=_name)
def test_pure_modules_stay_pure(path: Path) -> None:
    """The functional core has no clock, no disk, no network."""
    assert list(_impurities(path)) == []


@pytest.mark.parametrize("module", ["IPython", "ipywidgets"])
def test_only_display_and_widgets_may_import_jupyter(module: str) -> None:
    """Everything else can be used without a notebook."""
    users = {
        _name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for imported in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if imported.split(".")[0] == module
    }
    assert users <= {"display", "widgets"}


def test_these_checks_can_fail(tmp_path: Path) -> None:
    """An import from above and a clock are noticed."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import subprocess\nfrom mailtls_nb.cli import main\nfrom datetime import datetime\ndatetime.now()\n"
    )
    assert list(_imports(bad)) == ["cli"]
    assert _layer("cli") > _layer("plan")
    assert set(_impurities(bad)) == {"subprocess", "now()"}
