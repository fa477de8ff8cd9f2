"""What every host promises, over every transport, against real hosts."""

from __future__ import annotations

import posixpath
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import FrameType

import pytest

from mailtls_nb.errors import CommandTimedOut, FileAccessFailed, Unreachable
from mailtls_nb.hosts import scripts
from mailtls_nb.hosts.local import LocalHost

from .conftest import Case

ALL_BYTES = bytes(range(256))
ODD_NAMES = [
    "with space",
    'it\'s "quoted" `here` $HOME \\n',
    "two\nlines",
    "ends in a newline\n",
    "-rf",
    "*?[a-z]",
    "grün ✓",
    "not utf-8 \udcff",
    "~",
]


def wait_until(holds: Callable[[], bool], within_s: float = 8) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def unique_sleep() -> str:
    """A number of seconds that no other test sleeps, to be found by in the list of processes."""
    return f"{700 + secrets.randbelow(200)}.{secrets.randbelow(10**6):06d}"


class TestRun:
    def test_streams_and_status_come_back_apart(self, case: Case) -> None:
        done = case.host.run(["sh", "-c", "printf out; printf err >&2; exit 3"], timeout_s=20)
        assert (done.status, done.stdout, done.stderr) == (3, b"out", b"err")
        assert done.host == case.host.name

    def test_stdin_and_stdout_are_binary(self, case: Case) -> None:
        """Several megabytes, far more than a pipe holds, both ways at once."""
        data = ALL_BYTES * 12_000 + b"\n"
        assert case.host.run(["cat"], stdin=data, timeout_s=30).stdout == data

    def test_stderr_is_binary(self, case: Case) -> None:
        assert case.host.run(["sh", "-c", "cat >&2"], stdin=ALL_BYTES * 100, timeout_s=20).stderr == ALL_BYTES * 100

    def test_a_command_need_not_read_its_stdin(self, case: Case) -> None:
        assert case.host.run(["echo", "done"], stdin=ALL_BYTES * 20_000, timeout_s=20).stdout == b"done\n"

    def test_stdin_ends(self, case: Case) -> None:
        assert case.host.run(["wc", "-c"], timeout_s=20).text.strip() == "0"

    def test_arguments_arrive_as_they_are(self, case: Case) -> None:
        arguments = [
            "",
            " ",
            "$(id)",
            "-n",
            "a\\tb\\0101",
            "%s",
            *ODD_NAMES,
            ALL_BYTES[1:].decode("utf-8", "surrogateescape"),
        ]
        printed = case.host.run(["printf", r"%s\0", *arguments], timeout_s=20).stdout
        assert printed.split(b"\0")[:-1] == [a.encode("utf-8", "surrogateescape") for a in arguments]

    def test_a_large_output_is_streamed_in_pieces(self, case: Case) -> None:
        """All of it, in order, in pieces of bounded size, also where it ends like the beginning of a marker."""
        pieces: list[bytes] = []
        script = (
            'i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero; i=$((i + 1)); done; printf "\\036mailtls"; exit 3'
        )
        done = case.host.stream(["sh", "-c", script], pieces.append, timeout_s=30)
        assert b"".join(pieces) == bytes(4_000_000) + b"\x1emailtls"
        assert (done.status, done.stdout) == (3, b"")
        assert len(pieces) > 10
        assert max(map(len, pieces)) < 200_000

    def test_a_taker_that_fails_ends_the_command_there(self, case: Case) -> None:
        seconds = unique_sleep()

        def take(_piece: bytes) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            case.host.stream(["sh", "-c", 'head -c 500000 /dev/zero; sleep "$1"', "sh", seconds], take, timeout_s=600)
        assert wait_until(lambda: case.outside.processes(seconds) == [])

    def test_a_missing_program_is_status_127(self, case: Case) -> None:
        done = case.host.run(["no-such-program"], timeout_s=20)
        assert done.status == 127
        assert b"no-such-program" in done.stderr

    def test_a_command_that_speaks_like_a_broken_transport_is_still_data(self, case: Case) -> None:
        said = "ssh: connect to host x: Connection refused\nError: No such container: x\nsudo: a password is required"
        for status in (1, 125, 126, 127, 255):
            done = case.host.run(["sh", "-c", 'echo "$1" >&2; exit "$2"', "sh", said, str(status)], timeout_s=20)
            assert (done.status, done.stderr.decode()) == (status, said + "\n")

    def test_a_signal_is_128_more(self, case: Case) -> None:
        assert case.host.run(["sh", "-c", "kill -9 $$"], timeout_s=20).status == 137

    def test_who_one_is_and_in_what_surroundings(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        """The C locale, the root directory, and nothing of our own environment."""
        monkeypatch.setenv("MAILTLS_TEST_SECRET", "open sesame")
        printed = case.host.run(["sh", "-c", "pwd; id -u; echo $LC_ALL; env"], timeout_s=20).text
        directory, uid, locale, *environment = printed.splitlines()
        assert (directory, uid == "0", locale) == ("/", case.is_root, "C")
        assert "open sesame" not in printed
        assert any(line.startswith("PATH=") and line.endswith("/usr/sbin:/sbin") for line in environment)


@pytest.mark.parametrize("argv", [[], [""], ["-x"], ["echo", "a\0b"]])
def test_what_is_no_command_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="not a command"):
        LocalHost().run(argv, timeout_s=5)


class TestTimeOut:
    def test_ends_the_command_and_its_children_there(self, case: Case) -> None:
        """Also a child that does not heed a polite request."""
        seconds = unique_sleep()
        script = 'echo waiting; (trap "" TERM; sleep "$1"; sleep "$1") & sleep "$1"; :'
        with pytest.raises(CommandTimedOut, match="did not end within 1 s; it printed: waiting"):
            case.host.run(["sh", "-c", script, "sh", seconds], timeout_s=1)
        assert case.outside.processes(seconds) == []

    def test_leaves_no_watchdog_behind_a_command_that_ended(self, case: Case) -> None:
        limit_s = 500_000 + secrets.randbelow(100_000)
        for _ in range(3):
            case.host.run(["sleep", "0.2"], timeout_s=limit_s)
        assert case.outside.processes(str(limit_s)) == []

    def test_holds_when_the_client_here_is_killed(self, case: Case) -> None:
        """The host keeps the limit by itself: nothing here is left to do it."""
        if case.outside.prefix == ():
            pytest.skip("locally the client is the host's own shell")
        seconds = unique_sleep()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                case.host.run(["sh", "-c", 'sleep "$1"; :', "sh", seconds], timeout_s=2)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert wait_until(lambda: case.outside.processes(f"sleep {seconds}") != [], within_s=5)
        subprocess.run(["pkill", "-KILL", "-f", f"^(ssh|docker|podman).* {seconds}"], check=True)
        thread.join(5)
        assert [type(failure) for failure in failures] == [Unreachable]
        assert "was lost while a command ran" in str(failures[0])
        assert case.outside.processes(f"sleep {seconds}") != []
        assert wait_until(lambda: case.outside.processes(seconds) == [])

    def test_an_interruption_here_ends_the_command_there(self, case: Case) -> None:
        seconds = unique_sleep()

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.7)
        try:
            with pytest.raises(KeyboardInterrupt):
                case.host.run(["sleep", seconds], timeout_s=600)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert wait_until(lambda: case.outside.processes(seconds) == [])

    def test_a_daemon_outlives_its_command_and_does_not_hold_it_up(self, case: Case) -> None:
        seconds = unique_sleep()
        began = time.monotonic()
        done = case.host.run(["sh", "-c", 'sleep "$1" & echo started', "sh", seconds], timeout_s=20)
        assert (done.status, done.stdout) == (0, b"started\n")
        assert time.monotonic() - began < 5
        assert len(case.outside.processes(seconds)) == 1
        case.outside.sh('pkill -f "^sleep $1"', seconds)


class TestFiles:
    def test_odd_names(self, case: Case) -> None:
        """Each file holds its own name."""
        names = {name: name.encode("utf-8", "surrogateescape") for name in ODD_NAMES}
        for name, data in names.items():
            case.host.write(posixpath.join(case.directory, name), data, mode=0o600, owner=case.owner)
        there = case.outside.sh('cd "$1" && printf "%s\\0" * | od -An -v -tx1', case.directory)
        assert sorted(bytes.fromhex("".join(there.split())).split(b"\0")[:-1]) == sorted(names.values())
        for name, data in names.items():
            assert case.host.read(posixpath.join(case.directory, name)) == data

    def test_large_and_empty(self, case: Case) -> None:
        path = f"{case.directory}/file"
        for data in (ALL_BYTES * 20_000, b"", b"no newline"):
            case.host.write(path, data, mode=0o600, owner=case.owner)
            assert case.host.read(path) == data

    def test_mode_and_owner(self, case: Case) -> None:
        owner = "nobody:mail" if case.is_root and case.outside.prefix else case.owner
        for mode in (0o600, 0o644, 0o755, 0o2750):
            case.host.write(f"{case.directory}/file", b"", mode=mode, owner=owner)
            seen = case.outside.sh('stat -c "%a %U:%G" "$1"', f"{case.directory}/file").strip()
            assert seen == f"{mode:o} {owner}"

    def test_a_reader_sees_the_old_content_or_the_new(self, case: Case) -> None:
        path = f"{case.directory}/file"
        contents = [letter * 300_000 for letter in (b"a", b"b")]
        case.host.write(path, contents[0], mode=0o600, owner=case.owner)

        def write() -> None:
            for turn in range(4):
                case.host.write(path, contents[turn % 2], mode=0o600, owner=case.owner)

        seen = readings_while(case, path, write)
        assert seen <= set(contents)

    @pytest.mark.testbed
    def test_a_writer_that_is_not_atomic_is_seen(self, container_case: Case) -> None:
        """So the reader of the test above is able to see a part."""
        path = f"{container_case.directory}/file"
        naive = 'printf aaaa >"$1"; sleep 1; printf bbbb >>"$1"'
        seen = readings_while(
            container_case, path, lambda: container_case.host.run(["sh", "-c", naive, "sh", path], timeout_s=9)
        )
        assert b"aaaa" in seen

    def test_nothing_there(self, case: Case) -> None:
        case.outside.sh('ln -s nowhere "$1/dangling"', case.directory)
        assert case.host.read(f"{case.directory}/none") is None
        assert case.host.read(f"{case.directory}/none/none") is None
        assert case.host.read(f"{case.directory}/dangling") is None

    def test_read_follows_a_link(self, case: Case) -> None:
        case.outside.sh('cd "$1" && echo here >file && ln -s file link', case.directory)
        assert case.host.read(f"{case.directory}/link") == b"here\n"

    def test_write_refuses_a_link(self, case: Case) -> None:
        case.outside.sh('cd "$1" && echo here >file && ln -s file link', case.directory)
        with pytest.raises(FileAccessFailed, match="it is a symbolic link to file\n"):
            case.host.write(f"{case.directory}/link", b"", mode=0o600, owner=case.owner)
        assert case.outside.sh('cat "$1/file"', case.directory) == "here\n"

    def test_what_is_not_a_regular_file(self, case: Case) -> None:
        case.outside.sh('mkfifo "$1/pipe"', case.directory)
        for path in (case.directory, f"{case.directory}/pipe", "/dev/zero"):
            with pytest.raises(FileAccessFailed, match="it is not a regular file"):
                case.host.read(path)
            with pytest.raises(FileAccessFailed, match="it is not a regular file"):
                case.host.write(path, b"", mode=0o600, owner=case.owner)

    def test_a_relative_path_is_refused(self, case: Case) -> None:
        for path in ("", "file", "-file", "./file", "/tmp/", "/tmp/a\0b"):
            with pytest.raises(FileAccessFailed, match="is not the absolute path of a file"):
                case.host.read(path)

    def test_too_large_to_read(self, case: Case) -> None:
        case.outside.sh('truncate -s 65M "$1/file" && chmod 644 "$1/file"', case.directory)
        with pytest.raises(FileAccessFailed, match="larger than 64 MiB"):
            case.host.read(f"{case.directory}/file")

    def test_without_permission(self, case: Case) -> None:
        """A directory that may not be searched is not taken for one that has no such file."""
        if case.is_root:
            pytest.skip("root may read everything")
        case.outside.sh(
            'cd "$1" && echo x >secret && chmod 600 secret && chown 0 secret && mkdir -m 700 shut', case.directory
        )
        for path in ("secret", "shut/file"):
            with pytest.raises(FileAccessFailed, match="Permission denied"):
                case.host.read(f"{case.directory}/{path}")

    def test_an_unknown_owner_leaves_all_as_it_was(self, case: Case) -> None:
        path = f"{case.directory}/file"
        case.host.write(path, b"old", mode=0o600, owner=case.owner)
        for owner in ("no-such-user:mail", "root:no-such-group"):
            with pytest.raises(FileAccessFailed, match=r"chown: invalid (user|group)") as failure:
                case.host.write(path, b"new", mode=0o600, owner=owner)
            assert "the file there is as it was" in str(failure.value)
        assert case.outside.sh('cd "$1" && ls -A && cat file', case.directory) == "file\nold"

    def test_a_directory_that_is_not_there(self, case: Case) -> None:
        with pytest.raises(FileAccessFailed, match=f"there is no directory {case.directory}/none\n"):
            case.host.write(f"{case.directory}/none/file", b"", mode=0o600, owner=case.owner)

    def test_a_read_only_directory(self, case: Case) -> None:
        """Root is refused by a file system mounted read-only, others by the directory's mode."""
        directory = case.directory
        if case.is_root:
            directory = "/sys"
        else:
            case.outside.sh('chown 0 "$1"', directory)
        with pytest.raises(FileAccessFailed, match=r"Read-only file system|Permission denied"):
            case.host.write(f"{directory}/mailtls-nb-test", b"", mode=0o600, owner=case.owner)
        assert case.host.read(f"{directory}/mailtls-nb-test") is None

    def test_a_full_disk(self, case: Case) -> None:
        if case.outside.prefix == ():
            pytest.skip("only a container has a file system of its own to fill")
        directory = f"/dev/shm/{posixpath.basename(case.directory)}"
        case.outside.sh(
            'mkdir "$1" && chown "$2" "$1"; cat /dev/zero >"$1/fill" 2>/dev/null || :', directory, case.owner
        )
        try:
            case.outside.sh('truncate -s -64K "$1/fill"', directory)
            case.host.write(f"{directory}/file", b"old", mode=0o600, owner=case.owner)
            with pytest.raises(FileAccessFailed, match="No space left on device"):
                case.host.write(f"{directory}/file", bytes(200_000), mode=0o600, owner=case.owner)
            assert case.outside.sh('cd "$1" && ls -A && cat file', directory) == "file\nfill\nold"
        finally:
            case.outside.sh('rm -rf "$1"', directory)


class TestInterruptedWrite:
    """The script that writes is fed by hand, so that it can be looked at half-way."""

    def start(self, case: Case, size: int) -> tuple[subprocess.Popen[bytes], str]:
        temporary = f"{case.directory}/.mailtls-nb.test"
        case.host.write(f"{case.directory}/file", b"old", mode=0o600, owner=case.owner)
        parameters = (f"{case.directory}/file", case.directory, temporary, str(size), "0644", case.owner)
        argv = ["sudo", "-n"] if case.host.sudo else []
        client = case.host.rewrite([*argv, "sh", "-c", scripts.WRITE, "sh", *parameters])
        process = subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"half")
        process.stdin.flush()
        assert wait_until(lambda: case.outside.sh('cat "$1" 2>/dev/null || :', temporary) == "half")
        return process, temporary

    def test_nobody_else_may_read_a_file_that_is_being_written(self, case: Case) -> None:
        process, temporary = self.start(case, 8)
        assert case.outside.sh('stat -c "%a %U:%G" "$1"', temporary).strip() == f"600 {case.owner}"
        assert case.outside.sh('cat "$1/file"', case.directory) == "old"
        process.communicate(b"half", timeout=20)
        assert process.returncode == 0
        assert (
            case.outside.sh('cd "$1" && ls -A && cat file && stat -c %a file', case.directory) == "file\nhalfhalf644\n"
        )

    def test_a_short_transfer_never_becomes_the_file(self, case: Case) -> None:
        process, _ = self.start(case, 8)
        printed, _ = process.communicate(timeout=20)
        assert (process.returncode, printed.split()[-1]) == (scripts.WRITE_SHORT, b"4")
        assert case.outside.sh('cd "$1" && ls -A && cat file', case.directory) == "file\nold"

    def test_a_client_that_is_killed_leaves_the_old_file_and_nothing_else(self, case: Case) -> None:
        process, _ = self.start(case, 8)
        process.kill()
        process.communicate(timeout=20)
        if case.outside.prefix == () and not case.host.sudo:
            # Here the script itself was killed: its temporary file stays, recognisable and closed.
            assert case.outside.sh('cd "$1" && stat -c "%n %a" .mailtls*', case.directory) == ".mailtls-nb.test 600\n"
            case.outside.sh('rm "$1/.mailtls-nb.test"', case.directory)
        assert wait_until(lambda: case.outside.sh('cd "$1" && ls -A && cat file', case.directory) == "file\nold")


def readings_while(case: Case, path: str, writing: Callable[[], object]) -> set[bytes]:
    """All the contents that are read while something writes."""
    writer = threading.Thread(target=writing)
    seen = set()
    writer.start()
    while writer.is_alive():
        content = case.host.read(path)
        if content is not None:
            seen.add(content)
    writer.join()
    return seen
