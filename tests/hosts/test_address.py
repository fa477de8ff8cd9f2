"""Addresses: the five forms and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts import open_host
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.ssh import SshHost


def refuse_testbed(name: str) -> Host:
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("testbed:relay", HostAddress("testbed", "relay")),
        ("testbed:stranger", HostAddress("testbed", "stranger")),
        ("local", HostAddress("local")),
        ("local?sudo=yes", HostAddress("local", sudo=True)),
        ("docker://mail_1.test-2", HostAddress("docker", "mail_1.test-2")),
        ("podman://mail?sudo=yes", HostAddress("podman", "mail", sudo=True)),
        ("ssh://relay", HostAddress("ssh", "relay")),
        ("ssh://ops@relay.example.test:2222?sudo=yes", HostAddress("ssh", "relay.example.test", "ops", 2222, True)),
        ("ssh://192.0.2.1:22", HostAddress("ssh", "192.0.2.1", port=22)),
        ("ssh://root@[2001:db8::1]", HostAddress("ssh", "2001:db8::1", "root")),
        ("ssh://[fe80::1%eth0]:2222", HostAddress("ssh", "fe80::1%eth0", port=2222)),
        ("ssh://EXAMPLE\\admin@relay", HostAddress("ssh", "relay", "EXAMPLE\\admin")),
    ],
)
def test_the_forms(text: str, address: HostAddress) -> None:
    assert HostAddress.parse("host", text) == address
    assert str(address) == text
    assert address.is_testbed == text.startswith("testbed:")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "relay", "relay.example.test", "Local", "local ", " local", "local\n", "local:", "lo\0cal", "lökal"),
        *("testbed", "testbed:", "testbed:other", "testbed://relay", "testbed:relay?sudo=yes", "testbed:-x"),
        *("docker:mail", "docker://", "docker://-it", "docker://--privileged", "docker://a/b", "docker://a b"),
        *("docker://a;b", "docker://a@b", "docker://a?sudo=no", "docker://a?sudo=yes?sudo=yes", "lxc://a"),
        *("local?", "local?sudo", "local?sudo=YES", "local?user=root", "local?sudo=yes&a=b"),
        *("ssh:relay", "ssh://", "ssh://@relay", "ssh://-oProxyCommand=id", "ssh://-l@relay", "ssh://a@-relay"),
        *("ssh://relay:", "ssh://relay:0", "ssh://relay:65536", "ssh://relay:022", "ssh://relay:+22", "ssh://relay:x"),
        *(
            "ssh://relay/",
            "ssh://relay/etc",
            "ssh://2001:db8::1",
            "ssh://[2001:db8::1",
            "ssh://[relay]",
            "ssh://[::1]22",
        ),
        *(
            "ssh://[fe80::1%]",
            "ssh://[fe80::1%a b]",
            "ssh://a b@relay",
            "ssh://relay-",
            "ssh://re$(id)lay",
            "SSH://relay",
        ),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^parameter probe_from: "):
        HostAddress.parse("probe_from", text)


@pytest.mark.parametrize(
    "text",
    [
        *("ssh://ops:hunter2@relay", "ssh://ops:hunter2@x@relay", "ssh://ops:hunter2?@relay"),
        *("ssh://ops:hunter2 @relay", "docker://ops:hunter2@relay", "ops:hunter2@relay", "http://ops:hunter2@relay"),
    ],
)
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadParameter) as refusal:
        HostAddress.parse("host", text)
    assert "hunter2" not in str(refusal.value)


@given(st.text(alphabet=st.sampled_from("aA0-_.:@[]/?%=\\ \n'$sudoyehlcatr"), max_size=20))
def test_what_is_accepted_means_what_it_says(tail: str) -> None:
    """Whatever is accepted reads back the same, and nothing in it can pass as an option."""
    for form in ("", "ssh://", "docker://", "testbed:"):
        try:
            address = HostAddress.parse("host", form + tail)
        except BadParameter:
            continue
        assert HostAddress.parse("host", str(address)) == address
        assert not address.where.startswith("-")
        assert not address.user.startswith("-")


def test_opening() -> None:
    def opened(text: str) -> Host:
        return open_host(HostAddress.parse("host", text), testbed=refuse_testbed)

    assert opened("local?sudo=yes") == LocalHost("local?sudo=yes", sudo=True)
    assert opened("podman://mail") == ContainerHost(("podman",), "mail", "podman://mail")
    assert opened("ssh://a@[::1]:22?sudo=yes") == SshHost("a@::1", 22, "ssh://a@[::1]:22?sudo=yes", sudo=True)


def test_the_testbeds_hosts_come_from_the_testbed() -> None:
    relay = LocalHost("testbed:relay")
    assert open_host(HostAddress.parse("host", "testbed:relay"), testbed={"relay": relay}.__getitem__) is relay
