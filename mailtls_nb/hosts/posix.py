"""Hosts that have a POSIX shell: run, read and write once, for every transport.

A transport only rewrites argv (``rewrite``) and explains its own failures (``advice``).

What ``run`` promises beyond the protocol: the command runs in ``/`` with LC_ALL=C, ``/usr/sbin`` and ``/sbin`` at
the end of PATH, and no secret of this process's environment. ``timeout_s`` is rounded up to whole seconds and is
kept by a watchdog on the host, so it holds even if this process or the connection dies. ``run`` returns when the
command itself has ended: a daemon it left behind lives on, and what that prints later is not read.
"""

from __future__ import annotations

import contextlib
import math
import posixpath
import re
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence

from mailtls_nb.errors import CommandTimedOut, FileAccessFailed, Unreachable
from mailtls_nb.hosts import scripts
from mailtls_nb.hosts.base import Completed
from mailtls_nb.hosts.environment import client_environment
from mailtls_nb.hosts.exchange import Exchange, exchange

# A transport that has not brought up a shell on the host by then will not: covers a name server, a TCP connection
# that nobody answers, an engine that hangs. The operator's own ConnectTimeout, where shorter, comes first.
START_WITHIN_S = 45
# Beyond the host's own deadline and grace: the host has gone silent.
_SILENCE_S = 10
# Files of a mail server are small; what is larger is a mistake.
LARGEST_FILE = 64 * 1024 * 1024
FILE_TIMEOUT_S = 120

_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*")

# The PEM encapsulation boundaries of RFC 7468 and OpenSSH, either end.
PRIVATE_KEY = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY")

Advice = tuple[tuple[str, str], ...]

_SUDO_ADVICE: Advice = (
    (r"sudo: .*(password|authentication)", "allow this account `NOPASSWD: ALL` in sudoers, or connect as root"),
    (r"not in the sudoers|not allowed to (run|execute)", "allow this account `NOPASSWD: ALL` in sudoers"),
    (
        r"sudo\S*: .*(not found|no such file)|\"sudo\": executable file not found",
        "install sudo there, or connect as root",
    ),
)


def _encoded(argv: Sequence[str]) -> list[bytes]:
    return [argument.encode("utf-8", "surrogateescape") for argument in argv]


class PosixHost:
    """A host reached by a client program that runs argv there. Concrete hosts say how."""

    name: str
    sudo: bool

    def rewrite(self, argv: Sequence[str]) -> list[str]:
        """The argv to run here so that ``argv`` runs there."""
        raise NotImplementedError

    def advice(self) -> Advice:
        """Patterns of what the client says when it fails, and the next step for each."""
        raise NotImplementedError

    def client_environment(self) -> Mapping[str, str]:
        """The environment of the client program."""
        return client_environment()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run ``argv`` and wait for its end; see the module for what holds there. Arguments may hold any byte but NUL.

        A program that is not there ends with status 127, one ended by signal N with 128 + N.
        Raises Unreachable, CommandTimedOut, and ValueError for an argv that no host can run.
        """
        return self._run(argv, stdin, timeout_s, None)

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        """Run ``argv`` as ``run`` does, its output handed to ``take`` piece by piece, within ``timeout_s``."""
        return self._run(argv, b"", timeout_s, take)

    def _run(
        self, argv: Sequence[str], stdin: bytes, timeout_s: float, take: Callable[[bytes], None] | None
    ) -> Completed:
        if not argv or not argv[0] or argv[0].startswith("-") or any("\0" in argument for argument in argv):
            raise ValueError(f"not a command: {argv!r}")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}")
        limit_s = math.ceil(timeout_s)
        nonce = "mailtls-nb-" + secrets.token_hex(16)
        result = self._exchange([nonce, str(limit_s), *argv], nonce, stdin, limit_s, take)
        if result.outcome is None:
            raise self._unreachable(result, limit_s)
        if result.outcome == "timeout":
            raise CommandTimedOut(
                f"{shlex.join(argv)} on {self.name} did not end within {limit_s} s"
                + _printed(result.stderr.payload + result.stdout.payload),
                left="the command and the processes it started were ended there",
                do=f"look on {self.name} for what it waits for",
            )
        status = int(result.outcome)
        # ksh93 reports a signal as 256 + N.
        status = status if status < 256 else status - 128
        return Completed(self.name, tuple(argv), status, bytes(result.stdout.payload), bytes(result.stderr.payload))

    def read(self, path: str) -> bytes | None:
        """The content of a regular file of at most LARGEST_FILE bytes, or None where there is none.

        Symbolic links are followed; one that leads nowhere is no file. Raises FileAccessFailed.
        """
        done = self._file_script(scripts.READ, path, str(LARGEST_FILE))
        if done.status == 0:
            return done.stdout
        reason = _reason(done)
        if done.status == scripts.READ_NOT_REGULAR:
            reason = "it is not a regular file"
        elif done.status == scripts.READ_TOO_LARGE:
            reason = f"it is larger than {LARGEST_FILE // 1024 // 1024} MiB"
        elif reason.endswith(": No such file or directory"):
            return None
        raise FileAccessFailed(f"{path} on {self.name} could not be read: {reason}")

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        """Replace a regular file in one step, synced to disk; ``owner`` is ``user:group``, names or numbers.

        The content goes into ``.mailtls-nb.RANDOM`` in the same directory, readable by nobody else, which then takes
        the file's place. A symbolic link is refused: replacing it would part it from what it names. Raises
        FileAccessFailed, the old file untouched.
        """
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"owner is {owner!r}: give user:group")
        if not 0 <= mode <= 0o7777:
            raise ValueError(f"mode is {mode:o}")
        directory = posixpath.dirname(path)
        temporary = posixpath.join(directory, ".mailtls-nb." + secrets.token_hex(8))
        done = self._file_script(
            scripts.WRITE, path, directory, temporary, str(len(data)), f"{mode:04o}", owner, stdin=data
        )
        if done.status == 0:
            return
        reason = _reason(done)
        do = ""
        if done.status == scripts.WRITE_SYMLINK:
            target = done.text.removesuffix("\n")
            reason = f"it is a symbolic link to {target}"
            do = "name the file that the link leads to"
        elif done.status == scripts.WRITE_NOT_REGULAR:
            reason = "it is not a regular file"
        elif done.status == scripts.WRITE_NO_DIRECTORY:
            reason = f"there is no directory {directory}"
        elif done.status == scripts.WRITE_SHORT:
            reason = f"only {done.text.strip()} of {len(data)} bytes arrived"
        raise FileAccessFailed(
            f"{path} on {self.name} could not be written: {reason}", left="the file there is as it was", do=do
        )

    def _file_script(self, script: str, path: str, *parameters: str, stdin: bytes = b"") -> Completed:
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise FileAccessFailed(f"{path!r} is not the absolute path of a file", left="nothing was touched")
        return self.run(["sh", "-c", script, "sh", path, *parameters], stdin=stdin, timeout_s=FILE_TIMEOUT_S)

    def _exchange(
        self,
        parameters: Sequence[str],
        nonce: str,
        stdin: bytes,
        limit_s: int,
        take: Callable[[bytes], None] | None,
    ) -> Exchange:
        client_argv = self._client_argv(["sh", "-c", scripts.RUN, "sh", *parameters])
        try:
            return exchange(
                client_argv,
                nonce.encode(),
                stdin,
                environment=self.client_environment(),
                start_within_s=START_WITHIN_S,
                end_within_s=limit_s + scripts.GRACE_S + _SILENCE_S,
                abandon=self._end_now,
                take=take,
            )
        except OSError as error:
            program = client_argv[0].decode()
            raise Unreachable(
                f"{self.name} could not be reached: {program}: {error.strerror}",
                left="nothing was touched",
                do=f"install {program} on this machine, or put it on PATH",
            ) from error

    def _client_argv(self, argv: Sequence[str]) -> list[bytes]:
        return _encoded(self.rewrite(["sudo", "-n", "--", *argv] if self.sudo else argv))

    def _end_now(self, wrapper_pid: int) -> None:
        """End a running command on the host because nobody waits for it any more. Best effort: the watchdog stays."""
        client_argv = self._client_argv(["sh", "-c", scripts.END_NOW, "sh", str(wrapper_pid)])
        environment = self.client_environment()
        with contextlib.suppress(OSError):
            exchange(client_argv, b"-", b"", environment=environment, start_within_s=_SILENCE_S, end_within_s=0)

    def _unreachable(self, result: Exchange, limit_s: int) -> Unreachable:
        if result.started:
            return Unreachable(
                f"the connection to {self.name} was lost while a command ran there",
                left=f"what the command did is not known; if it still runs, it is ended there within {limit_s} s",
                do="see that the host is up, then look at its state before going on",
            )
        said = result.client_said
        if not said and result.client_status is None:
            said = f"no answer within {START_WITHIN_S} s"
        do = "see that the host is up"
        for pattern, step in (*self.advice(), *(_SUDO_ADVICE if self.sudo else ())):
            if re.search(pattern, said, re.IGNORECASE | re.MULTILINE):
                do = step
                break
        return Unreachable(
            f"{self.name} could not be reached: {said[-1500:] or f'the client ended with {result.client_status}'}",
            left="nothing was touched",
            do=do,
        )


def _reason(done: Completed) -> str:
    said = done.stderr.decode("utf-8", "replace").strip()
    return said or f"status {done.status}"


def _printed(output: bytes | bytearray) -> str:
    if PRIVATE_KEY.search(output):
        return "; what it printed holds a private key and is not repeated"
    text = bytes(output).decode("utf-8", "replace").strip()[-1000:]
    return f"; it printed: {text}" if text else ""
