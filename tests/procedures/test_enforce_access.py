"""04 on real sendmail: what is refused before anything is touched, what is proved after, and that a failure undoes it.

All tests share one relay that has a certificate of our CA and trusts the partner's.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from mailtls_nb.procedures.enforce import put_into_force
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

PINNED = "VERIFY:112+CI:/CN=Partner+20Mail+20CA"


@dataclass(frozen=True)
class Enforced:
    """The relay with its partner, and runs of 04 there: on the testbed, or as on an operator's own hosts."""

    runbooks: Runbooks
    machines: Machines
    original: str

    def __call__(self, **given: str | int) -> Ran:
        return self.runbooks("04", **given)

    def elsewhere(self, **given: str | int) -> Ran:
        """The same relay, named as an operator names his own: nothing is delivered, and the rulesets are asked."""
        relay, stranger = (f"docker://{machine.name}" for machine in (self.machines.relay, self.machines.stranger))
        names = {"partner_domains": "partner.example.test"}
        return self(**{"host": relay, "probe_from": stranger, "approve": "auto", **names, **given})

    @property
    def relay(self) -> Machine:
        return self.machines.relay

    def access(self) -> str:
        return self.relay.sh("cat /etc/mail/access")

    def in_service(self) -> list[str]:
        """The TLS entries that the database holds, as makemap reads it back."""
        return sorted(
            self.relay.sh("makemap -u hash /etc/mail/access | grep -i -E '^(tls_|try_tls)' || :").splitlines()
        )

    def rules(self, script: str) -> None:
        """Change the access map by hand, with its database."""
        self.relay.sh(f"cd /etc/mail && {script} && makemap hash access <access")


@pytest.fixture(scope="module")
def enforced(machines: Machines, runbooks: Runbooks) -> Enforced:
    for runbook in ("01", "02", "03"):
        ran = runbooks(runbook)
        assert ran.outcome == "changed", ran.error
    return Enforced(runbooks, machines, machines.relay.sh("cat /etc/mail/access"))


# -- refused before anything is touched


def refused(ran: Ran) -> str:
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert "State: nothing was touched" in ran.said
    assert "Next: " in ran.said
    return ran.said


def test_a_text_newer_than_its_database(enforced: Enforced) -> None:
    """Making the database would bring somebody else's half-done change into force."""
    enforced.relay.sh("echo 'Connect:192.0.2.1 REJECT' >>/etc/mail/access")
    said = refused(enforced.elsewhere())
    enforced.rules("sed -i '$d' access")
    assert "its database was not made anew" in said
    assert enforced.access() == enforced.original


def test_a_text_that_makemap_refuses(enforced: Enforced) -> None:
    enforced.relay.sh("printf 'Connect:192.0.2.1 REJECT\\nconnect:192.0.2.1 OK\\n' >>/etc/mail/access")
    said = refused(enforced.elsewhere())
    enforced.rules("sed -i -e '$d' access && sed -i '$d' access")
    assert "makemap does not take /etc/mail/access" in said
    assert "duplicate key" in said


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("TLS_Clt:partner.example.test ENCR:112", "there is an entry TLS_Clt:partner.example.test already"),
        ("tls_srv:PARTNER.example.test OK", "there is an entry TLS_Srv:PARTNER.example.test already"),
        ("TLS_Rcpt:postmaster@partner.example.test OK", "would not decide as asked for"),
        ("TLS_Clt:mx7.partner.example.test OK", "mx7.partner.example.test"),
        ("Try_TLS:example.test NO", "keeps sendmail from STARTTLS"),
    ],
)
def test_an_entry_of_the_operators_own_that_is_in_the_way(enforced: Enforced, line: str, problem: str) -> None:
    enforced.rules(f"echo '{line}' >>access")
    said = refused(enforced.elsewhere())
    enforced.rules("sed -i '$d' access")
    assert problem in said
    assert "/etc/mail/access" in said


def test_a_cf_without_an_access_map(enforced: Enforced) -> None:
    """There every TLS_ entry is dead, and nobody is told."""
    enforced.relay.sh("cp -p /etc/mail/sendmail.cf /root/cf; sed -i '/^Kaccess/d' /etc/mail/sendmail.cf")
    said = refused(enforced.elsewhere())
    enforced.relay.sh("mv /root/cf /etc/mail/sendmail.cf")
    assert "FEATURE(`access_db')" in said


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"partner": "stranger.example.test"}, "it does not offer STARTTLS"),
        ({"partner": "stranger.example.test", "identity": "any"}, "mail to it would stop"),
        ({"partner": "partnr.example.test", "identity": "any"}, "DNS has no address for partnr.example.test"),
        ({"identity": "CI:/CN=Typo+20CA"}, "with its certificate: deferred (4xx), and should be accepted"),
    ],
)
def test_a_partner_whose_mail_would_stop(enforced: Enforced, given: dict[str, str], problem: str) -> None:
    assert problem in refused(enforced.elsewhere(**given))


def test_an_access_map_that_is_a_link(enforced: Enforced) -> None:
    enforced.relay.sh("cd /etc/mail && mv access access.real && ln -s access.real access")
    said = refused(enforced.elsewhere())
    enforced.relay.sh("cd /etc/mail && mv -f access.real access")
    assert "is a symbolic link" in said


def test_a_daemon_that_runs_by_an_older_configuration(enforced: Enforced) -> None:
    """It may have another access map, or none: what the file says is not what is in force."""
    enforced.relay.sh("cp -p /etc/mail/sendmail.cf /root/cf; touch /etc/mail/sendmail.cf")
    said = refused(enforced.elsewhere())
    enforced.relay.sh("mv /root/cf /etc/mail/sendmail.cf")
    assert "is newer than the running daemon" in said


def test_a_partner_whose_ca_is_not_trusted(enforced: Enforced) -> None:
    links = enforced.relay.sh("cd /etc/mail/certs; for f in *.0; do echo $f `readlink $f`; rm $f; done").splitlines()
    said = refused(enforced.elsewhere())
    for line in links:
        enforced.relay.sh('ln -s "$2" "/etc/mail/certs/$1"', *line.split())
    assert "does not verify" in said
    assert "03-trust-partner" in said


# -- as on an operator's own hosts: by the rulesets, and nothing is delivered


def test_a_host_named_by_its_container(enforced: Enforced) -> None:
    log = enforced.machines.partner.log()
    ran = enforced.elsewhere(addresses="192.0.2.0/23")
    assert (ran.outcome, ran.exit_status) == ("changed", 0), ran.error
    proofs = [proof for _, proof in ran.claims.values()]
    assert proofs.count("live") == 2
    assert proofs.count("oracle") == len(proofs) - 2
    assert ran.claims["the partner connects, its reverse name missing, without STARTTLS"][0] == "rejected (5xx)"
    assert ran.claims["mail to another domain is sent without STARTTLS"][0] == "accepted"
    negatives = [claim for claim in ran.record["claims"] if claim["negative"]]
    assert negatives
    assert {claim["fails_when"] for claim in negatives} == {"before the change: accepted"}
    assert enforced.in_service() == [
        f"tls_clt:192.0.2\tPERM+{PINNED}",
        f"tls_clt:192.0.3\tPERM+{PINNED}",
        f"tls_clt:partner.example.test\tPERM+{PINNED}",
        f"tls_rcpt:partner.example.test\tTEMP+{PINNED}",
        f"tls_srv:partner.example.test\tTEMP+{PINNED}",
    ]
    added = enforced.machines.partner.log().removeprefix(log)
    assert "from=<" not in added
    assert enforced.elsewhere(addresses="192.0.2.0/23").outcome == "unchanged"
    # In force, and no longer to be met: mail has stopped, and nobody is told that all is well.
    enforced.relay.sh("cd /etc/mail/certs; for f in *.0; do mv $f $f.away; done")
    said = refused(enforced.elsewhere(addresses="192.0.2.0/23"))
    enforced.relay.sh("cd /etc/mail/certs; for f in *.away; do mv $f ${f%.away}; done")
    assert "does not verify" in said


def test_a_rule_that_changes_keeps_what_others_are_held_to(enforced: Enforced) -> None:
    ran = enforced.elsewhere(partner="other.example.test", addresses="192.0.2.9", identity="any", directions="server")
    assert ran.outcome == "changed", ran.error
    ran = enforced.elsewhere(requirement="encrypt", directions="client", bits=128)
    assert ran.outcome == "changed", ran.error
    # What is dropped with it is said.
    assert "no longer held: the partner connects, without STARTTLS" in ran.shown["observe"]
    assert ran.claims["no longer held: the partner connects, without STARTTLS"][0] == "accepted"
    assert enforced.in_service() == [
        "tls_clt:192.0.2.9\tPERM+VERIFY:112",
        "tls_clt:other.example.test\tPERM+VERIFY:112",
        "tls_srv:partner.example.test\tTEMP+ENCR:128",
    ]


def test_everyone_is_held_to_it_but_the_host_itself(enforced: Enforced) -> None:
    ran = enforced.elsewhere(everyone="yes", identity="any", directions="server")
    assert ran.outcome == "changed", ran.error
    assert ran.claims["anybody connects, without STARTTLS"] == ("rejected (5xx)", "oracle")
    assert ran.claims["a program on the host itself, without STARTTLS"] == ("accepted", "live")
    # By hand, from outside and from inside.
    ask = 'swaks --server "$1" --from root@stranger.example.test --to root@relay.example.test --quit-after RCPT'
    assert "503 5.7.0" in enforced.machines.stranger.sh(ask, "relay.example.test", status=None)
    assert "503 5.7.0" not in enforced.relay.sh(ask, "127.0.0.1", status=None)


def test_a_rule_can_be_taken_back_while_others_hold_the_partner(enforced: Enforced) -> None:
    ran = enforced.elsewhere(requirement="none")
    assert ran.outcome == "changed", ran.error
    assert "Other rules stay in force" in ran.shown["observe"]
    assert ran.claims["the partner connects, without STARTTLS"] == ("rejected (5xx)", "oracle")


def test_taken_back_the_file_is_what_it_was(enforced: Enforced) -> None:
    assert enforced.elsewhere(requirement="none", everyone="yes").outcome == "changed"
    assert enforced.elsewhere(requirement="none", partner="other.example.test").outcome == "changed"
    assert enforced.access() == enforced.original
    assert enforced.in_service() == []


def test_a_map_that_changes_after_the_plan_was_approved(enforced: Enforced) -> None:
    def meanwhile() -> None:
        enforced.rules("echo 'Connect:192.0.2.1 REJECT' >>access")

    given = {"host": f"docker://{enforced.relay.name}", "probe_from": "here", "partner_domains": "partner.example.test"}
    ran = enforced.runbooks.disturbed(meanwhile, "04", **given, approve="auto")
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert "has changed since the plan was made" in ran.said
    enforced.rules("sed -i '$d' access")
    assert enforced.access() == enforced.original


def test_a_run_that_is_killed_between_text_and_database(enforced: Enforced, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left would come into force at somebody's next make; the next run undoes it first."""
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(put_into_force, "_make_map", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        enforced.elsewhere()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert enforced.access() != enforced.original
    assert enforced.in_service() == []
    ran = enforced.elsewhere(requirement="none")
    assert (ran.outcome, ran.actions) == ("changed", []), ran.error
    assert enforced.access() == enforced.original


# -- on the testbed: with live mail


def test_the_plan_alone_touches_nothing(enforced: Enforced) -> None:
    before = enforced.relay.tree()
    ran = enforced(approve="")
    assert ran.outcome == "planned"
    assert ran.actions == ["write", "map"]
    assert "accepted now, then rejected (5xx)" in ran.shown["plan"]
    assert ran.record["plan"]["impact"]["messages"] > 0
    assert enforced.relay.tree() == before


def test_a_partner_that_fails_the_proof_is_not_enforced(enforced: Enforced) -> None:
    """The partner's server goes away once the plan is approved: its mail cannot be shown to leave verified."""
    before = enforced.relay.tree()

    def meanwhile() -> None:
        enforced.machines.partner.sh("kill `sed -n 1p /run/sendmail/mta/sendmail.pid`")

    ran = enforced.runbooks.disturbed(meanwhile, "04")
    enforced.machines.partner.sh("/etc/init.d/sendmail start", status=None)
    assert ran.outcome == "failed"
    assert enforced.relay.tree() == before
    assert enforced.access() == enforced.original


def test_the_partner_is_held_to_it(enforced: Enforced) -> None:
    daemon = enforced.relay.daemon()
    ran = enforced()
    assert (ran.outcome, ran.exit_status) == ("changed", 0), ran.error
    assert {proof for _, proof in ran.claims.values()} == {"live"}
    assert {claim: seen for claim, (seen, _) in ran.claims.items()} == {
        "the partner with its own certificate": "accepted",
        "the partner without STARTTLS": "rejected (5xx)",
        "the partner without a certificate": "rejected (5xx)",
        "the partner with a certificate of an unknown CA": "rejected (5xx)",
        "the partner with an expired certificate": "rejected (5xx)",
        "the partner with a certificate of another trusted CA": "rejected (5xx)",
        "the partner without STARTTLS, its reverse name missing": "rejected (5xx)",
        "a stranger without STARTTLS": "accepted",
        "a program on the host itself, without STARTTLS": "accepted",
        "a message to the partner leaves": "verify=OK",
        "a message to the partner while it offers no STARTTLS": "stays in the queue",
        "the message that waited leaves once the partner offers it again": "verify=OK",
        "a message to the partner while DNS leads to a server without STARTTLS": "stays in the queue",
    }
    negatives = [claim for claim in ran.record["claims"] if claim["negative"]]
    assert all(claim["fails_when"].startswith("before the change: ") for claim in negatives)
    assert enforced.relay.daemon() == daemon
    # Nothing of the proof stays.
    assert "impostors" not in enforced.machines.partner.sh("ls /var/lib")
    assert "proof" not in enforced.relay.sh("ls /etc/mail/certs")
    again = enforced()
    assert again.outcome == "unchanged"
    assert {proof for _, proof in again.claims.values()} == {"oracle"}


def test_a_message_by_the_partners_own_sendmail_is_taken(enforced: Enforced) -> None:
    """Not a probe of ours: the partner's mail server, its queue, its log."""
    partner = enforced.machines.partner
    partner.sh("echo hello | /usr/sbin/sendmail -Am -f root@partner.example.test root@relay.example.test")
    wait = (
        "for i in 1 2 3 4 5 6 7 8 9 10; do grep 'to=<root@relay.example.test>' /var/log/mail.log && exit; sleep 1; done"
    )
    assert "stat=Sent" in partner.sh(wait).splitlines()[-1]


def test_starttls_is_kept_from_a_partner_where_it_is_broken(enforced: Enforced) -> None:
    ran = enforced(requirement="never")
    assert ran.outcome == "changed", ran.error
    assert ran.claims["a message to the partner leaves"] == ("sent without TLS", "live")
    assert ran.claims["the partner without STARTTLS"] == ("accepted", "live")
    assert enforced.in_service() == ["try_tls:partner.example.test\tNO"]


def test_none_takes_everything_back(enforced: Enforced) -> None:
    ran = enforced(requirement="none")
    assert ran.outcome == "changed", ran.error
    assert ran.claims["the partner without STARTTLS"] == ("accepted", "live")
    assert ran.claims["so it does while the partner offers no STARTTLS"] == ("sent without TLS", "live")
    assert enforced.access() == enforced.original
    assert enforced(requirement="none").outcome == "unchanged"
