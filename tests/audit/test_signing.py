"""Signing with the operator's key, and checking, against the real ssh-keygen, ssh-agent and ssh-add."""

from __future__ import annotations

import base64
import fcntl
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mailtls_nb.audit import signing
from mailtls_nb.audit.signatures import BadSignature, Signer, Signers, check, check_whole
from mailtls_nb.audit.signing import (
    NAMESPACE,
    NoSignature,
    SigningKey,
    check_choice,
    sign,
    signing_key,
)
from mailtls_nb.errors import BadParameter, NotReady
from tests.audit.agents import USER_PRESENT, Kind, RealAgent, SecurityKeyAgent, SoftwareSecurityKey, real_agent
from tests.audit.trail import allow, make_key

DATA = b'{\n  "a record": "of a run"\n}\n'
AT = "2026-11-01T12:00:00Z"
PASSPHRASE = "a passphrase"
# Longer than anything here takes, and no test waits so long that does not fail.
SOON_S = 20.0


def sign_it(data: bytes = DATA, *, timeout_s: float = SOON_S) -> bytes:
    """A signature by the key that is chosen here."""
    with signing_key() as key:
        return sign(data, key, timeout_s=timeout_s)


def chosen() -> SigningKey:
    with signing_key() as key:
        return key


def why_not(*, timeout_s: float = SOON_S) -> str:
    """Why there is no signature."""
    with pytest.raises(NoSignature) as caught:
        sign_it(timeout_s=timeout_s)
    return caught.value.what


def fingerprint(key: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def openssh_accepts(signature: bytes, signers: Path, folder: Path, who: str = "ops@mx", data: bytes = DATA) -> bool:
    """Whether ``ssh-keygen -Y verify`` takes the signature, as anybody would ask it."""
    (folder / "asked.sig").write_bytes(signature)
    argv = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", who, "-n", "mailtls-nb-audit"]
    done = subprocess.run([*argv, "-s", str(folder / "asked.sig")], input=data, capture_output=True, check=False)
    assert done.returncode in (0, 255), done.stderr
    return done.returncode == 0


def with_passphrase(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-C", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a socket (107 bytes)."""
    folder = tempfile.mkdtemp(dir="/tmp", prefix="nb-")
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
def agent(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealAgent]:
    """OpenSSH's ssh-agent, running and empty."""
    with real_agent(short) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        yield agent


@pytest.fixture
def security_key(short: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecurityKeyAgent]:
    """An agent with a security key."""
    agent = SecurityKeyAgent(short / "sk")
    with agent.running():
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.path))
        yield agent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """~/.ssh, empty."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(mode=0o700)
    return folder


# Keys in files


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_in_a_file_signs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path / "ops", kind)
    signers = allow(tmp_path / "allowed_signers", **{"ops@mx": key})
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))

    check_choice()
    signature = sign_it()

    assert openssh_accepts(signature, signers, tmp_path)
    assert not openssh_accepts(signature, signers, tmp_path, data=DATA + b" ")
    assert check(DATA, signature, Signers(signers), at=AT) == Signer("ops@mx", fingerprint(key))
    assert check_whole(DATA, signature) == fingerprint(key)
    assert chosen() == SigningKey(str(key), fingerprint(key), str(key))


# The choice


def test_none_is_a_choice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_key(home / "id_ed25519")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", "none")
    check_choice()
    assert why_not() == "MAILTLS_SIGNING_KEY is none"


def _missing(path: Path) -> str:
    return str(path)


def _relative(path: Path) -> str:
    make_key(path)
    os.chdir(path.parent)
    return path.name


def _no_key(path: Path) -> str:
    path.write_text("this is no key\n")
    return str(path)


def _folder(path: Path) -> str:
    path.mkdir()
    return str(path)


def _too_long(path: Path) -> str:
    return str(path) * 100


def _certificate(path: Path) -> str:
    return str(certified(path, path.with_name("ca")))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (_missing, "the key {} is not there"),
        (_folder, "the key {} is not there"),
        (_too_long, "the key {} cannot be looked at: File name too long"),
        (_relative, "the key {} is not given by its whole path"),
        (_no_key, "the key {} cannot be read: it is no key of OpenSSH's, or not yours to read"),
        (_certificate, "the key {} is a certificate: give the key itself"),
    ],
)
def test_a_bad_choice_is_told_before_a_run_and_after(
    name: Callable[[Path], str], what: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # and back, where a case goes elsewhere
    make_key(home / "id_ed25519")  # never signs in place of the one that was asked for
    named = name(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", named)

    assert why_not() == what.format(named)
    with pytest.raises(BadParameter) as caught:
        check_choice()
    assert caught.value.parameter == "MAILTLS_SIGNING_KEY"
    assert caught.value.problem == what.format(named)


def test_without_a_choice_there_is_nothing_to_check() -> None:
    check_choice()


def test_without_any_key_the_record_says_so() -> None:
    assert why_not() == (
        "there is no key: MAILTLS_SIGNING_KEY is not set, ssh-agent offers none, and none is in ~/.ssh"
    )


def test_the_chosen_key_comes_before_the_agents(
    agent: RealAgent, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_agent, own, named = make_key(tmp_path / "a"), make_key(home / "id_ed25519"), make_key(tmp_path / "n")
    agent.add(in_agent)
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(named))
    assert check_whole(DATA, sign_it()) == fingerprint(named)

    monkeypatch.delenv("MAILTLS_SIGNING_KEY")
    assert check_whole(DATA, sign_it()) == fingerprint(in_agent)

    agent.forget(in_agent)
    assert check_whole(DATA, sign_it()) == fingerprint(own)
    assert chosen().source == str(own)


def test_of_the_agents_keys_the_first_signs(agent: RealAgent, tmp_path: Path) -> None:
    first, second = make_key(tmp_path / "first"), make_key(tmp_path / "second", "ecdsa")
    agent.add(first)
    agent.add(second)
    assert chosen().source == "ssh-agent"
    assert check_whole(DATA, sign_it()) == fingerprint(first)


def certified(key: Path, ca: Path) -> Path:
    """A key, and its certificate beside it: the certificate's path."""
    make_key(key)
    make_key(ca)
    subprocess.run(["ssh-keygen", "-q", "-s", str(ca), "-I", "id", "-n", "ops", f"{key}.pub"], check=True)
    return key.with_name(f"{key.name}-cert.pub")


def test_certificates_in_the_agent_are_passed_over(agent: RealAgent, tmp_path: Path) -> None:
    key, other = tmp_path / "ops", make_key(tmp_path / "other")
    certified(key, tmp_path / "ca")
    agent.add(key)
    subprocess.run(["ssh-add", "-q", "-d", f"{key}.pub"], check=True, stdin=subprocess.DEVNULL)
    agent.add(other)
    listed = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed[0].startswith("ssh-ed25519-cert-v01@openssh.com ")
    assert check_whole(DATA, sign_it()) == fingerprint(other)


def test_a_public_key_signs_by_the_agent(agent: RealAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, key = make_key(tmp_path / "first"), make_key(tmp_path / "ops")
    agent.add(first)
    agent.add(key)
    key.unlink()
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", f"{key}.pub")
    check_choice()
    assert check_whole(DATA, sign_it()) == fingerprint(key)

    subprocess.run(["ssh-add", "-q", "-d", f"{key}.pub"], check=True)
    assert why_not() == f"the key {key}.pub is a public key whose private half is not in ssh-agent"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert why_not() == f"the key {key}.pub is a public key whose private half is not in ssh-agent"


def test_where_the_agent_has_gone_the_key_in_the_home_signs(
    short: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_key(home / "id_rsa", "rsa")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short / "dead"))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(short / "dead"))
    assert check_whole(DATA, sign_it()) == fingerprint(own)


def test_an_agent_that_does_not_answer_is_not_waited_for(
    short: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_key(home / "id_ed25519")
    monkeypatch.setattr(signing, "_ANSWER_S", 1.0)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(short / "mute"))
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(short / "mute"))
        mute.listen()
        assert chosen().source == str(own)
        assert why_not(timeout_s=1) == "ssh-keygen did not answer within 1 s"


def test_the_keys_in_the_home_have_an_order(home: Path) -> None:
    for name in ("id_rsa", "id_ecdsa", "id_ed25519"):
        key = make_key(home / name, name.removeprefix("id_"))
        assert chosen().path == str(key)


def test_of_the_keys_in_the_home_those_with_a_passphrase_are_passed_over(home: Path) -> None:
    encrypted = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret-7c3f", "-f", str(home / "id_ed25519")]
    subprocess.run(encrypted, check=True)
    assert "those in ~/.ssh have passphrases" in why_not()
    key = make_key(home / "id_ecdsa", "ecdsa")
    assert chosen().path == str(key)


def test_the_agents_public_key_is_gone_afterwards(agent: RealAgent, tmp_path: Path) -> None:
    agent.add(make_key(tmp_path / "ops"))
    with signing_key() as key:
        assert Path(key.path).is_file()
        assert sign(DATA, key)
    assert not Path(key.path).parent.exists()


def test_it_is_gone_also_where_the_signing_fails(agent: RealAgent, tmp_path: Path) -> None:
    agent.add(make_key(tmp_path / "ops"), "-c")
    with signing_key() as key:
        assert Path(key.path).is_file()
        with pytest.raises(NoSignature):
            sign(DATA, key)
    assert not Path(key.path).parent.exists()


def test_without_openssh_the_record_says_so(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_key(home / "id_ed25519")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_not() == "ssh-keygen is not installed: it comes with OpenSSH"


# Keys that need somebody


def test_a_key_with_a_passphrase_signs_once_it_is_in_the_agent(
    agent: RealAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = with_passphrase(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    has = f"the key {key} has a passphrase and is not in ssh-agent: ssh-add it, or give a key without one"
    check_choice()
    assert why_not() == has

    agent.add(key, passphrase=PASSPHRASE)
    assert check_whole(DATA, sign_it()) == fingerprint(key)

    agent.lock("locked")
    assert why_not() == has
    agent.unlock("locked")
    assert check_whole(DATA, sign_it()) == fingerprint(key)


def test_what_is_signed_is_not_taken_for_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = with_passphrase(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    with pytest.raises(NoSignature, match="has a passphrase"):
        sign_it(f"{PASSPHRASE}\nthe rest, which alone would be signed".encode())


def test_a_locked_agent_offers_nothing(agent: RealAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path / "ops")
    agent.add(key)
    assert sign_it()
    agent.lock("locked")
    assert why_not().startswith("there is no key: ")
    key.unlink()
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", f"{key}.pub")
    assert why_not() == f"the key {key}.pub is a public key whose private half is not in ssh-agent"
    agent.unlock("locked")
    assert sign_it()


def test_an_agent_that_asks_and_gets_no_answer_refuses(agent: RealAgent, tmp_path: Path) -> None:
    key = make_key(tmp_path / "ops")
    agent.add(key, "-c")
    assert why_not() == (
        "the key ssh-agent was refused by ssh-agent: it is locked, or nobody confirmed or touched the key"
    )


def test_a_private_key_that_others_can_read_does_not_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    assert sign_it()
    key.chmod(0o644)
    assert why_not() == f"the key {key} can be read by others, so ssh-keygen does not use it: chmod 600"


# Security keys


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_key_signs_once_it_is_touched(
    kind: Kind, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = SecurityKeyAgent(short / "sk", kind)
    signers = allowing(tmp_path, agent.key)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.path))
    with agent.running():
        assert chosen().on_security_key
        assert not agent.asked.is_set()
        agent.touch()
        signature = sign_it()
        assert agent.asked.is_set()
    assert openssh_accepts(signature, signers, tmp_path)
    assert not openssh_accepts(signature, signers, tmp_path, data=DATA + b" ")
    assert check(DATA, signature, Signers(signers), at=AT).principal == "ops@mx"


def test_a_security_key_that_nobody_touches_is_not_waited_for(security_key: SecurityKeyAgent) -> None:
    assert why_not(timeout_s=1) == "ssh-keygen did not answer within 1 s: was the security key touched?"
    assert security_key.left.wait(SOON_S)


def test_a_security_key_can_say_no(security_key: SecurityKeyAgent) -> None:
    security_key.refuse()
    assert "was refused by ssh-agent" in why_not()


def test_an_agent_that_ends_meanwhile_is_told(security_key: SecurityKeyAgent) -> None:
    security_key.hang_up()
    assert why_not() == "the key ssh-agent is in an ssh-agent that does not answer"


def test_whether_somebody_was_there_is_signed_too(security_key: SecurityKeyAgent, tmp_path: Path) -> None:
    """OpenSSH does not ask that of a signature of data, so a key made with no-touch-required signs."""
    signers = allowing(tmp_path, security_key.key)
    security_key.flags = 0
    security_key.touch()
    signature = sign_it()
    assert openssh_accepts(signature, signers, tmp_path)
    assert check(DATA, signature, Signers(signers), at=AT)

    altered = with_flags(signature, USER_PRESENT)
    assert not openssh_accepts(altered, signers, tmp_path)
    assert refused(altered, Signers(signers)).startswith("it does not hold: ")


def with_flags(signature: bytes, flags: int) -> bytes:
    """A security key's signature that tells something else of the touch: the flags stand before the counter."""
    first, *lines, last, _ = signature.split(b"\n")
    blob = bytearray(base64.b64decode(b"".join(lines)))
    assert blob[-5] != flags
    blob[-5] = flags
    return b"\n".join((first, base64.b64encode(blob), last, b""))


def allowing(folder: Path, key: SoftwareSecurityKey) -> Path:
    signers = folder / "allowed_signers"
    signers.write_text(f"ops@mx {key.line}\n")
    return signers


# Nothing asks, nothing hangs, nothing is left

# Takes the terminal that its standard error is as its controlling one.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
with open("/dev/tty", "w") as terminal:
    terminal.write("here\\n")
os.execvp(sys.argv[1], sys.argv[1:])
"""
SIGN = """
import sys
from mailtls_nb.audit.signing import NoSignature, sign, signing_key
try:
    with signing_key() as key:
        sys.stdout.buffer.write(sign(b"a record\\n", key))
except NoSignature as error:
    print(error.what)
"""


class OnTerminal:
    """A program that has a controlling terminal, on which somebody could be asked."""

    def __init__(self, *argv: str, data: bytes = b"") -> None:
        self._master, slave = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", TAKE_TERMINAL, *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=slave,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.close()

    def shown(self, until: bytes = b"") -> bytes:
        """What the terminal shows: up to some text, or else until nobody has it any more."""
        shown, deadline = b"", time.monotonic() + SOON_S
        while not until or until not in shown:
            assert select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0], shown
            with suppress(OSError):  # EIO: nobody has the terminal any more
                if more := os.read(self._master, 4096):
                    shown += more
                    continue
            break
        return shown

    def printed(self) -> str:
        assert self.process.stdout
        return self.process.stdout.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        os.close(self._master)


@contextmanager
def on_terminal(*argv: str, data: bytes = b"") -> Iterator[OnTerminal]:
    program = OnTerminal(*argv, data=data)
    try:
        yield program
    finally:
        program.close()


def test_nobody_is_asked_for_a_passphrase_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = with_passphrase(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    with on_terminal(sys.executable, "-c", SIGN) as program:
        assert program.shown() == b"here\r\n"
        assert "has a passphrase and is not in ssh-agent" in program.printed()
        assert program.process.wait(SOON_S) == 0

    # The same ssh-keygen, left to itself, asks there and waits.
    with on_terminal("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), data=DATA) as program:
        assert b"passphrase" in program.shown(until=b"passphrase")
        assert program.process.poll() is None


def test_ssh_keygen_has_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the PIN of a security key either, which no environment keeps it from asking for."""
    program = tmp_path / "bin" / "ssh-keygen"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho reached >/dev/tty\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    code = f"{SIGN.partition('try:')[0]}\nfrom mailtls_nb.audit.signing import SigningKey\n"
    code += "try:\n    sign(b'', SigningKey('/ops', '', '/ops'))\nexcept NoSignature as error:\n    print(error.what)\n"
    with on_terminal(sys.executable, "-c", code) as signing_there:
        assert signing_there.shown() == b"here\r\n"
        assert signing_there.printed()
    with on_terminal("ssh-keygen") as left_to_itself:
        assert left_to_itself.shown() == b"here\r\nreached\r\n"


def test_nobody_is_asked_by_a_program_of_theirs_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    askpass, asked = tmp_path / "askpass", tmp_path / "asked"
    askpass.write_text(f"#!/bin/sh\necho asked >{asked}\necho {PASSPHRASE}\n")
    askpass.chmod(0o700)
    key = with_passphrase(tmp_path / "ops")
    for name, value in {
        "MAILTLS_SIGNING_KEY": str(key),
        "SSH_ASKPASS": str(askpass),
        "SSH_ASKPASS_REQUIRE": "force",
        "DISPLAY": ":0",
    }.items():
        monkeypatch.setenv(name, value)
    assert "has a passphrase" in why_not()
    assert not asked.exists()
    # The same ssh-keygen, left to itself, has it asked.
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    subprocess.run(argv, input=DATA, capture_output=True, check=True, timeout=SOON_S)
    assert asked.exists()


def test_on_a_terminal_the_touch_is_asked_for(security_key: SecurityKeyAgent) -> None:
    with on_terminal(sys.executable, "-c", SIGN) as program:
        assert security_key.asked.wait(SOON_S)
        security_key.touch()
        assert program.shown() == b"here\r\ntouch the security key to sign the record (60 s)\r\n"
        assert program.printed().startswith("-----BEGIN SSH SIGNATURE-----")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_signing(number: signal.Signals, security_key: SecurityKeyAgent) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SIGN],
        stdout=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have the signal ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        try:
            assert security_key.asked.wait(SOON_S)
            assert not security_key.left.is_set()
            process.send_signal(number)
            printed, _ = process.communicate(timeout=SOON_S)
        finally:
            process.kill()
    assert printed == "signing was interrupted\n"
    assert process.returncode == 0
    assert security_key.left.wait(SOON_S)  # ssh-keygen has let go of the agent: it is gone


def test_what_ssh_keygen_started_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ssh-sk-helper would, which waits for the touch in a process of its own."""
    held = tmp_path / "held"
    os.mkfifo(held)
    program = tmp_path / "bin" / "ssh-keygen"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec 3>{held}\necho waits >&3\nsleep 40 &\nwait\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        began = time.monotonic()
        with pytest.raises(NoSignature, match="did not answer within 1 s"):
            sign(DATA, SigningKey("/ops", "", "/ops"), timeout_s=1)
        assert time.monotonic() - began < SOON_S
        fcntl.fcntl(reader, fcntl.F_SETFL, 0)
        assert os.read(reader, 100) == b"waits\n"
        assert select.select([reader], [], [], SOON_S)[0], "something still runs"
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


# Checking


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key that signs."""
    key = make_key(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    return key


@pytest.fixture
def signers(key: Path, tmp_path: Path) -> Signers:
    """They allow that key."""
    return Signers(allow(tmp_path / "allowed_signers", **{"ops@mx": key}))


def refused(signature: bytes, signers: Signers, *, data: bytes = DATA, at: str = AT) -> str:
    with pytest.raises(BadSignature) as caught:
        check(data, signature, signers, at=at)
    return caught.value.what


def test_altered_data_are_found(signers: Signers) -> None:
    signature = sign_it()
    assert check(DATA, signature, signers, at=AT)
    altered = DATA.replace(b"run", b"ruN")
    assert refused(signature, signers, data=altered).startswith("it does not hold: ")
    with pytest.raises(BadSignature, match="it does not hold: "):
        check_whole(altered, signature)


def _other_byte(signature: bytes) -> bytes:
    lines = signature.split(b"\n")
    lines[-3] = (b"B" if lines[-3][:1] == b"A" else b"A") + lines[-3][1:]
    return b"\n".join(lines)


@pytest.mark.parametrize("altered", ["byte", "cut", "empty"])
def test_an_altered_signature_is_found(altered: str, signers: Signers) -> None:
    signature = sign_it()
    assert check(DATA, signature, signers, at=AT)
    bad = {"byte": _other_byte(signature), "cut": signature[:100], "empty": b""}[altered]
    assert refused(bad, signers).startswith("it does not hold")
    with pytest.raises(BadSignature, match="it does not hold"):
        check_whole(DATA, bad)


def test_a_signature_for_something_else_does_not_hold(key: Path, signers: Signers) -> None:
    by_namespace = {
        namespace: subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)],
            input=DATA,
            capture_output=True,
            check=True,
        ).stdout
        for namespace in (NAMESPACE, "git")
    }
    assert check(DATA, by_namespace[NAMESPACE], signers, at=AT)
    assert refused(by_namespace["git"], signers).startswith("it does not hold")
    with pytest.raises(BadSignature):
        check_whole(DATA, by_namespace["git"])


def test_a_key_that_is_not_allowed_is_named(key: Path, signers: Signers, tmp_path: Path) -> None:
    signature = sign_it()
    others = allow(tmp_path / "others", **{"eve@mx": make_key(tmp_path / "eve")})
    assert refused(signature, Signers(others)) == (
        f"it is of the key {fingerprint(key)}, which {others} does not allow at that time"
    )
    assert check(DATA, signature, signers, at=AT)


def test_a_key_counts_only_in_its_time(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")  # never matters
    line = Path(f"{key}.pub").read_text()
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f'ops@mx valid-after="20260901000000Z",valid-before="20261101120000Z" {line}')
    signature = sign_it()
    signers = Signers(allowed)
    assert check(DATA, signature, signers, at="2026-09-01T00:00:01Z")
    assert check(DATA, signature, signers, at="2026-11-01T11:59:59Z")
    for at in ("2026-08-31T23:59:59Z", "2026-11-01T12:00:01Z"):
        assert "does not allow at that time" in refused(signature, signers, at=at)


def test_a_key_that_followed_counts_too(key: Path, tmp_path: Path) -> None:
    """The same key twice: allowed for a time, and later anew under another name."""
    line = Path(f"{key}.pub").read_text()
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f'first@mx valid-before="20261001000000Z" {line}then@mx valid-after="20261001000000Z" {line}')
    signature = sign_it()
    assert check(DATA, signature, Signers(allowed), at="2026-09-01T00:00:00Z").principal == "first@mx"
    assert check(DATA, signature, Signers(allowed), at=AT).principal == "then@mx"


@pytest.mark.parametrize("form", ["krl", "keys"])
def test_a_revoked_key_counts_no_more(form: str, key: Path, signers: Signers, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    lists = {}
    for name, revoked in (("this", key), ("other", other)):
        lists[name] = tmp_path / name
        if form == "krl":
            subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(lists[name]), f"{revoked}.pub"], check=True)
        else:
            lists[name].write_text(Path(f"{revoked}.pub").read_text())
    signature = sign_it()
    assert check(DATA, signature, Signers(signers.allowed, lists["other"]), at=AT)
    revokes = f"it is of the key {fingerprint(key)}, which {lists['this']} revokes, unless that is no list of keys"
    assert refused(signature, Signers(signers.allowed, lists["this"])) == revokes
    lists["this"].write_text("no list of keys\n")
    assert refused(signature, Signers(signers.allowed, lists["this"])) == revokes


def test_a_key_that_is_allowed_for_something_else_does_not_count(key: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed_signers"
    line = Path(f"{key}.pub").read_text()
    signature = sign_it()
    allowed.write_text(f'ops@mx namespaces="git" {line}')
    assert refused(signature, Signers(allowed)).endswith(f"which {allowed} does not allow for records")
    allowed.write_text(f'ops@mx namespaces="git,{NAMESPACE}" {line}')
    assert check(DATA, signature, Signers(allowed), at=AT).principal == "ops@mx"


def test_a_key_of_several_principals_is_of_the_first(key: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"ops@mx,root@mx {Path(f'{key}.pub').read_text()}")
    signature = sign_it()
    assert check(DATA, signature, Signers(allowed), at=AT).principal == "ops@mx"
    assert openssh_accepts(signature, allowed, tmp_path, "root@mx")
    assert not openssh_accepts(signature, allowed, tmp_path, "eve@mx")


@pytest.mark.parametrize("which", ["allowed", "revoked"])
@pytest.mark.parametrize("instead", ["missing", "folder"])
def test_a_list_that_is_not_there_is_no_verdict(which: str, instead: str, signers: Signers, tmp_path: Path) -> None:
    signature = sign_it()
    gone = tmp_path / "gone"
    if instead == "folder":
        gone.mkdir()
    without = Signers(gone) if which == "allowed" else Signers(signers.allowed, gone)
    with pytest.raises(NotReady) as caught:
        check(DATA, signature, without, at=AT)
    assert caught.value.what.startswith(f"{gone} cannot be read, so nobody can say whose signature counts: ")
    assert check(DATA, signature, signers, at=AT)
