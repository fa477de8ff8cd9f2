"""Where the runbooks are: in the checkout, or in the installed package."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.parameters import Declared, declared_parameters, parameters_cell

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Runbook:
    """A runbook as it lies on the disk. ``id`` is its file name without the ending."""

    id: str
    path: Path
    title: str
    sentence: str
    declared: tuple[Declared, ...]
    digest: str

    @classmethod
    def read(cls, path: Path) -> Runbook:
        """Read a notebook; raises NotReady when it is not a runbook."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotReady(f"{path} cannot be read: {error}", left="nothing was touched") from error
        declared = declared_parameters(parameters_cell(text))
        title, sentence = _title(text)
        return cls(path.stem, path, title, sentence, declared, source_digest(text))

    def values(self, given: dict[str, str | int]) -> dict[str, str | int]:
        """Every parameter's value: the given one, else the default."""
        return {parameter.name: given.get(parameter.name, parameter.default) for parameter in self.declared}


def checkout() -> Path | None:
    """The top of the checkout that this package runs from; None when it was installed from a wheel."""
    top = _PACKAGE.parent
    return top if (top / "runbooks").is_dir() and (top / "pyproject.toml").is_file() else None


def runbooks_dir() -> Path:
    """The folder of the runbooks."""
    top = checkout()
    return top / "runbooks" if top else _PACKAGE / "runbooks"


def runbooks() -> tuple[Runbook, ...]:
    """Every runbook, in order."""
    return tuple(Runbook.read(path) for path in sorted(runbooks_dir().glob("[0-9][0-9]-*.ipynb")))


def find(name: str) -> Runbook:
    """The runbook of an id (``02-issue-certificate``), a number (``02`` or ``2``) or a path to a notebook."""
    paths = sorted(runbooks_dir().glob("[0-9][0-9]-*.ipynb"))
    number = f"{name.zfill(2)}-" if name.isascii() and name.isdigit() else None
    for path in paths:
        if path.stem == name or (number and path.name.startswith(number)):
            return Runbook.read(path)
    if name.endswith(".ipynb") and Path(name).is_file():
        return Runbook.read(Path(name).resolve())
    raise BadParameter(
        "RUNBOOK", f"{name!r} is not a runbook", do="choose one of: " + ", ".join(path.stem for path in paths)
    )


def source_digest(notebook_json: str) -> str:
    """SHA-256 in hex over the kinds and sources of all cells: the runbook without outputs and metadata."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in json.loads(notebook_json)["cells"]]
    return hashlib.sha256(json.dumps(cells, separators=(",", ":")).encode()).hexdigest()


def git_commit() -> str:
    """The commit of the checkout, with ``-dirty`` behind it when files differ; empty where there is none."""
    top = checkout()
    if top is None:
        return ""
    argv = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _title(notebook_json: str) -> tuple[str, str]:
    """The heading of the first Markdown cell and the paragraph below it."""
    markdown = (
        "".join(cell["source"]) for cell in json.loads(notebook_json)["cells"] if cell["cell_type"] == "markdown"
    )
    heading, _, rest = next(markdown, "").strip().partition("\n")
    sentence = rest.strip().split("\n\n")[0]
    return heading.lstrip("# ").strip(), " ".join(sentence.split())
