"""What ``mailtls-nb testbed up|down|status`` does. Each returns the exit status; errors are the caller's to show."""

from __future__ import annotations

from mailtls_nb.testbed.testbed import Testbed


def up_command() -> int:
    """Bring the checkout's testbed up and print its hosts."""
    Testbed.of_checkout().up()
    return status_command()


def down_command() -> int:
    """Remove the checkout's testbed."""
    testbed = Testbed.of_checkout()
    testbed.down()
    print(f"testbed of {testbed.state_dir}: down")
    return 0


def status_command() -> int:
    """Print one line a host: name, address, state. The status is 1 when one of them is not up."""
    states = Testbed.of_checkout().status()
    for state in states:
        print(f"{state.name:24} {state.address or '-':15} {state.problem or 'up'}")
    return 1 if any(state.problem for state in states) else 0
