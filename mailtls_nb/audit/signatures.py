"""Checking the signatures of records with nothing but OpenSSH: ``ssh-keygen -Y verify`` and allowed_signers."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.audit.signing import NAMESPACE, quiet_environment
from mailtls_nb.errors import MailTLSError, NotReady, SetUpError

_FINGERPRINT = re.compile(rb"with \S+ key (SHA256:[A-Za-z0-9+/]{43})")
_TIMEOUT_S = 30.0


class BadSignature(MailTLSError):
    """A signature that does not hold; ``what`` says why."""


@dataclass(frozen=True)
class Signers:
    """Whose signatures count: OpenSSH's allowed_signers file and, where there is one, the keys revoked (ssh-keygen(1)).

    OpenSSH before 8.5 knows no ``valid-after`` and ``valid-before`` in that file, and refuses a key that has one.
    """

    allowed: Path
    revoked: Path | None = None


@dataclass(frozen=True)
class Signer:
    """Who signed, by the allowed_signers file, and with which key."""

    principal: str
    fingerprint: str


def check(data: bytes, signature: bytes, signers: Signers, *, at: str) -> Signer:
    """Who signed the data, by a key that counted at the time ``at`` (RFC 3339, UTC); raises BadSignature.

    Raises NotReady where a list of the signers cannot be read: that says nothing about the signature.
    """
    for listed in (signers.allowed, signers.revoked):
        if listed is not None:
            _see_readable(listed)
    when = ("-O", "verify-time=" + re.sub(r"\D", "", at))
    with _in_file(signature) as file:
        found = _ssh_keygen(b"", "find-principals", "-f", str(signers.allowed), "-s", file, *when)
        principals = found.stdout.decode("utf-8", "replace").splitlines()
        if found.returncode != 0 or not principals:
            fingerprint = check_whole(data, signature)
            raise BadSignature(f"it is of the key {fingerprint}, which {signers.allowed} does not allow at that time")
        revoked = ("-r", str(signers.revoked)) if signers.revoked else ()
        for principal in principals:
            who = ("-f", str(signers.allowed), "-I", principal, "-n", NAMESPACE, "-s", file, *when)
            done = _ssh_keygen(data, "verify", *who, *revoked)
            match = _FINGERPRINT.search(done.stdout)
            if done.returncode == 0 and match:
                return Signer(principal, match[1].decode())
        # ssh-keygen does not say why. The signature itself may be whole.
        fingerprint = check_whole(data, signature)
        if revoked and _ssh_keygen(data, "verify", *who).returncode == 0:
            why = f"{signers.revoked} revokes, unless that is no list of keys"
        else:
            why = f"{signers.allowed} does not allow for records"
    raise BadSignature(f"it is of the key {fingerprint}, which {why}")


def check_whole(data: bytes, signature: bytes) -> str:
    """The fingerprint of the key that signed the data, whosever it is; raises BadSignature."""
    with _in_file(signature) as file:
        done = _ssh_keygen(data, "check-novalidate", "-n", NAMESPACE, "-s", file)
    match = _FINGERPRINT.search(done.stdout)
    if done.returncode != 0 or match is None:
        raise BadSignature(_reason(done))
    return match[1].decode()


def _see_readable(listed: Path) -> None:
    try:
        with listed.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise NotReady(
            f"{listed} cannot be read, so nobody can say whose signature counts: {error.strerror}",
            do="give a file of allowed signers, and of revoked keys where there are any, that can be read",
        ) from None


@contextmanager
def _in_file(signature: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="mailtls-nb-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        yield file.name


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"it does not hold: {said[-1].strip()}" if said else "it does not hold"


def _ssh_keygen(data: bytes, what: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    argv = ["ssh-keygen", "-Y", what, *options]
    try:
        return subprocess.run(
            argv, input=data, capture_output=True, timeout=_TIMEOUT_S, env=quiet_environment(), check=False
        )
    except FileNotFoundError:
        raise SetUpError(
            "ssh-keygen is not installed", do="install OpenSSH's client (Debian: openssh-client)"
        ) from None
    except subprocess.TimeoutExpired:
        raise BadSignature(f"ssh-keygen did not judge it within {_TIMEOUT_S:g} s") from None
