"""The recorded host: all is written down, secrets and private keys never."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailtls_nb.errors import CommandTimedOut, FileAccessFailed, MailTLSError
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.recorded import LONGEST_TEXT, RecordedHost
from mailtls_nb.secret import Secret

KEY = ec.generate_private_key(ec.SECP256R1())
FORMATS = [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH]
PEM = [KEY.private_bytes(Encoding.PEM, form, NoEncryption()) for form in FORMATS]
OWNER = f"{Path().stat().st_uid}:{Path().stat().st_gid}"


class Recording:
    """A local host, recorded; each look at the clock is a second later."""

    def __init__(self, secrets: Sequence[Secret] = ()) -> None:
        self.log: list[dict[str, object]] = []
        seconds = count()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        self.host = RecordedHost(
            LocalHost(), self.log.append, clock=lambda: start + timedelta(seconds=next(seconds)), secrets=secrets
        )

    @property
    def text(self) -> str:
        return json.dumps(self.log)


def test_a_streamed_output_is_measured_only() -> None:
    recording = Recording()
    pieces: list[bytes] = []
    recording.host.stream(["sh", "-c", "head -c 300000 /dev/zero; echo oh >&2"], pieces.append, timeout_s=5)
    assert b"".join(pieces) == bytes(300_000)
    (entry,) = recording.log
    assert (entry["status"], entry["stdout_size"], entry["stderr"]) == (0, 300_000, "oh\n")
    assert entry["stdout_sha256"] == hashlib.sha256(bytes(300_000)).hexdigest()
    assert "stdout" not in entry


@pytest.mark.parametrize("pem", PEM)
def test_a_streamed_private_key_is_not_passed_on(pem: bytes, tmp_path: Path) -> None:
    """Also where the line that begins it comes in two pieces."""
    recording = Recording()
    pieces: list[bytes] = []
    # A piece goes on without its last bytes, which might begin a marker; what comes after has no line that ends a key.
    (tmp_path / "begin").write_bytes(pem[:65])
    (tmp_path / "rest").write_bytes(pem[65:120])
    script = 'cat "$1/begin"; sleep 0.3; cat "$1/rest"'
    with pytest.raises(MailTLSError, match="a private key would have left local"):
        recording.host.stream(["sh", "-c", script, "sh", str(tmp_path)], pieces.append, timeout_s=5)
    assert 0 < len(b"".join(pieces)) < pem.index(b"KEY")
    assert "PRIVATE" not in recording.text


def test_a_command() -> None:
    recording = Recording()
    script = "printf '\\377'; cat >&2; exit 3"
    done = recording.host.run(["sh", "-c", script], stdin=b"typed", timeout_s=5)
    assert (done.status, done.stdout) == (3, b"\xff")
    assert recording.log == [
        {
            "host": "local",
            "what": "run",
            "started": "2026-01-01T00:00:00+00:00",
            "argv": ["sh", "-c", script],
            "stdin_size": 5,
            "status": 3,
            "stdout": "\ufffd",
            "stderr": "typed",
            "ended": "2026-01-01T00:00:01+00:00",
        }
    ]


def test_standard_input_is_not_written_down() -> None:
    recording = Recording()
    recording.host.run(["true"], stdin=b"open sesame", timeout_s=5)
    assert "open sesame" not in recording.text


def test_files_are_measured_and_their_content_is_not_written_down(tmp_path: Path) -> None:
    recording = Recording()
    path = str(tmp_path / "file")
    assert recording.host.read(path) is None
    recording.host.write(path, b"open sesame", mode=0o640, owner="root:root" if OWNER == "0:0" else OWNER)
    assert recording.host.read(path) == b"open sesame"
    digest = hashlib.sha256(b"open sesame").hexdigest()
    before, written, after = recording.log
    assert (before["sha256"], before["size"]) == ("absent", 0)
    assert (written["path"], written["mode"], written["sha256"], written["size"]) == (path, "0640", digest, 11)
    assert (after["sha256"], after["size"]) == (digest, 11)
    assert "open sesame" not in recording.text


def test_failures_are_written_down_too(tmp_path: Path) -> None:
    recording = Recording()
    with pytest.raises(FileAccessFailed):
        recording.host.read(str(tmp_path))
    with pytest.raises(CommandTimedOut):
        recording.host.run(["sleep", "60"], timeout_s=1)
    assert [str(entry["error"]).split(":")[0] for entry in recording.log] == ["FileAccessFailed", "CommandTimedOut"]


def test_long_output_is_cut_in_the_log_only() -> None:
    recording = Recording()
    done = recording.host.run(["head", "-c", "100000", "/dev/zero"], timeout_s=5)
    assert len(done.stdout) == 100_000
    assert recording.log[0]["stdout"] == "\0" * LONGEST_TEXT + "\n[cut: 100000 bytes in all]"


def test_secrets_are_replaced_wherever_they_stand(tmp_path: Path) -> None:
    recording = Recording([Secret(b"sesame"), Secret(b"open sesame"), Secret(b"")])
    done = recording.host.run(["sh", "-c", 'echo "$1"; echo "$1" >&2', "sh", "open sesame"], timeout_s=5)
    assert done.text == "open sesame\n"
    with pytest.raises(FileAccessFailed):
        recording.host.read(f"{tmp_path}/sesame/")
    assert "sesame" not in recording.text
    assert recording.log[0]["stdout"] == "[secret]\n"
    assert recording.log[0]["stderr"] == "[secret]\n"


@pytest.mark.parametrize("pem", PEM, ids=["pkcs8", "sec1", "openssh"])
class TestPrivateKey:
    """A host's private key never leaves the host."""

    def assert_nothing_of_it(self, recording: Recording, pem: bytes, failure: BaseException) -> None:
        lines = pem.decode().splitlines()[1:-1]
        for told in (recording.text, str(failure), repr(failure.__context__)):
            assert not any(line in told for line in lines)

    def test_in_output(self, pem: bytes) -> None:
        for script in ("cat", "cat >&2", "echo before; cat; echo after"):
            recording = Recording()
            with pytest.raises(MailTLSError, match="a private key would have left local") as failure:
                recording.host.run(["sh", "-c", script], stdin=pem, timeout_s=5)
            self.assert_nothing_of_it(recording, pem, failure.value)
            assert recording.log[0]["status"] == 0

    def test_in_a_file(self, pem: bytes, tmp_path: Path) -> None:
        (tmp_path / "key.pem").write_bytes(b"# comment\n" + pem)
        recording = Recording()
        with pytest.raises(MailTLSError, match="a private key would have left local") as failure:
            recording.host.read(f"{tmp_path}/key.pem")
        self.assert_nothing_of_it(recording, pem, failure.value)

    def test_in_an_argument(self, pem: bytes) -> None:
        recording = Recording()
        with pytest.raises(MailTLSError, match="a private key stood in the arguments") as failure:
            recording.host.run(["true", pem.decode()], timeout_s=5)
        self.assert_nothing_of_it(recording, pem, failure.value)

    def test_in_what_a_command_that_ran_too_long_had_printed(self, pem: bytes) -> None:
        recording = Recording()
        with pytest.raises(CommandTimedOut, match="holds a private key and is not repeated") as failure:
            recording.host.run(["sh", "-c", "cat; sleep 60"], stdin=pem, timeout_s=1)
        self.assert_nothing_of_it(recording, pem, failure.value)

    def test_a_certificate_or_public_key_may_be_read(self, pem: bytes) -> None:
        """So it is the private key that is refused above."""
        public = pem.replace(b"PRIVATE", b"PUBLIC")
        assert Recording().host.run(["cat"], stdin=public, timeout_s=5).stdout == public
