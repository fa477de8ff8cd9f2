"""`make bench`: an audit folder with many signed records; time and memory of `audit verify` beside those of sha256sum.

The folder is made on the fly, with files as large as those of real runs, and removed at the end.
`python -m tests.bench.audit_trail [RECORDS]`
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from mailtls_nb import record
from mailtls_nb.audit.chain import START, Entry, digest_of
from mailtls_nb.audit.signing import NAMESPACE
from tests.bench.ca_directory import Table

# In octets, as runs of the demo leave them.
SIZES = {"notebook.ipynb": 60_000, "notebook.html": 60_000, "commands.jsonl": 90_000}
CLAIMS = 25


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Key:
    """Signs as `ssh-keygen -Y sign` does (PROTOCOL.sshsig), without its start for each of ten thousand."""

    def __init__(self, path: Path) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
        key = load_ssh_private_key(path.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self._key = key
        self.public = path.with_suffix(".pub").read_text().strip()
        self.blob = base64.b64decode(self.public.split()[1])
        self.fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def sign(self, data: bytes) -> bytes:
        common = string(NAMESPACE.encode()) + string(b"") + string(b"sha512")
        signed = self._key.sign(b"SSHSIG" + common + string(hashlib.sha512(data).digest()))
        signature = string(string(b"ssh-ed25519") + string(signed))
        whole = b"SSHSIG" + (1).to_bytes(4, "big") + string(self.blob) + common + signature
        text = "\n".join(textwrap.wrap(base64.b64encode(whole).decode(), 70))
        return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n".encode()


def make(audit_dir: Path, key: Key, count: int) -> None:
    """An audit folder with ``count`` signed runs."""
    lines: list[bytes] = []
    last: str | None = None

    def add(entry: Entry) -> None:
        lines.append(entry.as_line())

    content = {name: os.urandom(size * 3 // 4).hex()[:size].encode() for name, size in SIZES.items()}
    claim = {"claim": "x" * 60, "expected": "y" * 40, "observed": "y" * 40, "holds": True, "proof": "live"}
    claims = [{**claim, "instrument": "z" * 60, "negative": False, "fails_when": "w" * 60}] * CLAIMS
    for number in range(count):
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        begun = record.begin(
            runbook=record.RunbookSource("07-check-host", "0" * 64),
            parameters={"host": "local"},
            operator=record.Operator("ops"),
            started=started,
        )
        run = f"{started:%Y%m%dT%H%M%SZ}-07-check-host-local"
        common = {
            "run": run,
            "runbook": "07-check-host",
            "hosts": ("local",),
            "operator": "ops",
            "begun": begun.started,
        }
        n, previous = len(lines) + 1, digest_of(lines[-1]) if lines else START
        add(Entry(n=n, what="begun", record="0" * 64, previous=previous, **common))  # type: ignore[arg-type]
        folder = audit_dir / run
        folder.mkdir(parents=True)
        for name, data in content.items():
            (folder / name).write_bytes(data + str(number).encode())
        ended = record.finish(
            begun,
            ended=started,
            outcome="unchanged",
            claims=claims,
            hosts={"local": {}},
            subject=record.subjects(folder),
        )
        before = record.Previous(n, digest_of(lines[-1]), last)
        ended = replace(ended, previous=before, sealed=True, signed_by=key.fingerprint, unsigned_because="")
        data = ended.as_bytes() if number == 0 else as_bytes_unchecked(ended)
        signature = key.sign(data)
        (folder / record.FILE_NAME).write_bytes(data)
        (folder / record.SIGNATURE_NAME).write_bytes(signature)
        last = digest_of(data)
        add(
            Entry(
                n=n + 1,
                what="ended",
                record=last,
                previous=before.entry,
                ended=begun.started,
                outcome="unchanged",
                signature=digest_of(signature),
                signed_by=key.fingerprint,
                **common,  # type: ignore[arg-type]
            )
        )
    (audit_dir / "log.jsonl").write_bytes(b"".join(lines))


def as_bytes_unchecked(ended: record.Record) -> bytes:
    """As ``as_bytes``; that the first one is of its schema is enough here."""
    return record.in_json(ended.as_statement())


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="mailtls-nb-bench-") as base:
        key = Key(Path(base) / "key")
        signers = Path(base) / "allowed_signers"
        signers.write_text(f"ops@mx {key.public}\n")
        audit_dir = Path(base) / "audit"
        make(audit_dir, key, count)
        files = Path(base) / "files"
        listed = sorted(str(path) for path in audit_dir.rglob("*") if path.is_file())
        files.write_text("".join(f"{path}\0" for path in listed))
        megabytes = sum(Path(path).stat().st_size for path in listed) / 1e6
        table = Table(f"{count:,} signed records, {len(listed):,} files, {megabytes:,.0f} MB")
        everything = ("xargs", "-0", "-a", files)
        # Once for the file system's cache, so that all find it full.
        subprocess.run(["xargs", "-0", "-a", files, "cat"], stdout=subprocess.DEVNULL, check=True)
        table.run("sha256sum of all files", *everything, "sha256sum", is_reference=True)
        table.run("openssl dgst -sha256 of all files", *everything, "openssl", "dgst", "-sha256", "-r")
        command = (sys.executable, "-m", "mailtls_nb.cli", "audit")
        table.run("mailtls-nb audit head", *command, "head", audit_dir)
        table.run("mailtls-nb audit verify", *command, "verify", audit_dir, "--allowed-signers", signers)
        table.run("mailtls-nb audit index", *command, "index", audit_dir)
        if count <= 2_000:
            table.run(
                "mailtls-nb audit verify --every",
                *command,
                "verify",
                audit_dir,
                "--allowed-signers",
                signers,
                "--every",
            )
        print("\n(files are being removed)", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
