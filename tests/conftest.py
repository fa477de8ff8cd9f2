"""The fixtures that all tests share: the testbed, and its hosts put back to pristine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtls_nb.testbed import Testbed

CHECKOUT = Path(__file__).resolve().parents[1]

# A testbed of the tests' own, below a person's, for this process and all that it starts (notebooks, papermill).
os.environ["MAILTLS_TESTBED"] = str(Path(os.environ.get("MAILTLS_TESTBED") or CHECKOUT / ".testbed") / "tests")


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
