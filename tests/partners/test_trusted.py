"""Postfix and Exim as partners: what trusting their CA changes in both sides' own logs. The CA is installed by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.partners.conftest import Partner, Passage

pytestmark = pytest.mark.testbed

_LINK = """
cd /etc/mail/certs
cat >"$1.pem"
ln -s "$1.pem" `openssl x509 -noout -hash -in "$1.pem"`.0
"""
# confCACERT is read when the daemon starts; openssl tells when the new one answers.
_ADVERTISE = """
cat "/etc/mail/certs/$1.pem" >>/etc/mail/certs/cacert.pem
kill -HUP `sed -n 1p /run/sendmail/mta/sendmail.pid`
for i in `seq 50`; do
    openssl s_client -connect 127.0.0.1:25 -starttls smtp </dev/null 2>/dev/null | grep "^CN = $2" && exit
    sleep 0.2
done
exit 1
"""
# What each says of our certificate, in its own words.
_VERIFIED_FROM_US = {"postfix": "Trusted TLS connection established from relay.example.test", "exim": " CV=yes "}
_VERIFIED_TO_US = {"postfix": "Trusted TLS connection established to relay.example.test", "exim": " CV=yes "}


def passed(passage: Passage) -> tuple[str, list[str]]:
    return passage.outcome, passage.verify


@pytest.fixture
def own_certificate_again(partner: Partner) -> Iterator[None]:
    yield
    partner.guest.speak()


def test_before_the_guest_is_a_stranger_who_gets_its_mail_through(partner: Partner) -> None:
    # Exim shows no certificate to a server that does not name its CA.
    assert passed(partner.writes()) == ("delivered", ["NO" if partner.guest.name == "exim" else "FAIL"])
    assert passed(partner.is_written_to()) == ("delivered", ["FAIL"])


def test_a_hash_link_is_enough_unless_the_guest_goes_by_the_names_of_cas(partner: Partner) -> None:
    """OpenSSL's clients show their certificate to anybody; those with GnuTLS look for their CA in the request."""
    partner.relay.sh(_LINK, partner.guest.name, stdin=partner.guest.ca.pem.decode())
    assert passed(partner.is_written_to()) == ("delivered", ["OK"])
    assert passed(partner.writes()) == ("delivered", ["NO" if partner.guest.name == "exim" else "OK"])


def test_with_its_ca_named_too_both_verify_each_other_both_ways(partner: Partner) -> None:
    partner.relay.sh(_ADVERTISE, partner.guest.name, f"{partner.guest.name.capitalize()} Partner CA")
    written, received = partner.writes(), partner.is_written_to()
    assert passed(written) == passed(received) == ("delivered", ["OK"])
    assert _VERIFIED_TO_US[partner.guest.name] in written.guest_log
    assert _VERIFIED_FROM_US[partner.guest.name] in received.guest_log


@pytest.mark.usefixtures("own_certificate_again")
def test_an_impostors_certificate_is_not_taken_for_the_guests(partner: Partner) -> None:
    partner.guest.speak(client_certificate="impostor")
    assert passed(partner.writes()) == ("delivered", ["FAIL"])


@pytest.mark.usefixtures("own_certificate_again")
def test_without_a_certificate_and_without_starttls_the_log_says_so(partner: Partner) -> None:
    partner.guest.speak(client_certificate="none", starttls=False)
    assert passed(partner.writes()) == ("delivered", ["NO"])
    assert passed(partner.is_written_to()) == ("delivered", [])
