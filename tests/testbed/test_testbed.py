"""The testbed: names agree, mail arrives, left-overs heal, a reset is a reset, and testbeds do not see each other."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtls_nb.errors import SetUpError
from mailtls_nb.hosts.base import Completed
from mailtls_nb.testbed import HOSTS, Testbed
from mailtls_nb.testbed.commands import down_command, status_command, up_command

pytestmark = [pytest.mark.testbed, pytest.mark.usefixtures("pristine")]


def run(testbed: Testbed, host: str, *argv: str) -> Completed:
    return testbed.host(host).run(argv, timeout_s=60)


def container_ids(testbed: Testbed) -> dict[str, str]:
    return {
        name: testbed.engine.run("inspect", "-f", "{{.Id}}", testbed.container_name(name), doing="test")
        for name in HOSTS
    }


def labelled(testbed: Testbed) -> str:
    label = f"label=mailtls-nb.testbed={testbed.identity}"
    return testbed.engine.run("ps", "-aq", "--filter", label, doing="test") + testbed.engine.run(
        "network", "ls", "-q", "--filter", label, doing="test"
    )


def mail_log(testbed: Testbed, host: str, *, until: str) -> str:
    """The host's mail log, once it has a line that holds the text."""
    for _ in range(50):
        log = run(testbed, host, "cat", "/var/log/mail.log").text
        if until in log:
            return log
        time.sleep(0.1)
    pytest.fail(f"no line with {until!r} in the mail log of {host}:\n{log}")


def send(testbed: Testbed, source: str, to: str, *options: str) -> Completed:
    recipient, sender = f"root@{to}.example.test", f"someone@{source}.example.test"
    return run(
        testbed, source, "swaks", "--to", recipient, "--from", sender, "--server", f"{to}.example.test", *options
    )


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, testbed: Testbed) -> Iterator[Testbed]:
    """Another checkout's testbed, up at the same time; the tests that break things break this one."""
    second = Testbed(tmp_path_factory.mktemp("second"), engine=testbed.engine)
    second.up()
    yield second
    second.down()


@pytest.mark.parametrize("inside", HOSTS)
def test_names_agree_both_ways_inside_every_host(testbed: Testbed, inside: str) -> None:
    assert run(testbed, inside, "hostname", "-f").text.strip() == f"{inside}.example.test"
    for name in HOSTS:
        address = testbed.address(name)
        forward = run(testbed, inside, "getent", "ahostsv4", f"{name}.example.test").text
        assert forward.split()[0] == address
        assert run(testbed, inside, "getent", "hosts", address).text.split()[1] == f"{name}.example.test"


def test_an_unknown_name_does_not_exist_and_nobody_else_is_asked(testbed: Testbed) -> None:
    start = time.monotonic()
    assert run(testbed, "relay", "getent", "hosts", "www.example.com").status == 2
    assert time.monotonic() - start < 4  # a resolver that asked somebody else would wait for 5 s


def test_mail_from_a_stranger_arrives_and_the_log_has_the_strangers_name(testbed: Testbed) -> None:
    sent = send(testbed, "stranger", "relay", "--header", "Subject: across the testbed")
    assert sent.status == 0, sent.text
    assert "250 2.0.0" in sent.text
    log = mail_log(testbed, "relay", until="stat=Sent")
    assert f"relay=stranger.example.test [{testbed.address('stranger')}]" in log
    assert "may be forged" not in log
    assert "unsafe" not in log
    assert b"across the testbed" in (testbed.host("relay").read("/var/mail/root") or b"")


@pytest.mark.parametrize("name", HOSTS)
def test_sendmail_is_the_distributions_with_starttls_and_its_own_start_script(testbed: Testbed, name: str) -> None:
    compiled = run(testbed, name, "sh", "-c", "sendmail -d0.4 -bt </dev/null").text
    assert "STARTTLS" in compiled
    assert f"$j = {name}.example.test" in compiled
    assert run(testbed, name, "dpkg", "--verify", "sendmail-bin", "sendmail-base").text == ""
    assert "accepting connections" in run(testbed, name, "ps", "-ef").text
    assert run(testbed, name, "test", "-s", "/run/sendmail/mta/sendmail.pid").status == 0


def test_the_start_script_reloads_and_restarts_the_daemon(second: Testbed) -> None:
    def pid() -> str:
        return run(second, "partner", "head", "-n1", "/run/sendmail/mta/sendmail.pid").text.strip()

    before = pid()
    run(second, "partner", "/etc/init.d/sendmail", "restart").check("restarting")
    after = pid()
    assert after != before
    run(second, "partner", "/etc/init.d/sendmail", "reload").check("reloading")
    second.up()
    assert send(second, "stranger", "partner").status == 0


def test_up_again_touches_nothing(testbed: Testbed) -> None:
    before = container_ids(testbed)
    testbed.up()
    assert container_ids(testbed) == before


@pytest.mark.parametrize("how", ["kill", "stop", "pause", "rm"])
def test_up_heals_a_host_that_was_ended_and_leaves_the_others(second: Testbed, how: str) -> None:
    before = container_ids(second)
    run(second, "relay", "touch", "/root/kept").check("marking")
    command = ["rm", "-f"] if how == "rm" else ["stop", "-t", "1"] if how == "stop" else [how]
    second.engine.run(*command, second.container_name("relay"), doing="test")
    assert [state.problem == "" for state in second.status()] == [False, True, True]
    second.up()
    assert [state.problem for state in second.status()] == ["", "", ""]
    after = container_ids(second)
    assert (after["partner"], after["stranger"]) == (before["partner"], before["stranger"])
    # A host that only has to be started again keeps what was done on it.
    assert (run(second, "relay", "test", "-e", "/root/kept").status == 0) is (how in ("kill", "stop"))


def test_up_heals_a_network_that_is_gone(second: Testbed) -> None:
    network = second.container_name("relay").removesuffix("-relay")
    for name in HOSTS:
        second.engine.run("network", "disconnect", "-f", network, second.container_name(name), doing="test")
    second.engine.run("network", "rm", network, doing="test")
    # A network that was only half made, by a process that was killed.
    label = f"mailtls-nb.testbed={second.identity}"
    second.engine.run("network", "create", "--label", label, f"{network}-probe", doing="test")
    second.up()
    assert send(second, "stranger", "relay").status == 0
    assert len(labelled(second).split()) == 4


def test_up_replaces_a_container_that_was_made_from_something_else(second: Testbed) -> None:
    before = container_ids(second)
    relay = second.container_name("relay")
    label = f"mailtls-nb.testbed={second.identity}"
    image = second.engine.run("inspect", "-f", "{{.Config.Image}}", relay, doing="test").strip()
    second.engine.run("rm", "-f", relay, doing="test")
    second.engine.run(
        "run", "-d", "--name", relay, "--label", label, "--label", "mailtls-nb.made-from=older", image, "sleep", "99",
        doing="test",
    )  # fmt: skip
    second.up()
    after = container_ids(second)
    assert after["relay"] != before["relay"]
    assert after["partner"] == before["partner"]
    assert send(second, "relay", "partner").status == 0


def test_reset_puts_the_hosts_back_and_removes_the_ca(second: Testbed) -> None:
    pristine = second.host("relay").read("/etc/mail/sendmail.mc")
    passphrase = second.passphrase().reveal()
    run(second, "relay", "sh", "-c", "echo spoilt >> /etc/mail/sendmail.mc").check("spoiling")
    second.ca_dir.mkdir()
    (second.ca_dir / "index.txt").write_text("V\n")
    addresses = [second.address(name) for name in HOSTS]
    second.reset()
    assert second.host("relay").read("/etc/mail/sendmail.mc") == pristine
    assert not second.ca_dir.exists()
    assert second.passphrase().reveal() == passphrase
    assert [second.address(name) for name in HOSTS] == addresses


def test_names_can_be_changed_on_one_host_and_a_reset_puts_them_back(second: Testbed) -> None:
    stranger = second.address("stranger")
    without = [line for line in second.hosts_lines() if not line.startswith(stranger)]
    second.set_dns("relay", without, ["mx-host=elsewhere.example.test,partner.example.test,10"])
    assert run(second, "relay", "getent", "hosts", stranger).status == 2
    assert run(second, "partner", "getent", "hosts", stranger).status == 0
    resolve = run(second, "relay", "sh", "-c", "echo '/mx elsewhere.example.test' | sendmail -bt")
    assert "partner.example.test" in resolve.text
    second.up()  # names changed on purpose are no fault
    sent = send(second, "stranger", "relay", "--from", "someone@partner.example.test")
    assert sent.status == 0, sent.text
    assert f"relay=[{stranger}]" in mail_log(second, "relay", until="stat=Sent")
    second.reset()
    assert run(second, "relay", "getent", "hosts", stranger).status == 0


def test_two_testbeds_do_not_see_each_other(testbed: Testbed, second: Testbed) -> None:
    assert not set(container_ids(testbed).values()) & set(container_ids(second).values())
    names = run(second, "stranger", "getent", "hosts", "relay.example.test").text
    assert testbed.address("relay") not in names


def test_the_passphrase_is_made_once_and_is_its_owners_only(tmp_path: Path) -> None:
    first, again = Testbed(tmp_path / "state"), Testbed(tmp_path / "state")
    assert first.passphrase().reveal() == again.passphrase().reveal()
    assert len(first.passphrase().reveal()) >= 24
    assert stat.S_IMODE((tmp_path / "state/passphrase").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["passphrase"]


def test_a_host_that_does_not_come_up_is_named_with_its_last_log_lines(second: Testbed) -> None:
    run(second, "relay", "sh", "-c", "mv /usr/sbin/sendmail-mta /usr/sbin/gone; pkill -f '^sendmail: MTA'")
    assert "port 25" in second.status()[0].problem
    second.engine.run("stop", "-t", "1", second.container_name("relay"), doing="test")
    with pytest.raises(SetUpError, match="relay does not come up: port 25"):
        second.up(ready_timeout_s=2)
    second.reset()


def test_the_commands_print_a_line_a_host_and_down_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILTLS_TESTBED", str(tmp_path))
    third = Testbed.of_checkout()
    assert third.state_dir == tmp_path
    assert status_command() == 1
    assert up_command() == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line.split() for line in lines] == [[f"{name}.example.test", third.address(name), "up"] for name in HOSTS]
    third.passphrase()
    third.ca_dir.mkdir()
    assert down_command() == 0
    assert labelled(third) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert down_command() == 0
