"""`make bench`: large CA directories; time and peak memory beside those of openssl and wc on the same files.

Everything is made on the fly and removed at the end, and measured in one run, so that the ratios mean something on any
machine. `python tests/bench/ca_directory.py [ROWS]`
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PASSPHRASE = "for the bench only"
REVOKED_ROWS = 100_000
TO_REVOKE = 1_000
WORK = Path(__file__).with_name("ca_directory_work.py")


class Table:
    """Processor time and peak memory of each command, and the ratio to a reference."""

    def __init__(self, title: str) -> None:
        self.reference = 0.0
        print(f"\n{title}\n{'':<44}{'CPU s':>8}{'ratio':>8}{'peak MB':>9}")

    def run(self, name: str, *argv: str | Path, is_reference: bool = False) -> None:
        child = subprocess.Popen(
            [str(arg) for arg in argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            printed = child.stdout.read().strip()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = used.ru_utime + used.ru_stime
        if is_reference:
            self.reference = seconds
        ratio = f"{seconds / self.reference:>8.1f}" if self.reference else f"{'':>8}"
        said = printed.splitlines()[-1][:60] if printed else ""
        print(f"{name:<44}{seconds:>8.2f}{ratio}{used.ru_maxrss / 1024:>9.0f}  {said}", flush=True)


def main(count: int) -> None:
    me = (sys.executable, WORK)
    os.environ["PASS"] = PASSPHRASE
    with tempfile.TemporaryDirectory(prefix="mailtls-nb-bench-") as base:
        ca = Path(base) / "revoked"
        openssl = ("openssl", "ca", "-config", ca / "openssl.cnf", "-passin", "env:PASS")
        subprocess.run([*me, "make", ca, f"{REVOKED_ROWS}", f"{REVOKED_ROWS - TO_REVOKE}", "0"], check=True)
        table = Table(f"{REVOKED_ROWS:,} rows, all but {TO_REVOKE:,} of them revoked")
        crl = Path(base) / "theirs.pem"
        table.run("openssl ca -gencrl", *openssl, "-gencrl", "-out", crl, is_reference=True)
        table.run("a CRL of it", *me, "crl", ca)
        table.run(f"{TO_REVOKE:,} revoked, and a CRL of all", *me, "revoke", ca)
        table.run("openssl ca -gencrl, of all", *openssl, "-gencrl", "-out", crl)

        ca = Path(base) / "large"
        openssl = ("openssl", "ca", "-config", ca / "openssl.cnf", "-passin", "env:PASS")
        subprocess.run([*me, "make", ca, f"{count}", f"{count // 10}", "1"], check=True)
        megabytes = (ca / "index.txt").stat().st_size / 1e6
        table = Table(f"{count:,} rows, {megabytes:,.0f} MB, a file in newcerts for each")
        with (ca / "index.txt").open() as index:
            serial = index.readline().split("\t")[3]
        table.run("openssl ca -status", *openssl, "-status", serial, is_reference=True)
        table.run("wc -l", "wc", "-l", ca / "index.txt")
        table.run("python, the index opened and nothing read", *me, "nothing", ca)
        table.run("listed", *me, "list", ca)
        table.run("linted", *me, "lint", ca)
        table.run("linted before something is signed", *me, "look", ca)
        (ca / "index.txt.attr").write_text("unique_subject = yes\n")
        table.run("linted, subjects being unique", *me, "lint", ca)
        table.run("openssl ca -updatedb", *openssl, "-updatedb")
        table.run("the expired marked, 100 days later", *me, "update", ca)
        print("\n(files are being removed)", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
