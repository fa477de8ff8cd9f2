"""Debian's packages, installed where the machine lacks a tool and we may install it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from mailtls_nb.testbed.progress import run_stage


def can_install() -> bool:
    """Whether this is Debian, or a descendant such as Ubuntu, and we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], why: str) -> None:
    """Install packages without a question asked; ``why`` is said in one line. Raises SetUpError."""
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    do = "install it by hand, then run this again: apt-get install " + " ".join(packages)
    run_stage(("apt-get", "update", "-q"), "reading Debian's package lists", env=env, do=do)
    # What exists under its own name on some releases only (docker-cli since trixie) is taken where it exists.
    known = [package for package in packages if _is_known(package)]
    run_stage(
        ("apt-get", "install", "-q", "-y", "--no-install-recommends", *known),
        f"{why}: installing Debian's {', '.join(known)}",
        env=env,
        do=do,
    )


def _is_known(package: str) -> bool:
    return subprocess.run(("apt-cache", "show", package), capture_output=True, check=False).returncode == 0
