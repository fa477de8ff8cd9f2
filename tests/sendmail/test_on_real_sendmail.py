"""The layout and the managed block against the distribution's sendmail and its m4."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.sendmail.cf import m4_errors, options
from mailtls_nb.sendmail.mc import OPTIONS, cf_options, with_managed_block
from mailtls_nb.testbed import Testbed

pytestmark = pytest.mark.testbed

FILES = Path(__file__).parent / "mc"


@pytest.fixture(scope="module")
def relay(pristine: Testbed) -> Host:
    return pristine.host("relay")


def build(host: Host, mc: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """The options of the cf that real m4 makes of ``mc``, and m4's errors."""
    completed = host.run(["m4"], stdin=mc, timeout_s=60)
    return options(completed.stdout), m4_errors(completed.stderr.decode())


def test_pristine_debian(relay: Host) -> None:
    """The host's own answers: version, paths, service; STARTTLS is compiled in though not yet configured."""
    layout = observe_layout(relay)
    assert (layout.profile, layout.proved, layout.remarks) == ("Debian", True, ())
    assert layout.version[:2] == (8, 17)
    assert layout.canonical_name == "relay.example.test"
    assert (layout.mc, layout.cf) == ("/etc/mail/sendmail.mc", "/etc/mail/sendmail.cf")
    assert layout.submit_cf == "/etc/mail/submit.cf"
    assert (layout.service.kind, layout.service.name) == ("sysv", "/etc/init.d/sendmail")
    pid_file = relay.read(layout.pid_file)
    assert pid_file is not None
    assert pid_file.split(b"\n")[1].decode().split() == list(layout.daemon_argv)
    assert layout.openssl == "/usr/bin/openssl"
    assert layout.openssl_version.startswith("OpenSSL 3.")
    assert not layout.drifted
    assert not layout.interrupted


def test_a_cf_edited_by_hand_is_seen(relay: Host) -> None:
    """The .mc would not build what is in use; with the edit taken back it would."""
    relay.run(["sh", "-c", "cp -p /etc/mail/sendmail.cf /root/cf && echo '#' >/etc/mail/sendmail.cf"], timeout_s=10)
    assert observe_layout(relay).drifted
    relay.run(["mv", "/root/cf", "/etc/mail/sendmail.cf"], timeout_s=10)
    assert not observe_layout(relay).drifted


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            r'exec /usr/libexec/sendmail/sendmail "$@" | sed "s/ STARTTLS\$//; s/ STARTTLS / /"',
            "built without STARTTLS",
        ),
        (r'echo "sendmail: unsupported operation mode bt"; exit 64', "is not sendmail"),
    ],
)
def test_another_program_behind_sendmail_is_refused(relay: Host, script: str, message: str) -> None:
    """A wrapper stands for a sendmail without STARTTLS and for another mail server."""
    relay.write("/root/wrapper", b"#!/bin/sh\n" + script.encode() + b"\n", mode=0o755, owner="root:root")
    relay.run(["ln", "-sf", "/root/wrapper", "/usr/sbin/sendmail"], timeout_s=10)
    try:
        with pytest.raises(NotReady, match=message):
            observe_layout(relay)
    finally:
        relay.run(["ln", "-sf", "/etc/alternatives/sendmail", "/usr/sbin/sendmail"], timeout_s=10)
    assert observe_layout(relay).starttls


# Words that m4 or sendmail's macros would act upon, were they not quoted.
PATHS = [
    "/etc/mail/certs/relay.example.test.pem",
    "/etc/dnl/define/include/syscmd/x.pem",
    "/MAIL_SETTINGS_DIR/__file__/__line__/divert/confCACERT",
    "/etc/undefine/ifdef/eval/len/shift/MAILER/FEATURE/dnl",
    "/a+b@c:d=e-f_g.h/define/dnl.dnl",
]


@pytest.mark.parametrize("path", PATHS)
def test_values_stay_literal_in_real_m4(relay: Host, path: str) -> None:
    """Each of the six options comes out of m4 as it went in, whatever words its path is made of."""
    mc = relay.read("/etc/mail/sendmail.mc")
    assert mc is not None
    settings = dict.fromkeys(OPTIONS, path)
    found, errors = build(relay, with_managed_block(mc, settings))
    assert errors == ()
    assert {name: found.get(name) for name in OPTIONS.values()} == cf_options(settings)


def test_single_quotes_would_not_have_done(relay: Host) -> None:
    """The test above is able to fail: with the usual single pair of quotes the same path is expanded."""
    mc = relay.read("/etc/mail/sendmail.mc")
    assert mc is not None
    block = with_managed_block(mc, dict.fromkeys(OPTIONS, PATHS[1])).replace(b"``", b"`").replace(b"'')", b"')")
    found, _ = build(relay, block)
    assert found.get("ServerCertFile") != PATHS[1]


def test_the_block_overrules_starttls_m4(relay: Host) -> None:
    """Debian's own starttls.m4 sets all six names; included before the block, it does not win."""
    mc = relay.read("/etc/mail/sendmail.mc")
    assert mc is not None
    include = b"include(`/etc/mail/tls/starttls.m4')dnl\n"
    before = mc.replace(b"include(`/etc/mail/m4/provider", include + b"include(`/etc/mail/m4/provider")
    theirs, _ = build(relay, before)
    assert theirs["ServerCertFile"] == "/etc/mail/tls/sendmail-server.crt"
    ours, errors = build(relay, with_managed_block(before, dict.fromkeys(OPTIONS, "/ours.pem")))
    assert errors == ()
    assert {ours[name] for name in OPTIONS.values()} == {"/ours.pem"}


def test_a_null_client_builds_with_the_block(relay: Host) -> None:
    """A file without MAILER lines takes the block at its end."""
    mc = (FILES / "null-client.mc").read_bytes()
    found, errors = build(relay, with_managed_block(mc, {"confCLIENT_CERT": "/c.pem"}))
    assert errors == ()
    assert found["ClientCertFile"] == "/c.pem"


def test_an_unknown_feature_is_an_error_though_m4_ends_well(relay: Host) -> None:
    """m4's status is 0; its text tells."""
    mc = relay.read("/etc/mail/sendmail.mc")
    assert mc is not None
    assert build(relay, mc.replace(b"FEATURE(`use_cw_file')", b"FEATURE(`nosuch')"))[1]
    late = mc + b"FEATURE(`use_ct_file')dnl\n"
    assert relay.run(["m4"], stdin=late, timeout_s=60).status == 0
    assert build(relay, late)[1] == ("*** ERROR: FEATURE() should be before MAILER()",)
