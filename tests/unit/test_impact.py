"""Past connections judged by a rule: the counts, the reasons, and what cannot be told."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.display import Section
from mailtls_nb.pictures import impact_chart
from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.history import Event, Session
from mailtls_nb.sendmail.impact import Impact, Period
from mailtls_nb.sendmail.shared_senders import shared_sender
from mailtls_nb.sendmail.tally import MOST_PEERS, FittingCertificate, Tally

START = datetime(2026, 11, 1, tzinfo=UTC)
ISSUER = "/CN=Partner+20CA"
OK = Session("OK", 256)


def verified(case: Case) -> Decision:
    """VERIFY:112 with the partner's issuer pinned, for everybody."""
    good = case.verify in {"OK", "TRUSTED"} and case.bits >= 112 and case.cert_issuer == ISSUER
    return Decision("" if good else "permanent")


def encrypted(case: Case) -> Decision:
    """ENCR:112."""
    return Decision("" if max(case.bits, case.auth_ssf) >= 112 else "temporary")


def event(session: Session = OK, *, peer: str = "p.test", minute: int = 0, direction: Direction = "server") -> Event:
    return Event(direction, START + timedelta(minutes=minute), peer, "192.0.2.1", session)


def judged(events: Iterable[Event], rule: str = "verified", *, most_peers: int = MOST_PEERS) -> Impact:
    decide = verified if rule == "verified" else encrypted
    tally = Tally(decide, fitting=FittingCertificate(cert_issuer=ISSUER), bits=112, most_peers=most_peers)
    for each in events:
        tally.add(each)
    return tally.impact(Period())


@pytest.mark.parametrize(
    ("session", "rule", "refused", "undecided", "reason"),
    [
        (Session(), "verified", 1, 0, "no STARTTLS"),
        (Session(), "encrypted", 1, 0, "no STARTTLS"),
        (Session("NO", 256), "verified", 1, 0, "no certificate shown (verify=NO)"),
        (Session("NO", 256), "encrypted", 0, 0, ""),
        (Session("FAIL", 256), "verified", 1, 0, "certificate not verified (verify=FAIL)"),
        (Session("FAIL", 56), "encrypted", 1, 0, "bits 56 < 112"),
        (Session("OK", 56, cert_issuer=ISSUER, cert_subject="/CN=p.test"), "verified", 1, 0, "bits 56 < 112"),
        (Session("OK", 256), "verified", 0, 1, "unknown issuer: cannot be told from this log"),
        (Session("OK", 256), "encrypted", 0, 0, ""),
        (Session("OK", 256, cert_issuer=ISSUER, cert_subject="/CN=p.test"), "verified", 0, 0, ""),
        (
            Session("OK", 256, cert_issuer="/CN=Other", cert_subject="/CN=p.test"),
            "verified",
            1,
            0,
            "another certificate than the rule asks for (issuer /CN=Other)",
        ),
        (Session(""), "verified", 0, 1, "TLS session unknown: cannot be told from this log"),
        (Session("", auth_ssf=128), "encrypted", 0, 0, ""),
    ],
)
def test_a_message_is_judged_with_its_reason(
    session: Session, rule: str, refused: int, undecided: int, reason: str
) -> None:
    (peer,) = judged([event(session)], rule).peers
    assert (peer.messages, peer.refused, peer.undecided) == (1, refused, undecided)
    assert peer.reasons == (((reason, 1),) if reason else ())


def test_peers_are_counted_apart_those_with_most_refused_first() -> None:
    log = [event(Session(), peer="a.test", minute=minute) for minute in range(3)]
    log += [event(Session(), peer="b.test", minute=minute) for minute in range(5)]
    log.append(event(OK, peer="c.test"))
    impact = judged(log)
    assert [(peer.name, peer.refused) for peer in impact.peers] == [("b.test", 5), ("a.test", 3), ("c.test", 0)]
    assert (impact.peers[0].first_seen, impact.peers[0].last_seen) == (START, START + timedelta(minutes=4))
    assert (impact.messages, impact.refused, impact.undecided, impact.accepted) == (9, 8, 1, 0)


def test_a_message_sent_counts_for_its_server_and_for_each_domain() -> None:
    sent = replace(event(Session("FAIL", 256), direction="client"), recipients=("a@x.test", "b@X.test", "c@y.test"))
    peers = {(peer.direction, peer.name): peer.messages for peer in judged([sent]).peers}
    assert peers == {("client", "p.test"): 1, ("recipient", "x.test"): 1, ("recipient", "y.test"): 1}


def test_only_the_directions_asked_for() -> None:
    sent = replace(event(direction="client"), recipients=("a@x.test",))
    only: Direction = "recipient"
    tally = Tally(verified, directions=[only])
    for each in (sent, event()):
        tally.add(each)
    assert [(peer.direction, peer.name) for peer in tally.impact(Period()).peers] == [("recipient", "x.test")]


def test_what_was_refused_already_is_no_message() -> None:
    (peer,) = judged([replace(event(Session()), refused=True)]).peers
    assert (peer.messages, peer.refused, peer.refused_already) == (0, 0, 1)


SESSIONS = st.builds(
    Session,
    verify=st.sampled_from(["", "OK", "NO", "FAIL", "NONE", "TRUSTED", "PROTOCOL"]),
    bits=st.sampled_from([0, 56, 112, 256]),
    auth_ssf=st.sampled_from([0, 256]),
    cert_subject=st.sampled_from([None, "", "/CN=p.test"]),
    cert_issuer=st.sampled_from([None, ISSUER, "/CN=Other"]),
)
EVENTS = st.builds(
    Event,
    direction=st.sampled_from(["server", "client"]),
    time=st.datetimes(timezones=st.just(UTC)),
    peer=st.sampled_from([f"{letter}.test" for letter in "abcdefghijklmnop"]),
    address=st.just("192.0.2.1"),
    session=SESSIONS,
    refused=st.booleans(),
)


@given(st.lists(EVENTS, max_size=100), st.integers(1, 12), st.sampled_from(["verified", "encrypted"]))
def test_sums_agree_however_few_peers_are_kept(log: list[Event], most_peers: int, rule: str) -> None:
    """Whatever gives way is summed: nothing is lost and nothing counted twice."""
    impact, whole = judged(log, rule, most_peers=most_peers), judged(log, rule)
    assert len(impact.peers) <= most_peers
    for one in (impact, whole):
        assert one.messages == sum(not each.refused for each in log)
        assert one.refused_already == sum(each.refused for each in log)
        assert one.accepted >= 0
    assert (impact.refused, impact.undecided) == (whole.refused, whole.undecided)
    for peer in impact.peers:
        assert sum(count for _, count in peer.reasons) == peer.refused + peer.undecided
        assert peer.first_seen <= peer.last_seen


@given(st.lists(EVENTS, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(log: list[Event], random: Random) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)
    assert judged(shuffled).as_data() == judged(log).as_data()


@given(SESSIONS)
def test_knowing_more_never_overturns_what_was_told(session: Session) -> None:
    """Refused or accepted without the certificate's names stays so, whatever they turn out to be."""
    unnamed = judged([event(replace(session, cert_subject=None, cert_issuer=None))])
    named = judged([event(session)])
    if not unnamed.undecided:
        assert (named.refused, named.accepted) == (unnamed.refused, unnamed.accepted)


def test_the_numbers_as_data() -> None:
    """JSON, the same each time, and no more peers than asked for."""
    impact = judged([event(Session(), peer=f"{number}.test") for number in range(9)])
    data = impact.as_data(most=3)
    assert json.loads(json.dumps(data)) == data
    assert (data["refused"], data["peers_concerned"], len(data["peers"])) == (9, 9, 3)  # type: ignore[arg-type]


def test_the_table_sums_what_does_not_fit_and_keeps_the_partner() -> None:
    log = [event(Session(), peer=f"{number}.test") for number in range(4)]
    fitting = replace(OK, cert_issuer=ISSUER, cert_subject="/CN=mx.p.test")
    impact = judged([*log, event(fitting, peer="mx.p.test"), event(fitting, peer="q.test")])
    assert [row[0] for row in impact.table(most=2)] == ["peer", "0.test", "1.test", "2 more"]
    assert [row[0] for row in impact.table(always=("p.test",))][-1] == "mx.p.test"
    assert {len(row) for row in impact.table(most=2)} == {8}


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("mail-eopbgr80051.outbound.protection.outlook.com", True),
        ("mail-wm1-f50.google.com", True),
        ("a8-31.smtp-out.amazonses.com", True),
        ("Outlook.com.", True),
        ("mx.partner.example.test", False),
        ("notoutlook.com", False),
        ("", False),
    ],
)
def test_shared_senders(name: str, shared: bool) -> None:
    assert bool(shared_sender(name)) is shared


def test_a_shared_name_is_pointed_out() -> None:
    impact = judged([event(Session(), peer="mail-wm1-f50.google.com"), event(Session(), peer="p.test")])
    assert [peer.name for peer in impact.shared_senders] == ["mail-wm1-f50.google.com"]
    assert ("shared name", "mail-wm1-f50.google.com: customers of Google Workspace and Gmail") in impact.as_facts()
    assert "shared by customers of" in impact.table()[1][0]


def test_the_chart_says_the_same_in_words_and_is_the_same_each_time() -> None:
    """Names come from outside: nothing in them is markup or mathematics."""
    impact = judged([event(Session(), peer='<b>"$x$&.test'), event(Session("NO", 256), peer="p" * 90)])
    chart = impact_chart(impact)
    assert chart is not None
    assert chart == impact_chart(impact)
    root = ET.fromstring(chart.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == chart.alternative
    assert root[0].text == "Messages by peer, had the rule been in force"
    assert 'from <b>"$x$&.test: 0 accepted, 0 cannot be told, 1 refused' in chart.alternative
    assert any(text.endswith('<b>"$x$&.test') for text in root.itertext())
    section = Section(picture=chart)
    assert section.as_text() == chart.alternative
    assert "<b>" not in section.as_html()


def test_no_chart_where_nobody_is_concerned() -> None:
    assert impact_chart(judged([event(OK)], "encrypted")) is None


def test_the_program_starts_without_matplotlib() -> None:
    """It takes a second to import."""
    script = "import sys, mailtls_nb.cli, mailtls_nb.display; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
