"""The model of the TLS rulesets against sendmail 8.15, 8.17 and 8.18: they must decide every row of the table alike.

The rows ask for what a value of the access map demands (each value under a peer of its own) and for which entry counts
(names, addresses, recipients and their prefixes). Real sendmail answers through ``ask_rulesets``.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import pytest

from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.access.entries import Entry, access_entries
from mailtls_nb.sendmail.access.model import decide
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.images import ensure_image

pytestmark = pytest.mark.testbed

RELEASES = {"bullseye": (8, 15), "bookworm": (8, 17), "trixie": (8, 18)}
DIRECTIONS: tuple[Direction, ...] = ("server", "client", "recipient")
TAGS = {"server": "TLS_Clt", "client": "TLS_Srv", "recipient": "TLS_Rcpt"}
VERIFY = [
    *("OK", "TRUSTED", "NO", "NOT", "FAIL", "NONE", "CLEAR", "TEMP", "PROTOCOL", "SOFTWARE", "CONFIG"),
    *("DANE_FAIL", "DANE_NOTLS", "DANE_TEMP"),
]

ISSUER, SUBJECT, CN = "/C=DE/O=Partner+20+26+20Sons/CN=Partner+20CA", "/O=Partner/CN=peer.test", "peer.test"

REQUIREMENTS = [
    *(f"{failure}{level}" for failure in ("", "PERM+", "TEMP+") for level in ("VERIFY", "VERIFY:112", "ENCR:112")),
    "ENCR:0",
    "ENCR:1",
    "ENCR:256",
    "VERIFY:256",
    "VERIFY:0",
    "perm+verify:112",
    *(
        f"{start}+{extensions}"
        for start in ("PERM+VERIFY:112", "TEMP+VERIFY", "ENCR:112")
        for extensions in ("CN", f"CN:{CN}", f"CS:{SUBJECT}", f"CI:{ISSUER}", f"CN:{CN}++CI:{ISSUER}", "CITag:known")
    ),
    f"VERIFY+CI:{ISSUER}++CN",
    f"VERIFY+CI:{ISSUER.upper()}",
    "VERIFY+CITag:unknown",
    "VERIFY+CN:other.test",
]
# What an operator may write by mistake; most of it fails open.
MISTAKES = [
    "PERM+VERFY:112",
    "PERM+ENCR",
    "ENCR",
    "PERM",
    "PERM+",
    "TEMP+REQUIRE",
    "PERM VERIFY",
    "PERM + VERIFY : 112",
    "VERIFY:",
    "VERIFY:strong",
    "VERIFY:112:5",
    "ENCR:-1",
    "ENCR:0112",
    "ENCR:0x80",
    "ENCR:99999999999",
    "VERIFY+",
    "VERIFY:112+",
    f"VERIFY+CI:{ISSUER}+CN",
    f"VERIFY+CN++CI:{ISSUER}++",
    "VERIFY+CI",
    "VERIFY+CI:",
    "VERIFY+CN:",
    "VERIFY++CN",
    "VERIFY+XX:1",
    f"VERIFY+CI:{ISSUER}++XX:1",
    f"VERIFY+XX:1++CN:{CN}",
    "VERIFY+CI:/C=DE/O=Partner & Sons/CN=Partner CA",
    "VERIFY,ENCR:112",
    "ENCR:112+VERIFY",
    "REJECT",
    "RELAY",
    "OK",
    "NO",
    "DISCARD",
    "SKIP",
    "ERROR:550 go away",
    'ERROR:5.7.1:"550 go away"',
    "550 go away",
    "VERIFY 112",
    '"VERIFY"',
]


def value_rows() -> tuple[bytes, list[Case]]:
    """Every value under a name of its own, asked for by every peer in every direction."""
    entries, cases = [f"known:{ISSUER}\tOK"], []
    good = Case("server", "", "192.0.2.1", "OK", 256, 0, CN, SUBJECT, ISSUER)
    others = [
        replace(good, cert_issuer="/CN=Other+20CA"),
        replace(good, cn_subject="other.test", cert_subject="/CN=other.test"),
        replace(good, bits=64),
        replace(good, bits=111, auth_ssf=112),
        replace(good, cn_subject="", cert_subject="", cert_issuer=""),
        replace(good, verify="NONE", bits=0, cn_subject="", cert_subject="", cert_issuer=""),
        replace(good, verify="FAIL", bits=56),
    ]
    peers = [*(replace(good, verify=word) for word in VERIFY), *others]
    for number, value in enumerate(["", *REQUIREMENTS, *MISTAKES]):
        name = f"value{number}.test"
        if value:
            entries += [f"{tag}:{name}\t{value}" for tag in TAGS.values()]
        for direction, peer in product(DIRECTIONS, peers):
            own_name = replace(peer, cn_subject=name) if peer.cn_subject == CN and value.endswith("+CN") else peer
            recipient = f"user@{name}" if direction == "recipient" else ""
            cases.append(replace(own_name, direction=direction, peer=name, recipient=recipient))
    return "".join(f"{entry}\n" for entry in entries).encode(), cases


# Which entry counts: keys, each with a value that tells by its reply which one was found.
KEYS = [
    *("TLS_Clt:host.name.test", "TLS_Srv:host.name.test", "TLS_Rcpt:host.name.test"),
    *("TLS_Clt:parent.test", "TLS_Srv:parent.test", "TLS_Rcpt:parent.test"),
    *("TLS_Clt:test2", "TLS_Srv:test2", "TLS_Rcpt:test2"),
    *("TLS_Clt:open.name.test", "TLS_Srv:open.name.test"),
    *("TLS_Clt:skip.parent.test", "TLS_Srv:skip.parent.test", "TLS_Rcpt:skip.parent.test"),
    *("TLS_Clt:.dotted.test", "TLS_Srv:.dotted.test", "TLS_Rcpt:.dotted.test"),
    *("TLS_Clt:192.0.2.1", "TLS_Srv:192.0.2.1", "TLS_Clt:198.51.100", "TLS_Srv:198.51.100", "TLS_Clt:203"),
    *("TLS_Clt:198.51.100.9", "TLS_Srv:198.51.100.9", "TLS_Clt:10.", "TLS_Clt:172.16.0.0/12"),
    *("TLS_Clt:[192.0.2.2]", "TLS_Clt:[192.0.3]", "TLS_Srv:[192.0.2.2]"),
    *(
        "TLS_Clt:IPv6:2001:db8:0:0:0:0:0:1",
        "TLS_Clt:IPv6:2001:db8:1",
        "TLS_Clt:IPv6:2001:db8:2::5",
        "TLS_Clt:IPv6:2002",
    ),
    *("TLS_Clt:[IPv6:2001:db8:3::5]", "TLS_Clt:2001:db8:4::5"),
    *("TLS_Rcpt:user@full.test", "TLS_Rcpt:postmaster@", "TLS_Rcpt:list+*@full.test", "TLS_Rcpt:list@full.test"),
    *("TLS_Rcpt:Upper@Full.Test", "TLS_Rcpt:user+detail@full.test", "TLS_Rcpt:abuse+*@", "TLS_Rcpt:user"),
    *("name.test", "Connect:name.test", "TLS_Clt", "TLS_Rcpt:*", "TLS_Clt:*.star.test"),
]
BARE_KEYS = ["TLS_Clt:", "TLS_Srv:", "TLS_Rcpt:"]
VALUES = {"TLS_Clt:open.name.test": "OK", "TLS_Srv:open.name.test": "ENCR:0"}
VALUES |= {key: "SKIP" for key in KEYS if ":skip." in key} | {
    "TLS_Clt:198.51.100.9": "SKIP",
    "TLS_Srv:198.51.100.9": "?",
}
NAMES = [
    *("host.name.test", "HOST.Name.Test", "a.host.name.test", "name.test", "host.name.test.evil.test"),
    *("parent.test", "x.parent.test", "x.y.parent.test", "xparent.test", "skip.parent.test", "x.skip.parent.test"),
    *("test2", "a.test2", "open.name.test", "dotted.test", "x.dotted.test", "a.star.test", "localhost", "nowhere.test"),
    *("[192.0.2.1]", "[192.0.2.2]", "[192.0.3.4]", "[192.0.30.4]", "[198.51.100.7]", "[10.0.0.1]"),
    *("[IPv6:2001:db8:3::5]", "[IPv6:2001:db8:1::5]"),
]
ADDRESSES = [
    *("192.0.2.1", "192.0.2.10", "192.0.2.2", "192.0.3.4", "198.51.100.7", "198.51.100.9", "203.0.113.5", "10.0.0.1"),
    *("172.16.0.1", "127.0.0.1", "IPv6:2001:db8::1", "IPv6:2001:db8:0:0:0:0:0:1", "IPv6:2001:db8:1:0:0:0:0:5"),
    *("IPv6:2001:db8:1::5", "IPv6:2001:db8:2::5", "IPv6:2001:db8:4::5", "IPv6:2002::1", "IPv6:::1"),
]
RECIPIENTS = [
    *("user@full.test", "other@full.test", "USER@FULL.test", "upper@full.test", "user+detail@full.test"),
    *(
        "user+more@full.test",
        "list+x@full.test",
        "list@full.test",
        "postmaster@anywhere.test",
        "postmaster@parent.test",
    ),
    *("postmaster+x@anywhere.test", "abuse+x@anywhere.test", "abuse@anywhere.test", "user@anywhere.test"),
    *("user@host.name.test", "user@a.host.name.test", "user@x.y.parent.test", "user@skip.parent.test"),
    *("user@x.skip.parent.test", "user@test2", "user@dotted.test", "user@x.dotted.test", "user@[192.0.2.1]"),
]


def lookup_rows(keys: Sequence[str]) -> tuple[bytes, list[Case]]:
    """One stranger without TLS: by all names from one address, from all addresses by one name, to all recipients."""
    # 4xx by VERIFY, 5xx by PERM: neighbours in the list differ, so a wrong entry shows.
    values = {key: VALUES.get(key, "PERM+VERIFY" if number % 2 else "TEMP+VERIFY") for number, key in enumerate(keys)}
    peers = [
        *((name, address) for name in NAMES for address in ("192.0.2.99", "192.0.2.1", "198.51.100.9")),
        *((name, address) for name in ("nowhere.test", "skip.parent.test") for address in ADDRESSES),
    ]
    cases = [Case(direction, name, address, "NONE") for direction in ("server", "client") for name, address in peers]
    cases += [Case("recipient", "mx.test", "192.0.2.1", "NONE", recipient=recipient) for recipient in RECIPIENTS]
    return "".join(f"{key}\t{value}\n" for key, value in values.items()).encode(), cases


def alternative_name_rows() -> tuple[bytes, list[Case]]:
    """Names in the certificate beside its CN, for each requirement that compares names; not all of them are read."""
    values = ["CN", f"CN:{CN}", f"CN++CI:{ISSUER}", f"CN:{CN}++CI:{ISSUER}", f"CI:{ISSUER}++CN", "CN:x.y.test"]
    names = {"host.altnames.test", "*.altnames.test", "altnames.test", CN, "other.test", "*.test", "*.y.test"}
    sets = [(), *((name,) for name in sorted(names)), tuple(sorted(names)), ("other.test", "host.altnames.test")]
    entries, cases = [], []
    for number, value in enumerate(values):
        address = f"192.0.2.{number}"
        entries += [f"TLS_Clt:{address}\tPERM+VERIFY+{value}\n", f"TLS_Srv:{address}\tVERIFY+{value}\n"]
        cases += [
            Case(direction, "host.altnames.test", address, "OK", 256, 0, subject, "", issuer, alternative_names=found)
            for direction in ("server", "client")
            for subject in (CN, "host.altnames.test", "nobody.test")
            for issuer in (ISSUER, "/CN=Other+20CA")
            for found in sets
        ]
    return "".join(entries).encode(), cases


TABLES = {"values": value_rows(), "keys": lookup_rows(KEYS), "bare keys too": lookup_rows([*KEYS, *BARE_KEYS])}
ROWS = sum(len(cases) for _, cases in TABLES.values())

Model = Callable[[bytes, Case], Decision]
Table = tuple[bytes, list[Case]]


@dataclass(frozen=True)
class Answers:
    """What one release of sendmail decided, table by table."""

    version: tuple[int, ...]
    decisions: dict[str, tuple[Decision, ...]]
    tables: Mapping[str, Table] = field(default_factory=lambda: TABLES)

    def disagreements(self, model: Model) -> Iterator[str]:
        """The rows in which the model decides otherwise."""
        for table, (access, cases) in self.tables.items():
            for case, given in zip(cases, self.decisions[table], strict=True):
                decided = model(access, case)
                if decided.refused != given.refused:
                    yield f"{table}: {case} {_value_for(access, case)}: model {decided.refused!r}, sendmail {given}"


def _value_for(access: bytes, case: Case) -> str:
    keys = (f"{TAGS[case.direction]}:{case.peer}\t",)
    return next((line for line in access.decode().splitlines() if line.startswith(keys)), "")


@contextlib.contextmanager
def sendmail_of(release: str) -> Iterator[Host]:
    """A container with this release's sendmail; no daemon and no network are needed to ask it."""
    engine = Testbed.of_checkout().engine
    image = ensure_image(engine, release)
    name = f"mailtls-nb-rulesets-{secrets.token_hex(4)}"
    label = ("--label", f"mailtls-nb.testbed={Testbed.of_checkout().identity}")
    alone = ("--hostname", "relay.example.test", "--dns", "127.0.0.1")
    engine.run("run", "-d", "--rm", "--name", name, *label, *alone, image, "sleep", "600", doing=f"starting {release}")
    try:
        yield ContainerHost(engine_argv=engine.argv, container=name, name=release)
    finally:
        engine.attempt("kill", name)


@pytest.fixture(scope="module", params=RELEASES)
def answers(request: pytest.FixtureRequest) -> Answers:
    """The whole table put to real sendmail."""
    with sendmail_of(request.param) as host:
        layout = observe_layout(host)
        assert layout.version[:2] == RELEASES[request.param]
        decisions = {
            table: ask_rulesets(host, layout, cases, access=access) for table, (access, cases) in TABLES.items()
        }
    return Answers(layout.version, decisions)


def model_of(release: tuple[int, ...]) -> Model:
    """Our model, with each access map read once."""
    entries = {access: access_entries(access) for access, _ in TABLES.values()}
    return lambda access, case: decide(entries[access], case, release=release)


def test_the_model_agrees_with_sendmail_in_every_row(answers: Answers) -> None:
    """Accepted, refused for good or for the time being: the same in all rows, which are as many as there should be."""
    assert ROWS > 5_000
    assert sum(map(len, answers.decisions.values())) == ROWS
    # A table of one colour would agree with anything.
    seen = [given.refused for decisions in answers.decisions.values() for given in decisions]
    assert all(seen.count(decision) > ROWS // 20 for decision in {*seen})
    assert len({*seen}) == 3
    assert list(answers.disagreements(model_of(answers.version))) == []


@dataclass(frozen=True)
class Wrong:
    """What a model may get wrong: it decides by other entries, for another peer or as another release."""

    entries: Callable[[Entry], Entry] = lambda entry: entry
    case: Callable[[Case], Case] = lambda case: case
    release: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda release: release


def _otherwise(find: str, change: str) -> Callable[[Entry], Entry]:
    return lambda entry: replace(entry, value=entry.value.replace(find, change))


WRONG_MODELS = {
    "a typo is understood": Wrong(entries=_otherwise("VERFY", "VERIFY")),
    "ENCR without bits counts": Wrong(entries=_otherwise("PERM+ENCR", "PERM+ENCR:1")),
    "addresses do not count": Wrong(case=lambda case: replace(case, address="192.0.2.250")),
    "names do not count": Wrong(case=lambda case: replace(case, peer="nowhere.test")),
    "users do not count": Wrong(case=lambda case: replace(case, recipient="x@" + case.recipient.partition("@")[2])),
    "FAIL is verified": Wrong(case=lambda case: replace(case, verify=case.verify.replace("FAIL", "OK"))),
    "any issuer will do": Wrong(case=lambda case: replace(case, cert_issuer=ISSUER)),
    "any name will do": Wrong(case=lambda case: replace(case, cn_subject=case.cn_subject and case.peer)),
    "one bit is overlooked": Wrong(case=lambda case: replace(case, auth_ssf=case.auth_ssf + 1)),
    "the client is the server": Wrong(case=lambda case: replace(case, direction="server")),
    "it is an older release": Wrong(release=lambda release: (8, 12) if release > (8, 16) else (8, 18)),
}


@pytest.mark.parametrize("wrong", WRONG_MODELS.values(), ids=WRONG_MODELS)
def test_a_wrong_model_is_found_out(answers: Answers, wrong: Wrong) -> None:
    """The comparison is able to fail: in each of these points."""
    entries = {access: tuple(map(wrong.entries, access_entries(access))) for access, _ in TABLES.values()}
    release = wrong.release(answers.version)
    disagreements = answers.disagreements(
        lambda access, case: decide(entries[access], wrong.case(case), release=release)
    )
    assert next(disagreements, None) is not None


def edited(mc: bytes, old: bytes, new: bytes) -> bytes:
    """The .mc with one line written otherwise."""
    assert mc.count(old) == 1
    return mc.replace(old, new)


def test_the_model_agrees_where_the_cf_is_another() -> None:
    """FEATUREs that change the rulesets: SAN names compared, and SKIP not understood; on the newest release."""
    keys, names = lookup_rows(KEYS), alternative_name_rows()
    with sendmail_of("trixie") as host:
        layout = observe_layout(host)
        mc = host.read(layout.mc)
        assert mc is not None

        def answers(mc: bytes, tables: dict[str, Table]) -> Answers:
            cf = host.run(["m4"], stdin=mc, timeout_s=60).stdout
            given = {
                table: ask_rulesets(host, layout, cases, access=access, cf=cf)
                for table, (access, cases) in tables.items()
            }
            return Answers(layout.version, given, tables)

        no_skip = answers(edited(mc, b"FEATURE(`access_db', , `skip')", b"FEATURE(`access_db')"), {"keys": keys})
        with_names = b"FEATURE(`check_cert_altnames')dnl\nMAILER_DEFINITIONS"
        named = answers(edited(mc, b"MAILER_DEFINITIONS", with_names), {"names": names})
        plain = answers(mc, {"names": names})

    def model(*, skip: bool = True, alternative_names: bool = False) -> Model:
        entries = {access: access_entries(access) for access, _ in (keys, names)}
        return lambda access, case: decide(
            entries[access], case, release=layout.version, skip=skip, alternative_names=alternative_names
        )

    assert list(no_skip.disagreements(model(skip=False))) == []
    assert list(named.disagreements(model(alternative_names=True))) == []
    assert list(plain.disagreements(model())) == []
    # Each of the two makes a difference.
    assert next(no_skip.disagreements(model()), None) is not None
    assert next(named.disagreements(model()), None) is not None
