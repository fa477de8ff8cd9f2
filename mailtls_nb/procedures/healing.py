"""What an interrupted run left half done on hosts: the step that says so, and putting it back."""

from __future__ import annotations

from collections.abc import Iterable

from mailtls_nb.apply.transaction import heal
from mailtls_nb.hosts.base import Host
from mailtls_nb.plan import Step
from mailtls_nb.sendmail.layout import Layout


def heal_step(where: str) -> Step:
    """The one step on a host where something was left; with what is found after it the plan is made anew."""
    sentence = "Put back what an interrupted run left half done; then look again and plan anew."
    return Step("heal", where, "the interrupted change", sentence)


def heal_hosts(hosts: Iterable[tuple[Host, Layout]]) -> bool:
    """Put back what was left on any of them; True when there was something. Raises as `heal`."""
    interrupted = [(host, layout) for host, layout in hosts if layout.interrupted]
    for host, layout in interrupted:
        heal(host, layout)
    return bool(interrupted)
