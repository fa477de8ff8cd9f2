"""The fixtures that all tests share: the testbed, and its hosts put back to pristine."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailtls_nb.errors import SetUpError
from mailtls_nb.testbed import Testbed

CHECKOUT = Path(__file__).resolve().parents[1]


def _own_state_dir() -> Path:
    """A testbed of the tests' own, below a person's; of several sessions at once each gets another."""
    base = Path(os.environ.get("MAILTLS_TESTBED") or CHECKOUT / ".testbed")
    base.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        state_dir = base / ("tests" if number == 1 else f"tests-{number}")
        lock = os.open(f"{state_dir}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        except BlockingIOError:
            os.close(lock)
        else:
            return state_dir
    raise AssertionError("the numbers have no end")


def pytest_configure(config: pytest.Config) -> None:
    """Each process that runs tests has a testbed of its own, for itself and all that it starts (notebooks, papermill).

    With ``-n`` those are the workers. The process that hands out the work builds the image before they start.
    """
    if not _hands_out_work(config):
        os.environ["MAILTLS_TESTBED"] = str(_own_state_dir())
    elif not config.option.collectonly and config.option.markexpr != "not testbed":
        _in_sight(config, Testbed.of_checkout().prepare)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Bring the testbed up where a chosen test needs it: in sight, since it can take minutes the first time."""
    if session.config.option.collectonly or not any(item.get_closest_marker("testbed") for item in session.items):
        return
    _in_sight(session.config, Testbed.of_checkout().up)


def _hands_out_work(config: pytest.Config) -> bool:
    return bool(config.getoption("tx", default=None)) and not hasattr(config, "workerinput")


def _in_sight(config: pytest.Config, act: Callable[[], None]) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        try:
            act()
        except SetUpError as error:
            pytest.exit(str(error), returncode=error.exit_status)


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """The tests' testbed, up. It is taken down at the end of the session; left-overs of a killed one heal."""
    testbed = Testbed.of_checkout()
    testbed.up()
    yield testbed
    testbed.down()


@pytest.fixture(scope="module")
def pristine(testbed: Testbed) -> Testbed:
    """The testbed with all hosts as at first and no CA, once for each test file."""
    testbed.reset()
    return testbed
