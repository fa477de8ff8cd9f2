"""What waits in a host's mail queue for somebody."""

from __future__ import annotations

import re

from mailtls_nb.hosts.base import Host

_TOTAL = re.compile(r"^\s*Total requests: (\d+)", re.MULTILINE)


def waiting_messages(host: Host, sendmail: str, recipient_part: str) -> int:
    """How many messages wait with a recipient that holds ``recipient_part`` (sendmail -bp -qR; op.me 2.3.2)."""
    completed = host.run((sendmail, "-bp", f"-qR{recipient_part}"), timeout_s=120)
    totals = _TOTAL.findall(completed.check("listing the mail queue", left="nothing was touched").text)
    return sum(map(int, totals))


def flush_queue(host: Host, sendmail: str, recipient_part: str) -> None:
    """Try to deliver those messages now, each once; returns when all were tried."""
    completed = host.run((sendmail, f"-qR{recipient_part}"), timeout_s=600)
    completed.check("trying the messages in the mail queue again")
