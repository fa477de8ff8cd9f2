"""A kernel's secrets come to the process that seals the run, whatever becomes of the kernel, and to nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mailtls_nb.audit.leaks.secret_channel import VARIABLE, SecretChannel
from mailtls_nb.secret import Secret

TELL = """\
import os, sys
from mailtls_nb.audit.leaks.secret_channel import take_over, tell
from mailtls_nb.secret import Secret
"""


def start(code: str, channel: SecretChannel | None, *, stdin: bytes = b"") -> subprocess.Popen[bytes]:
    """Start Python with the channel, as the engine starts a kernel."""
    process = subprocess.Popen(
        [sys.executable, "-c", TELL + code],
        pass_fds=channel.pass_fds if channel else (),
        env={**os.environ, **(channel.environment if channel else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen[bytes], status: int = 0) -> str:
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    return (out + err).decode()


def revealed(secrets: Mapping[str, Secret]) -> dict[str, bytes]:
    return {name: secret.reveal() for name, secret in secrets.items()}


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    before = _open_descriptors()
    threads = threading.active_count()
    yield
    assert _open_descriptors() == before
    assert threading.active_count() == threads


def _open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_what_a_kernel_tells_arrives() -> None:
    """Any bytes, the empty ones too; names of any letters."""
    with SecretChannel() as channel:
        finish(start(r"tell('ca_passphrase', Secret(b'a\0\xff\n')); tell('é', Secret(b''))", channel))
        assert revealed(channel.secrets()) == {"ca_passphrase": b"a\0\xff\n", "é": b""}
    assert set(channel.secrets()) == {"ca_passphrase", "é"}


def test_two_values_of_one_name_are_both_kept() -> None:
    with SecretChannel() as channel:
        for value in ("1", "2", "1", "2", "3"):
            finish(start(f"tell('p', Secret(b'{value}'))", channel))
        assert revealed(channel.secrets()) == {"p": b"1", "p (2)": b"2", "p (3)": b"3"}


def test_a_value_larger_than_the_pipe_arrives() -> None:
    with SecretChannel() as channel:
        finish(start("tell('p', Secret(b'x' * 200_000)); tell('q', Secret(b'y'))", channel))
        assert revealed(channel.secrets()) == {"p": b"x" * 200_000, "q": b"y"}


def test_no_kernel_at_all() -> None:
    with SecretChannel() as channel:
        assert channel.secrets() == {}
    with SecretChannel():
        pass
    with pytest.raises(KeyError), SecretChannel():
        raise KeyError


def test_a_kernel_that_was_killed_leaves_what_it_told_whole() -> None:
    """It is killed within a frame: the frame before it counts, the half one does not."""
    with SecretChannel() as channel:
        process = start(
            "fd = int(os.environ['MAILTLS_SECRET_CHANNEL'].split(':')[0])\n"
            "tell('p', Secret(b'x' * 70_000))\n"
            "os.write(fd, b'\\0\\0\\0\\1q\\0\\0\\0\\11half')\n"
            "print('told', flush=True); sys.stdin.read()",
            channel,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"told\n"
        process.kill()
        finish(process, -9)
        assert revealed(channel.secrets()) == {"p": b"x" * 70_000}


@pytest.mark.parametrize("writes", ["", "while True: os.write(int(sys.argv[1]), b'z' * 4096)"])
def test_a_process_that_the_kernel_left_behind_holds_nobody_up(writes: str, tmp_path: Path) -> None:
    """It inherited the end of the pipe on purpose and keeps it, silent or writing all the time."""
    pid_file = tmp_path / "pid"
    left_behind = f"import os, sys, time\n{writes}\ntime.sleep(60)"
    code = (
        "import pathlib, subprocess\n"
        "fd = int(os.environ['MAILTLS_SECRET_CHANNEL'].split(':')[0])\n"
        "tell('p', Secret(b'x'))\n"
        f"child = subprocess.Popen([sys.executable, '-c', {left_behind!r}, str(fd)], pass_fds=(fd,),"
        " stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "os._exit(0)"
    )
    with SecretChannel() as channel:
        finish(start(code, channel))
        try:
            started = time.monotonic()
            assert revealed(channel.secrets(wait_s=0.5))["p"] == b"x"
            assert 0.4 < time.monotonic() - started < 5
        finally:
            os.kill(int(pid_file.read_text()), 9)


def test_programs_that_a_kernel_starts_have_neither_the_descriptor_nor_the_variable() -> None:
    """The second time they have: the instrument can tell."""
    look = (
        "import subprocess\n"
        "fd = os.environ['MAILTLS_SECRET_CHANNEL'].split(':')[0]\n"
        "TAKE\n"
        "subprocess.run(['sh', '-c', f'test -e /proc/self/fd/{fd} && echo descriptor; env | grep SECRET_CHANNEL; :'],"
        " close_fds=False)"
    )
    with SecretChannel() as channel:
        assert finish(start(look.replace("TAKE", "take_over()"), channel)) == ""
        assert finish(start(look.replace("TAKE", "tell('p', Secret(b'x'))"), channel)) == ""
        seen = finish(start(look.replace("TAKE", "os.set_inheritable(int(fd), True)"), channel))
        assert "descriptor" in seen
        assert VARIABLE in seen


def test_without_a_channel_nothing_is_done() -> None:
    assert finish(start("tell('p', Secret(b'x')); print('went on')", None)) == "went on\n"


REFUSED = (
    "from mailtls_nb.errors import NotReady\ntry:\n    tell('p', Secret(b'x'))\nexcept NotReady as e:\n    print(e)"
)


def test_a_channel_that_nobody_reads_any_more_stops_the_run() -> None:
    """Each time it is tried: the parent may have died before the first secret or after it."""
    with SecretChannel() as channel:
        process = start(f"sys.stdin.readline()\n{REFUSED}\n{REFUSED}", channel)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    said = finish(process)
    assert said.count("cannot be told") == 2
    assert "nothing was done with that secret" in said


@pytest.mark.parametrize("where", ["", "7", "x:y:z", "999:1:1", "-1:1:1", f"{10**30}:1:1"])
def test_a_channel_that_is_none_stops_the_run(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, where)
    assert "cannot be told" in finish(start(REFUSED, None))


def test_a_secret_is_never_written_to_another_file_of_that_number(tmp_path: Path) -> None:
    """A process further down has the variable, and has opened a file that got the number."""
    other = tmp_path / "other"
    with SecretChannel() as channel:
        (fd,) = channel.pass_fds
        code = f"os.dup2(os.open({str(other)!r}, os.O_WRONLY | os.O_CREAT), {fd})\n{REFUSED}"
        assert "cannot be told" in finish(start(code, channel))
        assert channel.secrets() == {}
    assert other.read_bytes() == b""


def test_after_an_interruption_within_a_frame_no_other_is_begun() -> None:
    """The next one would be taken for the rest of it."""
    code = (
        "import signal\n"
        "from mailtls_nb.audit.leaks import secret_channel\n"
        "write = os.write\n"
        "def interrupted(fd, data):\n"
        "    write(fd, data[:5]); raise KeyboardInterrupt\n"
        "secret_channel.os.write = interrupted\n"
        "try:\n    tell('q', Secret(b'x' * 100))\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
        "secret_channel.os.write = write\n"
    )
    with SecretChannel() as channel:
        said = finish(start(f"tell('o', Secret(b'x'))\n{code}{REFUSED}", channel))
        assert "interrupted" in said
        assert "cannot be told" in said
        assert revealed(channel.secrets()) == {"o": b"x"}


def test_the_value_shows_nowhere() -> None:
    """Not in the channel's text form, and in no argument or environment of the process that told it."""
    with SecretChannel() as channel:
        process = start(
            "tell('p', Secret(sys.stdin.readline().strip().encode())); print('told', flush=True); sys.stdin.read()",
            channel,
            stdin=b"hunter2-hunter2\n",
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"told\n"
        about = Path(f"/proc/{process.pid}")
        assert b"tell('p'" in (about / "cmdline").read_bytes()
        assert VARIABLE.encode() in (about / "environ").read_bytes()
        assert b"hunter2" not in (about / "cmdline").read_bytes() + (about / "environ").read_bytes()
        finish(process)
        assert "hunter2" not in f"{channel!r} {channel.environment} {channel.secrets()}"
        assert revealed(channel.secrets()) == {"p": b"hunter2-hunter2"}
