"""Partners that run Postfix and Exim, by the runbooks: trusted (03), enforced (04), refused when they fall out of line.

Judged by both sides' own logs. The tests of one partner build on one another, in order.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from tests.partners.conftest import Partner, Passage
from tests.procedures.conftest import Ran, Runbooks

pytestmark = pytest.mark.testbed

# The operator adds a CA to confCACERT, which is read when the daemon starts; openssl tells when the new one answers.
_NAME_CA_TO_CLIENTS = """
cat >>/etc/mail/certs/cacert.pem
kill -HUP `sed -n 1p /run/sendmail/mta/sendmail.pid`
for i in `seq 50`; do
    openssl s_client -connect 127.0.0.1:25 -starttls smtp </dev/null 2>/dev/null | grep "^CN = $1" && exit
    sleep 0.2
done
exit 1
"""
# In the guests' own words: whom they connected to, or who connected, had a certificate of our CA for that name.
_VERIFIED_TO_US = {"postfix": "Trusted TLS connection established to relay.example.test", "exim": " CV=yes "}
_VERIFIED_FROM_US = {"postfix": "Trusted TLS connection established from relay.example.test", "exim": " CV=yes "}


def passed(passage: Passage) -> tuple[str, list[str]]:
    return passage.outcome, passage.verify


def enforce(runbooks: Runbooks, partner: Partner, requirement: str) -> Ran:
    hostname = partner.guest.hostname
    return runbooks("04", partner=hostname, partner_domains=hostname, requirement=requirement)


def test_before_it_is_a_stranger_whose_mail_is_taken(partner: Partner) -> None:
    assert passed(partner.is_written_to()) == ("delivered", ["FAIL"])
    assert passed(partner.writes()) == ("delivered", ["NO" if partner.goes_by_names_of_cas else "FAIL"])


def test_trusted(partner: Partner, runbooks: Runbooks, tmp_path: Path) -> None:
    """The runbook and its remark: OpenSSL's clients show their certificate to anybody, GnuTLS's only where named."""
    file = tmp_path / "ca.pem"
    file.write_bytes(partner.guest.ca.pem)
    fingerprint = partner.guest.ca.certificate.fingerprint(hashes.SHA256()).hex()
    ran = runbooks("03", partner=partner.guest.hostname, partner_ca=str(file), partner_ca_fingerprint=fingerprint)
    assert (ran.error, ran.outcome) == (None, "changed")
    assert "needs the CA in CACertFile (confCACERT) as well" in ran.shown["observe"]
    if partner.goes_by_names_of_cas:
        assert passed(partner.writes()) == ("delivered", ["NO"])
        partner.relay.sh(_NAME_CA_TO_CLIENTS, partner.guest.ca_name, stdin=partner.guest.ca.pem.decode())
    written, received = partner.writes(), partner.is_written_to()
    assert passed(written) == passed(received) == ("delivered", ["OK"])
    assert _VERIFIED_TO_US[partner.guest.name] in written.guest_log
    assert _VERIFIED_FROM_US[partner.guest.name] in received.guest_log


def test_enforced(partner: Partner, runbooks: Runbooks) -> None:
    ran = enforce(runbooks, partner, "verify")
    assert (ran.error, ran.outcome) == (None, "changed")
    assert passed(partner.writes()) == passed(partner.is_written_to()) == ("delivered", ["OK"])


def test_an_impostors_certificate_is_refused(partner: Partner) -> None:
    """A CA of the same name has certified it, so that the rule's CI: alone would not do."""
    partner.guest.speak(client_certificate="impostor")
    written = partner.writes()
    assert passed(written) == ("refused", ["FAIL"])
    assert "503 5.7.0 authentication failed" in written.guest_log


def test_without_a_certificate_it_is_refused_and_without_starttls_our_mail_to_it_waits(partner: Partner) -> None:
    partner.guest.speak(client_certificate="none", starttls=False)
    written, received = partner.writes(), partner.is_written_to()
    assert passed(written) == ("refused", ["NO"])
    assert "503 5.7.0 not authenticated" in written.guest_log
    assert passed(received) == ("waits", [])
    assert "403 4.7.0" in received.relay_log
    assert f"root@{partner.guest.hostname}" in partner.relay.sh("mailq")


def test_after_the_undo_the_same_partner_is_heard_again_and_gets_what_waited(
    partner: Partner, runbooks: Runbooks
) -> None:
    # All that was delivered is there since long; 03 sent some as a proof.
    so_far = partner.received()
    ran = enforce(runbooks, partner, "none")
    assert (ran.error, ran.outcome) == (None, "changed")
    assert passed(partner.writes()) == ("delivered", ["NO"])
    assert passed(partner.is_written_to()) == ("delivered", [])
    assert partner.received(so_far + 2) == so_far + 2
    assert f"root@{partner.guest.hostname}" not in partner.relay.sh("mailq")
