"""kill -9 at each write of a create, an issue, a revocation, a succession, and at random: all is sound afterwards."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailtls_nb.secret import Secret

DRIVER = Path(__file__).with_name("crash_driver.py")


def drive(passphrase: Secret, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, DRIVER, *arguments], input=passphrase.reveal(), capture_output=True, timeout=300, check=False
    )
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, printed
    return printed


@pytest.mark.parametrize(("what", "at_least"), [("create", 30), ("issue", 12), ("revoke", 15), ("replace", 60)])
def test_killed_at_every_write_point(what: str, at_least: int, passphrase: Secret, tmp_path: Path) -> None:
    printed = drive(passphrase, what, tmp_path / "ca")
    counted = re.search(r"points (\d+) moments (\d+) killed (\d+)", printed)
    assert counted is not None
    points, moments, killed = map(int, counted.groups())
    assert points >= at_least
    assert killed == moments > 2 * points


@pytest.mark.parametrize("what", ["issue", "revoke", "replace"])
def test_killed_at_random_moments(what: str, passphrase: Secret, tmp_path: Path) -> None:
    """The seed is printed; MAILTLS_TEST_SEED repeats a run."""
    seed = os.environ.get("MAILTLS_TEST_SEED") or str(random.randrange(10**9))
    print(f"MAILTLS_TEST_SEED={seed}")
    assert "killed 10" in drive(passphrase, what, tmp_path / "ca", seed)
