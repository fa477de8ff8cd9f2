"""`make bench`: a mail log of 1 GB, judged by a rule; its time and peak memory beside those of grep and zcat.

The log is made on the fly, the same each time, and removed at the end. Everything is measured in one run, so that the
ratios mean something on any machine. `python tests/bench/mail_history.py [MEGABYTES]`
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 11, 2, tzinfo=UTC)
NOW = START + timedelta(days=29)
SMALL_MEGABYTES = 10
PATTERN = "STARTTLS=|AUTH=server|: from=|: to=|ruleset="


def connections() -> Iterator[str]:
    """One text for each connection: what sendmail says of it, and what other programs write in between."""
    chance = random.Random(3)
    time_, number = START, 0
    while True:
        number += 1
        time_ += timedelta(milliseconds=chance.randrange(500))
        stamp = time_.isoformat()
        pid = 1000 + number % 60000
        queue_id = f"6AM{number:09d}"
        # A few peers write most of the mail, and there is no end of those that write once.
        host = int(chance.paretovariate(0.6))
        peer = f"mx{host}.example{host % 977}.test [10.{host >> 16 & 255}.{host >> 8 & 255}.{host & 255}]"
        mta = f"{stamp} relay sm-mta[{pid}]: "
        kind = chance.randrange(10)
        tls = kind < 7
        lines = [f"{stamp} relay dovecot: imap-login: Login: user=<u{number}>, method=PLAIN, rip=192.0.2.1, TLS"]
        if tls:
            verify = ("OK", "NO", "FAIL")[kind % 3]
            lines.append(
                f"{mta}STARTTLS=server, relay={peer}, version=TLSv1.3, verify={verify}, "
                "cipher=TLS_AES_256_GCM_SHA384, bits=256/256"
            )
        lines += [
            f"{mta}{queue_id}: from=<u{number}@example.test>, size=2870, class=0, nrcpts=1, "
            f"msgid=<{number}@example.test>, proto={'ESMTPS' if tls else 'ESMTP'}, daemon=MTA-v4, relay={peer}",
            f"{stamp} relay spamd[77]: spamd: result: . -1 - ALL_TRUSTED scantime=0.2,size=2870,user=u{number},mid=<x>",
            f"{mta}{queue_id}: Milter add: header: X-Spam-Status: No, score=-1.0 required=5.0 tests=ALL_TRUSTED",
        ]
        if kind % 2:
            lines.append(
                f"{mta}{queue_id}: to=<u@example.test>, delay=00:00:01, xdelay=00:00:01, mailer=local, pri=32870, "
                "dsn=2.0.0, stat=Sent"
            )
        else:
            server = f"mx.example{number % 500}.test."
            lines += [
                f"{mta}STARTTLS=client, relay={server}, version=TLSv1.3, verify=FAIL, "
                "cipher=TLS_AES_256_GCM_SHA384, bits=256/256",
                f"{mta}{queue_id}: to=<u@example{number % 500}.test>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, "
                f"pri=32870, relay={server} [10.1.2.3], dsn=2.0.0, stat=Sent (OK {number} queued)",
            ]
        yield "".join(f"{line}\n" for line in lines)


def make_log(path: Path, megabytes: int) -> None:
    size = 0
    with path.open("w") as log:
        for text in connections():
            log.write(text)
            size += len(text)
            if size >= megabytes * 1_000_000:
                return


def judge(directory: str) -> None:
    """In a process of its own: prints what was found, and its peak memory in kB."""
    from mailtls_nb.hosts.local import LocalHost
    from mailtls_nb.observe.mail_history import observe_impact
    from mailtls_nb.sendmail.access.case import Case, Decision
    from mailtls_nb.sendmail.layout import LogSource
    from mailtls_nb.sendmail.tally import FittingCertificate, Tally

    def decide(case: Case) -> Decision:
        return Decision("" if case.verify == "OK" and case.cert_issuer == "/CN=Partner" else "permanent")

    tally = Tally(decide, fitting=FittingCertificate(cert_issuer="/CN=Partner"), bits=112)
    impact = observe_impact(LocalHost(), LogSource(f"{directory}/mail.log"), tally, now=NOW)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"lines": impact.period.lines, "messages": impact.messages, "refused": impact.refused, "peak_kb": peak_kb}
    print(json.dumps(found))


def timed(*argv: str) -> tuple[float, str]:
    """Processor time in seconds, since that hardly depends on what else the machine does, and what was printed."""
    began = _children_s()
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    return _children_s() - began, done.stdout


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(megabytes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="mailtls-nb-bench-") as base:
        small, plain, packed = (Path(base) / name for name in ("small", "plain", "packed"))
        for directory in (small, plain, packed):
            directory.mkdir()
        make_log(small / "mail.log", SMALL_MEGABYTES)
        make_log(plain / "mail.log", megabytes)
        log, gz = plain / "mail.log", packed / "mail.log.1.gz"
        with gz.open("wb") as file:
            subprocess.run(["gzip", "-1c", log], stdout=file, check=True)
        lines = int(timed("wc", "-l", str(log))[1].split()[0])
        print(f"{log.stat().st_size / 1e6:,.0f} MB, {lines:,} lines; {gz.stat().st_size / 1e6:,.0f} MB as .gz\n")

        me = (sys.executable, __file__, "judge")
        grep_s, _ = timed("env", "LC_ALL=C", "grep", "-c", "-E", PATTERN, str(log))
        zcat_s, _ = timed("sh", "-c", 'zcat "$1" | wc -c', "sh", str(gz))
        runs = {f"judged, {SMALL_MEGABYTES} MB": small, f"judged, {megabytes:,} MB": plain, "judged, .gz": packed}
        print(f"{'':<20}{'CPU s':>9}{'of grep':>9}{'of zcat':>9}{'lines/s':>12}{'of those read':>15}{'peak MB':>9}")
        print(f"{'grep -c':<20}{grep_s:>9.1f}{1:>9.1f}{grep_s / zcat_s:>9.1f}{lines / grep_s:>12,.0f}")
        print(f"{'zcat':<20}{zcat_s:>9.1f}{zcat_s / grep_s:>9.1f}{1:>9.1f}{lines / zcat_s:>12,.0f}")
        for name, directory in runs.items():
            seconds, printed = timed(*me, str(directory))
            found = json.loads(printed)
            share = SMALL_MEGABYTES / megabytes if directory is small else 1
            print(
                f"{name:<20}{seconds:>9.1f}{seconds / grep_s / share:>9.1f}{seconds / zcat_s / share:>9.1f}"
                f"{lines * share / seconds:>12,.0f}{found['lines'] / seconds:>15,.0f}{found['peak_kb'] / 1024:>9.0f}"
            )
        print(f"\n{found['lines']:,} lines read, {found['messages']:,} messages, {found['refused']:,} would be refused")


if __name__ == "__main__":
    if sys.argv[1:2] == ["judge"]:
        judge(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
