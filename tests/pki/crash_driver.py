"""Runs a create, issue, revocation or succession in a child killed at its Nth write, and prints how many there are.

Usage: crash_driver.py create|issue|revoke|replace DIR [SEED]  (the passphrase on standard input). For every write point
children are forked: killed before it, after it, and half-way through where it writes bytes. After each the parent opens
the directory and checks it; what is wrong is printed, exit status 1.
With SEED: ten children that work on and on, each killed at a random moment.

Only this process's own system calls are replaced: the code under test knows nothing of it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki import cross_signing, revoking, succession
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.lint import lint
from mailtls_nb.pki.profiles import key_type
from mailtls_nb.pki.revocation import Revocation
from mailtls_nb.secret import Secret

WRITES = ("open", "write", "pwrite", "fsync", "rename", "unlink", "mkdir", "rmdir", "chmod", "fchmod", "ftruncate")
PUBLIC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
PASSPHRASE = Secret(sys.stdin.buffer.read())
NAME = DistinguishedName("Example Mail CA")


def create(path: Path) -> None:
    settings = {"valid_days": 3650, "passphrase": PASSPHRASE, "now": datetime.now(UTC)}
    CADirectory.create(path, NAME, key_type("ec-p256", use="ca"), **settings)  # type: ignore[arg-type]


def issue(path: Path) -> None:
    CADirectory.open(path).issue(
        PUBLIC_KEY, ("relay.example.test",), roles="both", valid_days=30, passphrase=PASSPHRASE, now=datetime.now(UTC)
    )


def revoke(path: Path) -> None:
    """Revoke the newest certificate and sign a CRL; once more, where that was done or cut short."""
    ca, now = CADirectory.open(path), datetime.now(UTC)
    change = IndexChange(revoke={newest(path): Revocation.of(now, "superseded")})
    revoking.sign_new_crl(ca, days=30, passphrase=PASSPHRASE, now=now, change=change)


def newest(path: Path) -> int:
    return int((path / "index.txt").read_bytes().splitlines()[-1].split(b"\t")[3], 16)


def next_to(path: Path) -> Path:
    return path.with_name(f"{path.name}-next")


def replace(path: Path) -> None:
    """What 09 does with the directories of two CAs, from making the new one to the old one's withdrawal."""
    old, now = CADirectory.open(path), datetime.now(UTC)
    settings = {"valid_days": 3650, "passphrase": PASSPHRASE, "now": now}
    name = DistinguishedName("Example Mail CA 2")
    new = CADirectory.create(next_to(path), name, key_type("ec-p256", use="ca"), **settings)  # type: ignore[arg-type]
    cross_signing.cross_sign(old, new, passphrase=PASSPHRASE, now=now)
    succession.write_predecessor(new.layout, path)
    for stage in ("both", "reissue", "withdrawn"):
        succession.write_successor(old.layout, succession.Succession(new.path, stage))


def check_replace(path: Path) -> list[str]:
    """Each directory is there whole or not at all; once more completes it; openssl agrees with the cross-signing."""
    found = [problem.sentence for problem in lint(CADirectory.open(path).layout, now=datetime.now(UTC))]
    if next_to(path).exists():
        CADirectory.open(next_to(path))
    replace(path)
    old, new = CADirectory.open(path), CADirectory.open(next_to(path))
    for ca in (old, new):
        found += [problem.sentence for problem in lint(ca.layout, now=datetime.now(UTC))]
    if succession.signing_directory(path, once="withdrawn") != new.path:
        found.append("the new CA has not taken over")
    if list(succession.predecessors(new.path)) != [path]:
        found.append("the new CA does not know the old one")
    crossed = [row for row in (path / "index.txt").read_text().splitlines() if row.endswith("/CN=Example Mail CA 2")]
    if len(crossed) != 1:
        found.append(f"the new CA was certified {len(crossed)} times")
    verify = ("verify", "-x509_strict", "-CAfile", path / "cacert.pem", new.path / "cross-signed.pem")
    if not openssl(*verify).strip().endswith(": OK"):
        found.append("the cross-signed certificate does not verify by the old CA")
    if extra := [p.name for p in path.parent.iterdir() if p not in (path, next_to(path), Path(f"{path}-first"))]:
        found.append(f"left over beside it: {extra}")
    # Back to the beginning.
    shutil.rmtree(next_to(path))
    shutil.rmtree(path)
    shutil.copytree(f"{path}-first", path)
    return found


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    """Counts the write points of this process and ends it at one of them."""

    def __init__(self, at: int, when: str) -> None:
        self.at, self.when = at, when
        self.seen: list[str] = []
        for name in WRITES:
            setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **others: object) -> object:
            if name == "open" and not int(args[1]) & os.O_CREAT:  # type: ignore[call-overload]
                return real(*args, **others)
            self.seen.append(name)
            if len(self.seen) != self.at:
                return real(*args, **others)
            if self.when == "before":
                die()
            if self.when == "half-way":
                data = bytes(args[1])  # type: ignore[call-overload]
                args = (args[0], data[: len(data) // 2], *args[2:])
            try:
                return real(*args, **others)
            finally:
                die()

        return call


def in_child(work: Callable[[], None]) -> int:
    """The wait status of a child that did the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def write_points(work: Callable[[], None]) -> list[str]:
    """The system calls that write, in their order, of a run that is not killed."""
    read_end, write_end = os.pipe()
    real_write = os.write

    def counted() -> None:
        killer = Killer(0, "never")
        work()
        real_write(write_end, " ".join(killer.seen).encode())

    assert in_child(counted) == 0
    return os.read(read_end, 65536).decode().split()


def killed_work(work: Callable[[], None], at: int, when: str) -> Callable[[], None]:
    def run() -> None:
        Killer(at, when)
        work()

    return run


def problems(path: Path) -> list[str]:
    """What is not sound in the directory, seen without the code under test, after it was opened."""
    found = []
    lines = (path / "index.txt").read_bytes().split(b"\n")
    if lines.pop() != b"":
        found.append("the index ends without LF")
    rows = [line.split(b"\t") for line in lines]
    found += [f"row {row!r}" for row in rows if len(row) != 6 or row[5] != b"/CN=relay.example.test"]
    serials = [row[3].decode() for row in rows if len(row) == 6]
    if len(set(serials)) != len(serials):
        found.append("a serial has two rows")
    files = {p.name for p in (path / "newcerts").iterdir()}
    if files != {f"{serial}.pem" for serial in serials}:
        found.append(f"newcerts has {files}, the index {serials}")
    for name in files:
        x509.load_pem_x509_certificate((path / "newcerts" / name).read_bytes())
    expected = {"cacert.pem", "crl", "crlnumber", "index.txt", "index.txt.attr", "newcerts", "openssl.cnf", "private"}
    extra = {p.name for p in path.iterdir()} - expected - {"serial", "crl.pem", ".mailtls-nb.lock"}
    if extra:
        found.append(f"left over: {extra}")
    return found


def check_issue(path: Path) -> list[str]:
    CADirectory.open(path)
    return problems(path)


def check_create(path: Path) -> list[str]:
    """Nothing or all of it is there; the next creation makes it, and removes what was left."""
    if path.exists():
        CADirectory.open(path)
    create(path)
    found = problems(path)
    if extra := [p.name for p in path.parent.iterdir() if p != path]:
        found.append(f"left over beside it: {extra}")
    shutil.rmtree(path)
    return found


class CheckRevoke:
    """Sound after it was opened; once more completes it; openssl agrees; no number of a CRL is given twice."""

    def __init__(self) -> None:
        self.number, self.crl = 0, b""

    def __call__(self, path: Path) -> list[str]:
        if not (path / "index.txt").read_bytes():
            return []
        ca = CADirectory.open(path)
        found = problems(path) + self.number_problems(path)
        found += [problem.sentence for problem in lint(ca.layout, now=datetime.now(UTC))]
        revoke(path)
        found += problems(path) + self.number_problems(path)
        serial = f"{newest(path):X}"
        serial = serial if len(serial) % 2 == 0 else f"0{serial}"
        if f"{serial}=Revoked" not in openssl("ca", "-config", path / "openssl.cnf", "-status", serial):
            found.append(f"{serial} is not revoked by the index")
        crl, ca_file = path / "crl.pem", path / "cacert.pem"
        if "verify OK" not in openssl("crl", "-in", crl, "-CAfile", ca_file, "-noout"):
            found.append("the CRL is not the CA's")
        of_crl = ("verify", "-crl_check", "-CRLfile", crl, "-CAfile", ca_file, path / "newcerts" / f"{serial}.pem")
        if "certificate revoked" not in openssl(*of_crl):
            found.append(f"{serial} is not revoked by the CRL")
        return found

    def number_problems(self, path: Path) -> list[str]:
        if not (path / "crl.pem").exists():
            return []
        crl = (path / "crl.pem").read_bytes()
        number = int(openssl("crl", "-in", path / "crl.pem", "-noout", "-crlnumber").rpartition("=")[2], 16)
        wrong = number < self.number or (number == self.number and crl != self.crl)
        before, self.number, self.crl = self.number, number, crl
        return [f"the CRL has the number {number}, after {before}"] if wrong else []


def openssl(*argv: str | Path) -> str:
    done = subprocess.run(["openssl", *argv], capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def issue_on_and_on(path: Path) -> None:
    while True:
        issue(path)


def replace_and_wait(path: Path) -> None:
    replace(path)
    time.sleep(60)


def revoke_on_and_on(path: Path) -> None:
    while True:
        issue(path)
        revoke(path)


def main() -> int:
    what, path = sys.argv[1], Path(sys.argv[2])
    jobs: dict[str, tuple[Callable[[Path], None], Callable[[Path], list[str]]]] = {
        "create": (create, check_create),
        "issue": (issue, check_issue),
        "revoke": (revoke, CheckRevoke()),
        "replace": (replace, check_replace),
    }
    work, check = jobs[what]
    if what != "create":
        create(path)
        shutil.copytree(path, f"{path}-first")
    on_and_on = {"issue": issue_on_and_on, "revoke": revoke_on_and_on, "replace": replace_and_wait}
    wrong = []
    killed = 0
    if len(sys.argv) > 3:
        seeded = random.Random(int(sys.argv[3]))
        for _ in range(10):
            child = os.fork()
            if child == 0:
                on_and_on[what](path)
            time.sleep(seeded.uniform(0, 0.15))
            os.kill(child, signal.SIGKILL)
            killed += os.waitpid(child, 0)[1] == signal.SIGKILL
            wrong += check(path)
        print(f"killed {killed}")
        print(*wrong, sep="\n")
        return bool(wrong)
    if what == "revoke":
        issue(path)
    points = write_points(lambda: work(path))
    wrong += check(path)
    moments = [(at, when) for at in range(1, len(points) + 1) for when in ("before", "after")]
    moments += [(at, "half-way") for at, name in enumerate(points, start=1) if "write" in name]
    for at, when in moments:
        if what == "revoke":
            issue(path)
        killed += in_child(killed_work(lambda: work(path), at, when)) == signal.SIGKILL
        try:
            wrong += [f"{when} write point {at}: {problem}" for problem in check(path)]
        except CADirectoryError as error:
            wrong.append(f"{when} write point {at}: {error}")
    print(f"points {len(points)} moments {len(moments)} killed {killed}")
    print(*wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
