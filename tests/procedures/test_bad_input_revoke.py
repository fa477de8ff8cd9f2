"""Bad input to 05 and 09: refused before any host or CA directory is looked at, and said clearly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.procedures.conftest import assert_refused

RELAY_TWICE = "testbed:relay,testbed:relay"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("action", "Revoke", "is none of: revoke, refresh"),
        ("action", "untrust", "is none of"),
        ("serial", "0", "is not a serial number"),
        ("serial", "12e4567g", "is not a serial number"),
        ("serial", "0A,,0B", "is not a serial number"),
        ("serial", "0A;id", "is not a serial number"),
        ("serial", "$(id)", "is not a serial number"),
        ("serial", "F" * 41, "is not a serial number"),
        ("serial", "0A\x1b[31m", "holds a control character"),
        ("hostname", "relay", "has no domain"),
        ("hostname", "*.example.test", "is a wildcard"),
        ("hostname", "relay.example.test/../x", "is not a host name"),
        ("hostname", "192.0.2.1", "is an IP address"),
        ("revocation_reason", "", "is not a reason"),
        ("revocation_reason", "keycompromise", "did you mean keyCompromise"),
        ("revocation_reason", "removeFromCRL", "belongs to delta CRLs"),
        ("crl_days", "0", "is not between 1 and 3650"),
        ("crl_days", "3651", "is not between 1 and 3650"),
        ("crl_days", "thirty", "parameter crl_days"),
        ("crl_hosts", RELAY_TWICE, "testbed:relay stands there twice"),
        ("crl_hosts", "testbed:relay,", "is empty"),
        ("crl_hosts", "relay.example.test", "is not a host's address"),
        ("crl_hosts", "ssh://root:secret-word@relay", "holds a password"),
        ("crl_hosts", "ssh://-oProxyCommand=id", "parameter crl_hosts"),
        ("probe_from", "testbed:relay", "is one of crl_hosts"),
        ("ca_dir", "/srv/ca", "testbed is the passphrase of the testbed's own CA"),
        ("ca_passphrase", "secret-word", "is not a reference to a secret"),
        ("approve", "yes", "parameter approve"),
        ("host", "testbed:relay", "parameter host"),
        ("crl_host", "testbed:relay", "did you mean crl_hosts"),
    ],
)
def test_a_bad_value_of_05_is_refused_at_once(
    audit_dir: Path, capsys: pytest.CaptureFixture[str], name: str, value: str, problem: str
) -> None:
    assert_refused("05", {name: value}, problem, audit_dir, capsys)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"serial": "0A", "hostname": "relay.example.test"}, "cannot be used together with hostname"),
        ({"action": "refresh", "serial": "0A"}, "is not used to refresh"),
        ({"action": "refresh", "hostname": "relay.example.test"}, "is not used to refresh"),
        ({"ca_dir": "/srv/ca", "ca_passphrase": "env:PASS"}, "nothing says what is to be revoked"),
    ],
)
def test_what_does_not_go_together_in_05_is_refused(
    audit_dir: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], problem: str
) -> None:
    assert_refused("05", given, problem, audit_dir, capsys)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("stage", "", "is none of: both, reissue, withdraw, cancel"),
        ("stage", "Both", "is none of"),
        ("new_common_name", "", "parameter new_common_name: is empty"),
        ("new_common_name", "x" * 65, "is longer than 64 octets"),
        ("new_common_name", " CA", "starts or ends with a space"),
        ("new_common_name", "CA\x1b[31m", "holds a control character"),
        ("hosts", "", "parameter hosts: is empty"),
        ("hosts", RELAY_TWICE, "stands there twice"),
        ("hosts", "ssh://root:secret-word@relay", "holds a password"),
        ("partners_confirmed", "partner", "has no domain"),
        ("partners_confirmed", "partner.example.test,", "parameter partners_confirmed"),
        ("valid_days", "0", "is not between 1 and 36500"),
        ("key_type", "rsa-2048", "is too weak for a CA"),
        ("key_type", "dsa", "is not a key type"),
        ("probe_from", "testbed:relay", "is one of hosts"),
        ("ca_dir", "/srv/ca", "testbed is the passphrase of the testbed's own CA"),
        ("ca_passphrase", "secret-word", "is not a reference to a secret"),
        ("approve", "yes", "parameter approve"),
        ("partner_confirmed", "x.example.test", "did you mean partners_confirmed"),
    ],
)
def test_a_bad_value_of_09_is_refused_at_once(
    audit_dir: Path, capsys: pytest.CaptureFixture[str], name: str, value: str, problem: str
) -> None:
    assert_refused("09", {name: value}, problem, audit_dir, capsys)
