"""Agents to sign with: OpenSSH's own, and one in Python that holds a security key made of software."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import select
import signal
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

# draft-miller-ssh-agent
_FAILURE, _REQUEST_IDENTITIES, _IDENTITIES, _SIGN_REQUEST, _SIGN_RESPONSE = 5, 11, 12, 13, 14
_APPLICATION = b"ssh:"
USER_PRESENT = 0x01

Kind = Literal["ed25519", "ecdsa"]


@dataclass(frozen=True)
class RealAgent:
    """A running ssh-agent."""

    socket: Path
    askpass: Path

    def add(self, key: Path, *options: str, passphrase: str = "") -> None:
        self._ssh_add(*options, str(key), secret=passphrase)

    def forget(self, key: Path) -> None:
        self._ssh_add("-d", str(key))

    def lock(self, secret: str) -> None:
        self._ssh_add("-x", secret=secret)

    def unlock(self, secret: str) -> None:
        self._ssh_add("-X", secret=secret)

    def _ssh_add(self, *options: str, secret: str = "") -> None:
        environment = {
            **os.environ,
            "SSH_AUTH_SOCK": str(self.socket),
            "SSH_ASKPASS": str(self.askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "SECRET": secret,
        }
        subprocess.run(["ssh-add", "-q", *options], env=environment, stdin=subprocess.DEVNULL, check=True, timeout=30)


@contextmanager
def real_agent(folder: Path) -> Iterator[RealAgent]:
    """OpenSSH's ssh-agent, on a socket in a folder whose path is short; nobody is there to confirm anything."""
    askpass = folder / "askpass"
    askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$SECRET"\n')
    askpass.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": "false", "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"}
    path = folder / "agent"
    done = subprocess.run(
        ["ssh-agent", "-s", "-a", str(path)], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    pid = re.search(r"SSH_AGENT_PID=(\d+)", done.stdout)
    assert pid
    try:
        yield RealAgent(path, askpass)
    finally:
        os.kill(int(pid[1]), signal.SIGTERM)


class SoftwareSecurityKey:
    """A key that signs as one on a security key does (OpenSSH's PROTOCOL.u2f), with no hardware."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._counter = 0
        if kind == "ed25519":
            self._name = b"sk-ssh-ed25519@openssh.com"
            self._ed25519 = ed25519.Ed25519PrivateKey.generate()
            self.blob = _strings(self._name, self._ed25519.public_key().public_bytes_raw(), _APPLICATION)
        else:
            self._name = b"sk-ecdsa-sha2-nistp256@openssh.com"
            self._ecdsa = ec.generate_private_key(ec.SECP256R1())
            point = self._ecdsa.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            self.blob = _strings(self._name, b"nistp256", point, _APPLICATION)

    @property
    def line(self) -> str:
        """The public key as it stands in a file."""
        return f"{self._name.decode()} {base64.b64encode(self.blob).decode()}"

    def sign(self, message: bytes, flags: int) -> bytes:
        self._counter += 1
        told = struct.pack(">BI", flags, self._counter)
        signed = hashlib.sha256(_APPLICATION).digest() + told + hashlib.sha256(message).digest()
        if self._kind == "ed25519":
            signature = self._ed25519.sign(signed)
        else:
            r, s = decode_dss_signature(self._ecdsa.sign(signed, ec.ECDSA(hashes.SHA256())))
            signature = _strings(_mpint(r), _mpint(s))
        return _strings(self._name, signature) + told


class SecurityKeyAgent:
    """An ssh-agent in a thread: it waits for the touch of the one key that it holds.

    ``asked`` is set once a signature is asked for, ``left`` once whoever asked has gone without one.
    """

    def __init__(self, path: Path, kind: Kind = "ed25519") -> None:
        self.path = path
        self.key = SoftwareSecurityKey(kind)
        self.flags = USER_PRESENT
        self.asked = threading.Event()
        self.left = threading.Event()
        self._finger, self._sensor = socket.socketpair()

    def touch(self) -> None:
        """Touch the key, now or before it is asked."""
        self._finger.send(b"t")

    def refuse(self) -> None:
        """Say no, now or before it is asked."""
        self._finger.send(b"r")

    def hang_up(self) -> None:
        """End the connection in place of an answer, now or before it is asked."""
        self._finger.send(b"h")

    @contextmanager
    def running(self) -> Iterator[None]:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        with self._finger, self._sensor, socketserver.ThreadingUnixStreamServer(str(self.path), Handler) as server:
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            serving.start()
            try:
                yield
            finally:
                self._finger.shutdown(socket.SHUT_WR)  # whoever still waits for a touch gets a no
                server.shutdown()
                serving.join()
                server.server_close()

    def _serve(self, connection: socket.socket) -> None:
        while header := _exactly(connection, 4):
            request = _exactly(connection, struct.unpack(">I", header)[0])
            if request[:1] == bytes([_REQUEST_IDENTITIES]):
                answer = struct.pack(">BI", _IDENTITIES, 1) + _strings(self.key.blob, b"a security key")
            elif request[:1] == bytes([_SIGN_REQUEST]):
                blob, message = _two_strings(request[1:])
                self.asked.set()
                came = self._came(connection)
                if came == b"h":
                    return
                if came == b"t" and blob == self.key.blob:
                    answer = bytes([_SIGN_RESPONSE]) + _strings(self.key.sign(message, self.flags))
                else:
                    answer = bytes([_FAILURE])
            else:
                answer = bytes([_FAILURE])
            try:
                connection.sendall(_strings(answer))
            except BrokenPipeError:
                return

    def _came(self, connection: socket.socket) -> bytes:
        ready, _, _ = select.select([connection, self._sensor], [], [])
        if connection in ready:  # it asks for nothing more before it has the answer: it has gone
            self.left.set()
            return b"h"
        return self._sensor.recv(1)


def _exactly(connection: socket.socket, length: int) -> bytes:
    """So many bytes, or none where the other side has gone."""
    got = b""
    while len(got) < length:
        try:
            more = connection.recv(length - len(got))
        except ConnectionResetError:
            return b""
        if not more:
            return b""
        got += more
    return got


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


def _two_strings(data: bytes) -> tuple[bytes, bytes]:
    (first,) = struct.unpack_from(">I", data)
    (second,) = struct.unpack_from(">I", data, 4 + first)
    return data[4 : 4 + first], data[8 + first : 8 + first + second]


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
