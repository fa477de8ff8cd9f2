"""Reading options from a built sendmail.cf and failures from m4's output."""

from __future__ import annotations

import pytest

from mailtls_nb.sendmail.cf import (
    AccessDatabase,
    Listener,
    access_database,
    differing_options,
    m4_errors,
    m4_remarks,
    option_values,
    options,
    smtp_listener,
    with_access_path,
)

CF = b"""\
##### built by root@relay on Sun Nov 22 20:36:56 UTC 2026
# Server certificate
O ServerCertFile=/etc/mail/certs/relay.pem
#O ServerKeyFile=/old
O LogLevel=9
O DaemonPortOptions=Family=inet,  Name=MSP-v4, Port=submission, M=Ea
O DaemonPortOptions=Family=inet,  Name=MTA-v4, Port=smtp, Addr=192.0.2.7
O PidFile=/run/a.pid
O PidFile=/run/b.pid
### /etc/mail/sendmail.mc ###
# O LogLevel=14
"""


def test_options_that_are_set_count_and_comments_do_not() -> None:
    """A commented-out option is not set; of one set twice the last counts."""
    assert options(CF)["ServerCertFile"] == "/etc/mail/certs/relay.pem"
    assert "ServerKeyFile" not in options(CF)
    assert options(CF)["LogLevel"] == "9"
    assert options(CF)["PidFile"] == "/run/b.pid"
    assert len(option_values(CF, "DaemonPortOptions")) == 2


def test_differences_are_named_one_by_one() -> None:
    """Both a missing and another value are told; equal ones are not."""
    differing = differing_options(CF, {"LogLevel": "9", "ServerKeyFile": "/k", "ServerCertFile": "/c"})
    assert differing == (
        "ServerKeyFile is not set where '/k' is expected",
        "ServerCertFile is '/etc/mail/certs/relay.pem' where '/c' is expected",
    )


@pytest.mark.parametrize(
    ("lines", "listener"),
    [
        ([], Listener("127.0.0.1", 25)),
        (["Family=inet, Name=MTA-v4, Port=smtp, Addr=127.0.0.1"], Listener("127.0.0.1", 25)),
        (["Port=submission, M=Ea", "Name=MTA, Addr=192.0.2.7"], Listener("192.0.2.7", 25)),
        (["Family=inet6, Port=smtp, Addr=::"], Listener("::1", 25)),
        (["Family=inet6, Port=2525, Addr=IPv6:2001:db8::1"], Listener("2001:db8::1", 2525)),
        (["Port=submission"], Listener("127.0.0.1", 587)),
    ],
)
def test_the_listener_is_where_the_daemon_takes_mail(lines: list[str], listener: Listener) -> None:
    """Port 25 is preferred, and an address from which the host reaches its own daemon."""
    cf = "".join(f"O DaemonPortOptions={line}\n" for line in lines).encode()
    assert smtp_listener(cf) == listener


# Lines of GNU m4 1.4.19 and sendmail's cf macros.
M4_OUTPUT = """\
*** ERROR: FEATURE() should be before MAILER()
m4:/etc/mail/sendmail.mc:93: cannot open `/etc/mail/nosuch.m4': No such file or directory
m4:/etc/mail/sendmail.mc:12: Warning: excess arguments to builtin `define' ignored
*** WARNING: FEATURE(`nullclient') is used with others
/usr/bin/m4:stdin:2: ERROR: end of file in string
"""


def test_sendmails_own_errors_fail_a_build_and_warnings_do_not() -> None:
    """m4 ends with status 0 after `*** ERROR`, so its text is what counts."""
    errors = m4_errors(M4_OUTPUT)
    assert len(errors) == 3
    assert errors[0] == "*** ERROR: FEATURE() should be before MAILER()"
    assert m4_remarks(M4_OUTPUT) == (
        "m4:/etc/mail/sendmail.mc:12: Warning: excess arguments to builtin `define' ignored",
        "*** WARNING: FEATURE(`nullclient') is used with others",
    )
    assert m4_errors("") == ()


# Lines as Debian's, Red Hat's and others' m4 write them; text is what makemap is fed, database what it makes.
ACCESS_LINES = [
    (b"Kaccess hash -T<TMPF> /etc/mail/access", "hash", False, "/etc/mail/access", "/etc/mail/access.db"),
    (b"Kaccess hash -T<TMPF> -o /etc/mail/access.db", "hash", True, "/etc/mail/access", "/etc/mail/access.db"),
    (b"Kaccess\tcdb  -o -T<TMPF>\t/etc/mail/access \r", "cdb", True, "/etc/mail/access", "/etc/mail/access.cdb"),
    (b"Kaccess dbm /etc/mail/access", "dbm", False, "/etc/mail/access", "/etc/mail/access.pag"),
    (b"Kaccess btree -a<x> /srv/my access", "btree", False, "/srv/my access", "/srv/my access.db"),
]


@pytest.mark.parametrize(("line", "kind", "optional", "text", "database"), ACCESS_LINES)
def test_the_access_map_is_found(line: bytes, kind: str, optional: bool, text: str, database: str) -> None:
    """Its kind, and the two files, whether the cf names the ending or not; another path changes nothing else."""
    cf = b"#Kaccess hash /no\nKaccessible hash /no\n" + line + b"\nKarith arith\n"
    found = access_database(cf)
    assert found is not None
    assert found.made_by_makemap
    assert (found.kind, found.optional, found.text, found.database) == (kind, optional, text, database)
    moved = with_access_path(cf, "/new/access")
    assert access_database(moved) == AccessDatabase(kind, "/new/access", optional)
    assert moved.splitlines()[:2] + moved.splitlines()[3:] == cf.splitlines()[:2] + cf.splitlines()[3:]


@pytest.mark.parametrize(
    "line",
    [
        b"Kaccess ldap -T<TMPF> -1 -v sendmailMTAMapValue -k (&(objectClass=x)(y=%0))",
        b"Kaccess sequence first second",
        b"Kaccess hash nis.access",
        b"Kaccess",
    ],
)
def test_a_map_that_makemap_does_not_make_is_seen(line: bytes) -> None:
    """There is no text file to put rules into."""
    found = access_database(line + b"\n")
    assert found is None or not found.made_by_makemap


def test_a_cf_without_access_map() -> None:
    """Without FEATURE(access_db)."""
    assert access_database(CF) is None
