"""The same testbed on Podman, where this machine has it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtls_nb.testbed import HOSTS, Testbed
from mailtls_nb.testbed.engine import PODMAN

pytestmark = [
    pytest.mark.testbed,
    pytest.mark.skipif(bool(PODMAN.answers()), reason="there is no Podman on this machine"),
]


@pytest.fixture
def on_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testbed]:
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin")
    if "CONTAINERS_CONF" not in os.environ and runc:
        # Podman's own choice of runtime and limits cannot start a container on a machine that was locked down.
        settings = tmp_path / "containers.conf"
        limits = 'default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]'
        settings.write_text(f'[containers]\n{limits}\n[engine]\nruntime = "{runc}"\n')
        monkeypatch.setenv("CONTAINERS_CONF", str(settings))
    testbed = Testbed(tmp_path / "state", engine=PODMAN)
    yield testbed
    testbed.down()


def test_the_testbed_comes_up_heals_and_goes_down_on_podman(on_podman: Testbed) -> None:
    on_podman.up()
    PODMAN.run("stop", "-t", "1", on_podman.container_name("partner"), doing="test")
    PODMAN.run("rm", "-f", on_podman.container_name("stranger"), doing="test")
    on_podman.up()
    assert [state.problem for state in on_podman.status()] == [""] * len(HOSTS)
    stranger = on_podman.host("stranger")
    reverse = stranger.run(["getent", "hosts", on_podman.address("partner")], timeout_s=20).text
    assert reverse.split()[1] == "partner.example.test"
    for to in ("relay", "partner"):
        message = ["swaks", "--to", f"root@{to}.example.test", "--from", "someone@stranger.example.test"]
        sent = stranger.run([*message, "--server", f"{to}.example.test"], timeout_s=30)
        assert sent.status == 0, sent.text
    on_podman.reset()
    assert on_podman.host("relay").read("/var/mail/root") is None
    on_podman.down()
    label = f"label=mailtls-nb.testbed={on_podman.identity}"
    assert PODMAN.run("ps", "-aq", "--filter", label, doing="test") == ""
    assert PODMAN.run("network", "ls", "-q", "--filter", label, doing="test") == ""
