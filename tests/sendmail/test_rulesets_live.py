"""The oracle against mail itself: what it says beforehand is what the running server then does with connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from mailtls_nb.errors import CommandTimedOut, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.recorded import RecordedHost
from mailtls_nb.observe import rulesets
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.sendmail.access.case import Case, Decision
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.witness import witness

pytestmark = pytest.mark.testbed

# Two CAs, and a certificate of each for the client; what is printed is the CA that the server will trust.
_MAKE_CERTIFICATES = r"""
mkdir -p /root/certs && cd /root/certs || exit 1
for ca in Trusted Unknown; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj "/O=Live/CN=$ca CA (test)" \
        -keyout $ca.ca.key -out $ca.ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger.example.test \
        -keyout $ca.key -out $ca.csr
    openssl x509 -req -in $ca.csr -CA $ca.ca.pem -CAkey $ca.ca.key -CAcreateserial -days 9 -out $ca.pem
done 2>/dev/null >/dev/null
cat Trusted.ca.pem
"""

# Each kind of client goes as far as RCPT, all at once; prints what the server answers them.
_CONNECT = r"""
cd /root/certs || exit 1
client() {
    name=$1; shift
    swaks --server "$server" --helo stranger.example.test --from root@partner.example.test \
        --to root@relay.example.test --quit-after RCPT "$@" >$name.out 2>&1
}
server=$1
client NONE &
client NO --tls &
client OK --tls --tls-cert Trusted.pem --tls-key Trusted.key &
client FAIL --tls --tls-cert Unknown.pem --tls-key Unknown.key &
wait
grep '^<' NONE.out NO.out OK.out FAIL.out
"""
_REPLY = re.compile(r"^(\w+)\.out:<\S* +(\d{3}) (.*?)\s*$", re.MULTILINE)

ISSUER = "/O=Live/CN=Trusted+20CA+20+28test+29"
UNKNOWN = "/O=Live/CN=Unknown+20CA+20+28test+29"


@dataclass(frozen=True)
class Server:
    """The relay with TLS, and the stranger that connects to it."""

    relay: Host
    stranger: Host
    layout: Layout
    live_access: bytes
    address: str
    relay_address: str

    def cases(self, peer: str) -> dict[str, Case]:
        """The clients of _CONNECT as the relay sees them."""
        plain = Case("server", peer, self.address, "NONE")
        encrypted = replace(plain, verify="NO", bits=256)
        shown = replace(encrypted, cn_subject="stranger.example.test", cert_subject="/CN=stranger.example.test")
        return {
            "NONE": plain,
            "NO": encrypted,
            "OK": replace(shown, verify="OK", cert_issuer=ISSUER),
            "FAIL": replace(shown, verify="FAIL", cert_issuer=UNKNOWN),
        }

    def access(self, rules: str) -> bytes:
        """The host's own map with these rules."""
        return self.live_access + f"GreetPause:{self.address}\t0\n{rules}\n".encode()

    def install(self, access: bytes) -> None:
        self.relay.write("/etc/mail/access", access, mode=0o600, owner="root:root")
        made = "makemap hash /etc/mail/access </etc/mail/access"
        self.relay.run(["sh", "-c", made], timeout_s=20).check("making the map")

    def connect(self) -> dict[str, Decision]:
        """What the running server does with each client: the first refusal, or accepted at RCPT."""
        printed = self.stranger.run(["sh", "-c", _CONNECT, "sh", self.relay_address], timeout_s=90).text
        found: dict[str, Decision] = {}
        for client, code, text in _REPLY.findall(printed):
            if code[0] in "45" and not found.get(client, Decision("")).refused:
                found[client] = Decision("permanent" if code[0] == "5" else "temporary", f"{code} {text}")
            elif code == "250" and "Recipient ok" in text:
                found.setdefault(client, Decision(""))
        return found


@pytest.fixture(scope="module")
def server(pristine: Testbed) -> Iterator[Server]:
    relay, stranger = pristine.host("relay"), pristine.host("stranger")
    ca = stranger.run(["sh", "-c", _MAKE_CERTIFICATES], timeout_s=60).stdout
    live_access = relay.read("/etc/mail/access")
    assert live_access is not None
    with witness(relay, ca):
        addresses = pristine.address("stranger"), pristine.address("relay")
        yield Server(relay, stranger, observe_layout(relay), live_access, *addresses)


RULES = {
    "verified, by name": "TLS_Clt:stranger.example.test\tPERM+VERIFY:112",
    "for the time being, by parent domain": "TLS_Clt:example.test\tTEMP+VERIFY",
    "the issuer": f"TLS_Clt:{{address}}\tPERM+VERIFY+CI:{ISSUER}",
    "another issuer": f"TLS_Clt:{{address}}\tPERM+VERIFY:112+CN++CI:{UNKNOWN}",
    "encrypted": "TLS_Clt:\tENCR:112\nTLS_Clt:127.0.0.1\tENCR:0",
    "fails open": "TLS_Clt:stranger.example.test\tPERM+VERFY:112",
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_client_meets_what_the_oracle_said(server: Server, rules: str) -> None:
    """Class and text of the reply: clients without TLS, without a certificate, with a good and with an unknown one."""
    access = server.access(rules.format(address=server.address))
    cases = server.cases("stranger.example.test")
    foretold = ask_rulesets(server.relay, server.layout, list(cases.values()), access=access)
    server.install(access)
    assert server.connect() == dict(zip(cases, foretold, strict=True))
    # The map in service now gives the same as the candidate did.
    assert ask_rulesets(server.relay, server.layout, list(cases.values()), access=None) == foretold


def test_without_a_reverse_name_only_the_address_counts(server: Server, pristine: Testbed) -> None:
    """The peer is then ``[address]``: a rule by name lets it through, one by address refuses it."""
    lines = pristine.hosts_lines()
    pristine.set_dns("relay", [line for line in lines if not line.startswith(f"{server.address} ")])
    try:
        cases = server.cases(f"[{server.address}]")
        seen = {}
        for key in ("stranger.example.test", server.address):
            access = server.access(f"TLS_Clt:{key}\tPERM+VERIFY")
            foretold = ask_rulesets(server.relay, server.layout, list(cases.values()), access=access)
            server.install(access)
            seen[key] = server.connect()
            assert seen[key] == dict(zip(cases, foretold, strict=True))
    finally:
        pristine.set_dns("relay", lines)
    assert seen["stranger.example.test"]["NONE"].accepted
    assert not seen[server.address]["NONE"].accepted
    assert seen[server.address]["OK"].accepted


@pytest.mark.parametrize("on_failure", ["PERM", "TEMP"])
@pytest.mark.parametrize("key", ["TLS_Srv:partner.example.test", "TLS_Rcpt:partner.example.test", "TLS_Rcpt:none@"])
def test_mail_leaves_as_the_oracle_said(server: Server, pristine: Testbed, key: str, on_failure: str) -> None:
    """A partner without STARTTLS: mail is bounced, kept or sent."""
    access = server.access(f"{key}\t{on_failure}+VERIFY")
    recipient = "root@partner.example.test"
    peer = Case("client", "partner.example.test", pristine.address("partner"), "NONE")
    cases = [peer, replace(peer, direction="recipient", recipient=recipient)]
    foretold = ask_rulesets(server.relay, server.layout, cases, access=access)
    expected = next((decision.refused for decision in foretold if decision.refused), "")
    server.install(access)
    mark = mark_log(server.relay, server.layout.log)
    server.relay.run(["sendmail", "-Am", "-odi", "-i", recipient], stdin=b"Subject: x\n\nx\n", timeout_s=60)
    to_it = re.compile(r"to=<?root@partner\.example\.test>?,.* dsn=(\d)")
    dsn = mark.wait_for(lambda lines: next((found[1] for line in lines if (found := to_it.search(line))), ""))
    assert dsn == {"": "2", "permanent": "5", "temporary": "4"}[expected]
    assert (expected == "") == (key == "TLS_Rcpt:none@")


def test_what_is_asked_is_what_sendmail_reads(server: Server) -> None:
    """A reply quotes the name in the certificate: every character that may stand in one arrives as it is."""
    odd = "/O=$a$$b#,c;d'e!f&g%h*i|j~k^l`m{n}o[p]q?r@s:t_u-v./CN=x+2By+20$##"
    case = replace(server.cases("stranger.example.test")["OK"], cert_issuer=odd)
    plain = replace(case, cert_issuer="")
    decisions = ask_rulesets(server.relay, server.layout, [case, plain, case], access=b"TLS_Clt:\tVERIFY+CI:/CN=z\n")
    assert [decision.reply for decision in decisions] == [
        f"454 4.7.0 Cert Issuer {odd} does not match /CN=z",
        "454 4.7.0 Cert Issuer does not match /CN=z",
        f"454 4.7.0 Cert Issuer {odd} does not match /CN=z",
    ]
    same = ask_rulesets(server.relay, server.layout, [case, plain], access=f"TLS_Clt:\tVERIFY+CI:{odd}\n".encode())
    assert [decision.accepted for decision in same] == [True, False]


def test_what_a_killed_run_left_goes(server: Server) -> None:
    """A directory that nobody could remove is removed by a later run; one in use now is let alone."""
    old, new = ("/var/lib/mailtls-nb-rulesets." + ending for ending in ("old", "new"))
    server.relay.run(["mkdir", old, new], timeout_s=10)
    server.relay.run(["touch", "-d", "2 hours ago", old], timeout_s=10)
    ask_rulesets(server.relay, server.layout, [server.cases("x.test")["OK"]], access=None)
    left = server.relay.run(["sh", "-c", 'ls -d /var/lib/mailtls-nb-rulesets.*; rmdir "$1"', "sh", new], timeout_s=10)
    assert left.text.split() == [new]


_EVERYTHING = r"""
cd /
find etc/mail var/lib var/spool -exec stat -c '%n %F %a %U:%G' {} +
find etc/mail var/lib var/spool -type f -exec stat -c '%n %Y' {} + -exec sha256sum {} +
"""


@pytest.fixture
def untouched(server: Server) -> Iterator[None]:
    """The test must leave the map, the cf and the queue as they are, and no file of its own."""

    def everything() -> set[str]:
        return set(server.relay.run(["sh", "-c", _EVERYTHING], timeout_s=60).text.splitlines())

    before = everything()
    assert any("etc/mail/access.db" in line for line in before)
    yield
    assert everything() ^ before == set()


def test_asking_leaves_nothing_behind(server: Server, untouched: None) -> None:
    """Files, modes, owners, times and contents are as before, and a candidate is not the map in service."""
    case = server.cases("stranger.example.test")["NONE"]
    (decision,) = ask_rulesets(server.relay, server.layout, [case], access=b"TLS_Clt:\tPERM+VERIFY")
    assert decision == Decision("permanent", "503 5.7.0 authentication required")


def test_a_text_that_makemap_refuses_leaves_nothing_behind(server: Server, untouched: None) -> None:
    """The error has the line and makemap's word for it, and like the log of commands nothing of what stands there."""
    case = server.cases("stranger.example.test")["NONE"]
    log: list[dict[str, object]] = []
    relay = RecordedHost(server.relay, log.append, clock=lambda: datetime.now(UTC))
    access = b'TLS_Clt:a.test\tVERIFY\nAuthInfo:mx.test"U:me""P:hunter2"\ntls_clt:a.test\tVERIFY\n'
    with pytest.raises(NotReady, match=r"makemap refuses .*line 2: no RHS.*\n.*line 3: duplicate key") as raised:
        ask_rulesets(relay, server.layout, [case], access=access)
    assert "line 2: no RHS" in str(log)
    assert "hunter2" not in str(raised.value) + str(log)


def test_a_run_that_is_cut_off_leaves_nothing_behind(
    server: Server, untouched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here sendmail never answers."""
    monkeypatch.setattr(rulesets, "_TIMEOUT_S", 2)
    server.relay.write("/root/hangs", b"#!/bin/sh\nexec sleep 60\n", mode=0o700, owner="root:root")
    layout = replace(server.layout, sendmail="/root/hangs")
    with pytest.raises(CommandTimedOut):
        ask_rulesets(server.relay, layout, list(server.cases("x.test").values()), access=b"TLS_Clt:\tENCR:1\n")


def test_a_cf_without_access_map_is_refused(server: Server, untouched: None) -> None:
    """No rule would mean anything there; nor can a map be tried that makemap does not make."""
    cf = server.relay.read(server.layout.cf)
    assert cf is not None
    cases = list(server.cases("x.test").values())
    without = re.sub(rb"(?m)^Kaccess.*$", b"", cf)
    with pytest.raises(NotReady, match="has no access map"):
        ask_rulesets(server.relay, server.layout, cases, access=b"", cf=without)
    ldap = re.sub(rb"(?m)^Kaccess.*$", b"Kaccess ldap -1 -v x -k y", cf)
    with pytest.raises(NotReady, match="kind ldap"):
        ask_rulesets(server.relay, server.layout, cases, access=b"", cf=ldap)
