"""The oldest and the newest sendmail of the testbed's releases, where their images were built already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.images import image_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailtls_nb.hosts.base import Host
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed


@pytest.fixture(params=[("bullseye", (8, 15)), ("trixie", (8, 18))], ids=["bullseye", "trixie"])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Host, tuple[int, int]]]:
    """The relay of a testbed of its own."""
    name, version = request.param
    testbed = Testbed(tmp_path, name)
    if testbed.engine.attempt("image", "inspect", image_name(name)).returncode != 0:
        pytest.skip(f"the image of {name} is not built; it takes minutes")
    testbed.up()
    try:
        yield testbed.host("relay"), version
    finally:
        testbed.down()


def test_layout_install_and_way_back(release: tuple[Host, tuple[int, int]], relay_of: Callable[[Host], Relay]) -> None:
    """The same layout, block, trial, reload and way back as on the release in use."""
    host, version = release
    layout = observe_layout(host)
    assert layout.version[:2] == version
    assert layout.proved
    assert not layout.drifted
    relay = relay_of(host)
    before = relay.serial()
    relay.install(host, 7)
    assert (before, relay.serial()) == ("", "serial=07")
    relay.uninstall()
    assert relay.serial() == ""
