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


def heal_hosts(hosts: Iterable[tuple[Host, Layout]]) -> tuple[str, ...]:
    """Put back what was left on any of them, and say what; empty where nothing was. Raises as `heal`."""
    said: list[str] = []
    for host, layout in hosts:
        if layout.interrupted:
            done = heal(host, layout) or ("what an interrupted run had left was put back meanwhile",)
            said += [f"{host.name}: {what}" for what in done]
    return tuple(said)
