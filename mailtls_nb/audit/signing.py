"""Signing a record with the operator's own SSH key, as ``ssh-keygen -Y sign`` does it (OpenSSH's PROTOCOL.sshsig).

The key may be a file, or in ssh-agent, on a security key among them. A run may be a cron job, so nothing here asks for
a passphrase, and nothing waits for ever: where there is no signature, the record says why.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.errors import BadParameter, MailTLSError
from mailtls_nb.interruption import one_interruption

NAMESPACE = "mailtls-nb-audit"
# The path of a key, or NO_KEY.
KEY_VARIABLE = "MAILTLS_SIGNING_KEY"
NO_KEY = "none"
# What a person gets to touch a security key.
_TOUCH_S = 60.0
_ANSWER_S = 15.0

# Where people have their keys (ssh-keygen(1), FILES), those that nobody has to be there for first.
_OWN_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_FINGERPRINT = re.compile(r"\d+ (SHA256:[A-Za-z0-9+/]{43}) .*\((\S+)\)")
# What ssh-keygen says, and what that means.
_REASONS = (
    ("incorrect passphrase", "has a passphrase and is not in ssh-agent: ssh-add it, or give a key without one"),
    ("are too open", "can be read by others, so ssh-keygen does not use it: chmod 600"),
    ("agent refused", "was refused by ssh-agent: it is locked, or nobody confirmed or touched the key"),
    ("communication with agent failed", "is in an ssh-agent that does not answer"),
    ("No private key found", "is a public key whose private half is not in ssh-agent"),
    ("unknown option", "needs OpenSSH 8.1 or newer to sign"),
    ("illegal option", "needs OpenSSH 8.1 or newer to sign"),
)


class NoSignature(MailTLSError):
    """There is no signature; ``what`` says why in a sentence fit for the record."""


@dataclass(frozen=True)
class SigningKey:
    """A key to sign with: what ``ssh-keygen -Y sign -f`` is given, its fingerprint, and where it was found."""

    path: str
    fingerprint: str
    source: str
    on_security_key: bool = False


@contextmanager
def signing_key() -> Iterator[SigningKey]:
    """The key that signs here: $MAILTLS_SIGNING_KEY, else the first in ssh-agent, else one of ~/.ssh.

    Of those in ~/.ssh it is the first that has no passphrase. $MAILTLS_SIGNING_KEY is the path of a private key, or of
    a public one whose private half is in ssh-agent, or ``none``. Certificates in the agent are passed over: what is
    signed is vouched for by a key. Raises NoSignature.
    """
    named = os.environ.get(KEY_VARIABLE, "")
    if named == NO_KEY:
        raise NoSignature(f"{KEY_VARIABLE} is {NO_KEY}")
    if named:
        yield _key_at(Path(named), named)
        return
    offered = _in_agent()
    if offered:
        with tempfile.TemporaryDirectory(prefix="mailtls-nb-") as directory:
            public = Path(directory) / "key.pub"
            public.write_text(f"{offered}\n", encoding="utf-8")
            yield _key_at(public, "ssh-agent")
        return
    own = [path for name in _OWN_KEYS if (path := Path.home() / ".ssh" / name).is_file()]
    for path in own:
        # With an empty passphrase: whether it needs one.
        if _run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], b"", _ANSWER_S).returncode == 0:
            yield _key_at(path, str(path))
            return
    there = "those in ~/.ssh have passphrases, or cannot be used" if own else "none is in ~/.ssh"
    raise NoSignature(f"there is no key: {KEY_VARIABLE} is not set, ssh-agent offers none, and {there}")


def check_choice() -> None:
    """See that $MAILTLS_SIGNING_KEY, where it is set, names a key; raises BadParameter before a run begins."""
    named = os.environ.get(KEY_VARIABLE, "")
    if named in ("", NO_KEY):
        return
    try:
        _key_at(Path(named), named)
    except NoSignature as error:
        raise BadParameter(
            KEY_VARIABLE, error.what, do=f"give the path of a key, or {NO_KEY}: records stay unsigned then"
        ) from error


def sign(data: bytes, key: SigningKey, *, timeout_s: float = _TOUCH_S) -> bytes:
    """The armored signature of the data; raises NoSignature, also when it is interrupted."""
    if key.on_security_key and sys.stderr.isatty():
        print(f"touch the security key to sign the record ({timeout_s:g} s)", file=sys.stderr)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key.path]
    try:
        with one_interruption():
            done = _run(argv, data, timeout_s, ": was the security key touched?" if key.on_security_key else "")
    except KeyboardInterrupt:
        raise NoSignature("signing was interrupted") from None
    if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        printed = done.stderr.decode("utf-8", "replace").strip()
        reason = next((said for text, said in _REASONS if text.lower() in printed.lower()), None)
        last = (printed.splitlines() or ["it gave no signature"])[-1]
        raise NoSignature(f"the key {key.source} {reason}" if reason else f"the key {key.source}: {last}")
    return done.stdout


def _key_at(path: Path, source: str) -> SigningKey:
    if not path.is_absolute():
        raise NoSignature(f"the key {source} is not given by its whole path")
    try:
        there = path.is_file()
    except OSError as error:
        raise NoSignature(f"the key {source} cannot be looked at: {error.strerror}") from None
    if not there:
        raise NoSignature(f"the key {source} is not there")
    done = _run(["ssh-keygen", "-l", "-f", str(path)], b"", _ANSWER_S)
    match = _FINGERPRINT.fullmatch(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode != 0 or match is None:
        raise NoSignature(f"the key {source} cannot be read: it is no key of OpenSSH's, or not yours to read")
    if match[2].endswith("-CERT"):
        raise NoSignature(f"the key {source} is a certificate: give the key itself")
    return SigningKey(str(path), match[1], source, match[2].endswith("-SK"))


def _in_agent() -> str:
    """The first public key that ssh-agent offers, or nothing."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return ""
    try:
        done = _run(["ssh-add", "-L"], b"", _ANSWER_S)
    except NoSignature:
        return ""
    if done.returncode != 0:
        return ""
    keys = done.stdout.decode("utf-8", "replace").splitlines()
    return next((key for key in keys if "-cert-v01@" not in key.partition(" ")[0]), "")


def _run(argv: Sequence[str], data: bytes, timeout_s: float, perhaps: str = "") -> subprocess.CompletedProcess[bytes]:
    """A program's end; where it is not waited for, whatever it started (ssh-sk-helper) ends with it."""
    pipe = subprocess.PIPE
    try:
        # A session of its own has no terminal to ask on.
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, env=quiet_environment(), start_new_session=True
        ) as process:
            try:
                printed, said = process.communicate(data, timeout=timeout_s)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    except FileNotFoundError:
        raise NoSignature(f"{argv[0]} is not installed: it comes with OpenSSH") from None
    except subprocess.TimeoutExpired:
        raise NoSignature(f"{argv[0]} did not answer within {timeout_s:g} s{perhaps}") from None
    return subprocess.CompletedProcess(argv, process.returncode, printed, said)


def quiet_environment() -> Mapping[str, str]:
    """The environment for OpenSSH's programs: they ask nobody, speak English, and count time in UTC.

    Left to itself, ssh-keygen without a terminal takes the first line of what it is to sign for the passphrase, and
    where it is, signs the rest. So it has a program to ask that has no answer (before 8.4: only where DISPLAY is set).
    """
    kept = {name: value for name, value in os.environ.items() if name not in {"LANGUAGE", "WAYLAND_DISPLAY"}}
    no_answer = {"SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
    return {**kept, **no_answer, "LC_ALL": "C", "TZ": "UTC"}
