"""Guests: up when asked for, known to everybody by name, gone with a reset; those of two testbeds side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailtls_nb.testbed import GUESTS, HOSTS, Testbed

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def testbeds(pristine: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Testbed, Testbed]]:
    """Two testbeds, each with all guests; the second is this file's own."""
    second = Testbed(tmp_path_factory.mktemp("second"), engine=pristine.engine)
    second.up()
    for testbed in (pristine, second):
        for guest in GUESTS:
            testbed.guest(guest)
    yield pristine, second
    second.down()


def container_ids(testbed: Testbed) -> list[str]:
    names = [testbed.container_name(name) for name in (*HOSTS, *GUESTS)]
    return testbed.engine.run("inspect", "-f", "{{.Id}}", *names, doing="test").split()


@pytest.mark.parametrize("guest", GUESTS)
def test_a_guests_name_agrees_both_ways_for_the_relay_and_for_itself(
    testbeds: tuple[Testbed, Testbed], guest: str
) -> None:
    for testbed in testbeds:
        address, name = testbed.address(guest), f"{guest}.example.test"
        for inside in ("relay", guest):
            run = testbed.host(inside).run
            assert run(["getent", "ahostsv4", name], timeout_s=20).text.split()[0] == address
            assert run(["getent", "hosts", address], timeout_s=20).text.split()[1] == name
        assert testbed.host(guest).run(["hostname", "-f"], timeout_s=20).text.strip() == name


@pytest.mark.parametrize(("guest", "package"), GUESTS.items())
def test_a_guest_runs_the_distributions_own_package(
    testbeds: tuple[Testbed, Testbed], guest: str, package: str
) -> None:
    run = testbeds[0].host(guest).run
    assert run(["dpkg-query", "-W", "-f", "${Status}", package], timeout_s=20).text == "install ok installed"
    assert run(["dpkg", "--verify", package], timeout_s=20).text == ""
    assert run(["dpkg", "-l", "sendmail-bin"], timeout_s=20).text.splitlines()[-1].startswith("rc ")


@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_that_was_killed_comes_back_as_it_was(testbeds: tuple[Testbed, Testbed], guest: str) -> None:
    second = testbeds[1]
    second.host(guest).run(["touch", "/root/kept"], timeout_s=20).check("marking")
    second.engine.run("kill", second.container_name(guest), doing="test")
    assert second.guest(guest).run(["test", "-e", "/root/kept"], timeout_s=20).status == 0


def test_asking_again_changes_nothing_and_a_reset_or_down_takes_the_guests_along(
    testbeds: tuple[Testbed, Testbed],
) -> None:
    first, second = testbeds
    before = container_ids(first)
    first.guest("postfix")
    first.up()
    assert container_ids(first) == before
    assert len(first.status()) == len(HOSTS)
    second.reset()
    listed = ["ps", "-a", "--format", "{{.Names}}", "--filter", f"label=mailtls-nb.testbed={second.identity}"]
    assert sorted(second.engine.run(*listed, doing="test").split()) == sorted(map(second.container_name, HOSTS))
    second.guest("exim")
    second.down()
    assert second.engine.run(*listed, doing="test") == ""
    assert container_ids(first) == before
