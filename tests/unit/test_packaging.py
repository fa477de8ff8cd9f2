"""What users get: the conda environment asks for what pyproject.toml asks for, and the wheel is complete."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
# What conda-forge calls by another name than PyPI. (Its `playwright` is the Node.js program.)
CONDA_NAMES = {"playwright-python": "playwright"}


def bounds(requirements: list[str]) -> dict[str, str]:
    """Normalised name (as PyPI compares names) to version bounds."""
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+?) *([<>=!~][^;]*)?", requirement)
        assert match, requirement
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = (match[2] or "").replace(" ", "")
    return found


def test_environment_yml_asks_for_what_pyproject_asks_for() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = bounds(
        [
            *project["dependencies"],
            *project["optional-dependencies"]["test"],
            f"python{project['requires-python']}",
            "pip",
        ]
    )
    dependencies = yaml.safe_load((CHECKOUT / "environment.yml").read_text())["dependencies"]
    (by_pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    by_conda = bounds([entry for entry in dependencies if isinstance(entry, str)])
    assert bounds(by_pip) | {CONDA_NAMES.get(name, name): bound for name, bound in by_conda.items()} == wanted


def test_the_wheel_holds_the_runbooks_the_pages_and_the_testbeds_images(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    runbooks = {f"mailtls_nb/runbooks/{path.name}" for path in (CHECKOUT / "runbooks").glob("*.ipynb")}
    testbed = "mailtls_nb/testbed"
    images = {
        f"{testbed}/{image}/{path.name}"
        for image in ("image", "guest_image")
        for path in (CHECKOUT / testbed / image).iterdir()
    }
    audit = CHECKOUT / "mailtls_nb" / "audit"
    pages = {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("*.html", "*.j2", "*.json")
        for path in audit.rglob(pattern)
    }
    assert runbooks
    assert images
    assert len(pages) == 4
    assert runbooks | images | pages <= names
