"""The linter for access maps: each fault once, and a clean map without a finding."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.sendmail.access.lint import Finding, LintContext, lint
from mailtls_nb.sendmail.access.lookup_names import never_looked_up

PIN = "+CI:/C=DE/CN=Partner+20CA"
GOOD = f"PERM+VERIFY:112{PIN}"

CLEAN = f"""\
# TLS with our partner
TLS_Clt:partner.test\t{GOOD}
TLS_Clt:192.0.2.7\t{GOOD}
TLS_Clt:IPv6:2001:db8:0:0:0:0:0:7\t{GOOD}
TLS_Clt:127.0.0.1\tOK
TLS_Srv:partner.test\tTEMP+VERIFY{PIN}
TLS_Rcpt:partner.test\tENCR:112
TLS_Rcpt:boss@partner.test\tENCR:112
Try_TLS:broken.test\tNO
Srv_Features:10\tS V
TLS_Clt_features:partner.test\tCertFile=/a.pem; KeyFile=/a.key
AuthInfo:smart.test\t"U:me" "P:PERM+VERFY"
CERTIssuer:/C=DE/CN=a\tRELAY
Connect:spammer.test\tREJECT
spammer.test\tREJECT
"""
KNOWN = LintContext(
    release=(8, 17, 1),
    access_db=True,
    public=True,
    addresses={"partner.test": ("192.0.2.7", "IPv6:2001:db8:0:0:0:0:0:7")},
    reverse_names={"192.0.2.7": "partner.test", "IPv6:2001:db8:0:0:0:0:0:7": ""},
)
UNKNOWN = LintContext()


def found(text: str, context: LintContext = UNKNOWN) -> tuple[Finding, ...]:
    return lint(text.encode(), file="access", context=context)


@pytest.mark.parametrize("context", [UNKNOWN, KNOWN], ids=["unknown", "known"])
def test_a_clean_map_has_no_finding(context: LintContext) -> None:
    assert found(CLEAN, context) == ()


@pytest.mark.parametrize(
    ("line", "severity", "said"),
    [
        (f"TLS_Clt:a.partner.test\tPERM+VERFY:112{PIN}", "error", "no requirement.*would accept mail without TLS"),
        ("TLS_Srv:a.test\tPERM+ENCR", "error", "ENCR has no bits.*would accept mail without TLS"),
        (f"TLS_Srv:a.test\tVERIFY{PIN}++OU:x", "error", "'OU' is no extension.*demand less"),
        ("TLS_Srv:a.test\tREJECT", "error", "would accept mail without TLS"),
        ("TLS_Srv:a.test\tERROR:550 no", "error", "would accept mail without TLS"),
        ("TLS_Srv:a.test\tOK", "warning", "demands nothing"),
        ("TLS_Srv:a.test\tVERIFY:512", "warning", "would refuse every peer"),
        ("TLS_Srv:a.test\tENCR : 112", "warning", "would read it as ENCR:112"),
        ("TLS_Srv:a.test\tVERIFY", "warning", "any CA that this host trusts, whatever its name"),
        ("TLS_Srv:a.test\tVERIFY+CN", "warning", r"any CA that this host trusts\."),
        ("TLS_Srv:a.test\tVERIFY+CITag:OurCA", "warning", "no entry OurCA:issuer"),
        ("TLS_Srv:a.test\tVERIFY+CITag:CERTIssuer++CN", "error", "checks nothing after CITag, since line 13"),
        (f"TLS_Srv:mx.partner.test\tVERIFY:128{PIN}", "warning", r"overrides line 6 \(TLS_Srv:partner.test\)"),
        (f"TLS_Clt:10\tVERIFY{PIN}\nTLS_Clt:10.1.2.9\tENCR:112", "warning", "overrides line 16"),
        ("TLS_Rcpt:x@partner.test\tENCR:128", "warning", "overrides line 7"),
        ("TLS_Srv:\tENCR:112", "warning", "demands this of every server"),
        ("TLS_Srv:partner.test\tENCR:112", "error", "stands in line 6 already"),
        ("spammer.test\tOK", "warning", "stands in line 15 already"),
        (f"TLS_Client:a.test\t{GOOD}", "error", "no ruleset looks up; TLS_Clt is one"),
        (f"a.test\t{GOOD}", "error", "not one of the tags"),
        (f"Connect:a.test\nTLS_Srv:a.test {GOOD}", "warning", "makemap reports an error.*no value"),
        (f" TLS_Srv:a.test\t{GOOD}", "error", "makemap reports an error.*white space"),
        (f"TLS_Srv:.a.test\t{GOOD}", "error", "never looked up: it is no pattern: write a.test"),
        (f"TLS_Srv:198.51.100.0/23\t{GOOD}", "error", "write 198.51.100, 198.51.101"),
        (f"TLS_Clt:other.test\t{GOOD[:-1]}B", "warning", "by name alone"),
        ("Try_TLS:a.test\tYES", "warning", "only NO means anything"),
        ("Try_TLS:partner.test\tNO", "warning", "forbids the STARTTLS that the TLS_Srv entry"),
        ("Srv_Features:a.test\tNOSTARTTLS", "warning", "single letters"),
        ("TLS_Srv_features:a.test\tno TLS", "warning", "Name=value"),
    ],
)
def test_each_fault_is_found_in_its_line(line: str, severity: str, said: str) -> None:
    (finding,) = found(CLEAN + line + "\n")
    assert finding.severity == severity
    assert finding.line >= 16
    assert re.search(said, str(finding))


@pytest.mark.parametrize(
    ("line", "context", "severity", "said"),
    [
        (f"TLS_Srv:a.test\t{GOOD}", LintContext(access_db=False), "error", "1 in all.* dead"),
        (
            "OurCA:/C=DE/CN=a\tOK\nTLS_Srv:a.test\tVERIFY+CITag:OurCA",
            LintContext(release=(8, 15, 2)),
            "error",
            "uses CITag, which sendmail 8.15.2 ignores",
        ),
        (
            f"TLS_Clt:a.test\t{GOOD}\nTLS_Clt:192.0.2.1\t{GOOD}",
            LintContext(
                addresses={"a.test": ("192.0.2.1", "192.0.2.2")},
                reverse_names={"192.0.2.1": "a.test", "192.0.2.2": "mx.a.test"},
            ),
            "warning",
            r"by name alone.* Add TLS_Clt:192.0.2.2\.",
        ),
        (
            f"TLS_Clt:192.0.2.9\t{GOOD}\nTLS_Clt:cloud.test\tENCR:112\nTLS_Clt:192.0.2.1\tENCR:112",
            LintContext(reverse_names={"192.0.2.9": "mx.cloud.test"}),
            "warning",
            r"does not count for mx.cloud.test: line 2",
        ),
    ],
)
def test_facts_of_the_world_are_taken_in(line: str, context: LintContext, severity: str, said: str) -> None:
    (finding,) = found(line, context)
    assert finding.severity == severity
    assert re.search(said, str(finding))


@pytest.mark.parametrize(
    ("reverse_name", "said"), [("mail7.cloud.test", "has the reverse name 'mail7.cloud.test'"), ("", "no reverse name")]
)
def test_a_name_that_is_not_the_reverse_name_is_an_error(reverse_name: str, said: str) -> None:
    context = LintContext(addresses={"a.test": ("192.0.2.1",)}, reverse_names={"192.0.2.1": reverse_name})
    findings = found(f"TLS_Clt:a.test\t{GOOD}", context)
    assert [finding.severity for finding in findings] == ["error", "warning"]
    assert said in str(findings[0])
    assert "TLS_Clt:192.0.2.1" in findings[0].do
    assert found(f"TLS_Clt:a.test\t{GOOD}\nTLS_Clt:192.0.2\t{GOOD}", context) == ()


@pytest.mark.parametrize(
    ("public", "exempt", "said"),
    [
        (True, False, ["RFC 3207", "programs on this host"]),
        (None, True, ["RFC 3207"]),
        (False, False, ["programs on this host"]),
        (False, True, []),
    ],
)
def test_a_bare_tag_is_pointed_out(public: bool | None, exempt: bool, said: list[str]) -> None:
    text = f"TLS_Clt:\t{GOOD}\n" + ("TLS_Clt:127.0.0.1\tOK\n" if exempt else "")
    findings = found(text, LintContext(public=public))
    assert len(findings) == len(said)
    assert all(part in str(finding) for part, finding in zip(said, findings, strict=True))


@pytest.mark.parametrize(
    ("tag", "name", "written"),
    [
        ("TLS_Clt", "2001:db8::1", "IPv6:2001:db8:0:0:0:0:0:1"),
        ("TLS_Clt", "IPv6:2001:db8::1", "IPv6:2001:db8:0:0:0:0:0:1"),
        ("TLS_Clt", "IPv6:2001:0db8", "in full"),
        ("TLS_Clt", "192.0.2.", "first octets"),
        ("TLS_Clt", "192.0.2.256", "first octets"),
        ("TLS_Clt", "192.000.002.001", "first octets"),
        ("TLS_Clt", "*.partner.test", "write partner.test"),
        ("TLS_Clt", "partner.test.", "without a dot"),
        ("TLS_Clt", "https://partner.test", "no host has such a name"),
        ("TLS_Srv", "user@partner.test", "mail address"),
        ("TLS_Rcpt", "192.0.2.1", "mail address and domain"),
        ("TLS_Rcpt", "@partner.test", "(partner.test)"),
        ("TLS_Rcpt", "user@*.partner.test", "write partner.test"),
    ],
)
def test_names_that_are_never_looked_up(tag: str, name: str, written: str) -> None:
    assert written in never_looked_up(tag, name)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("TLS_Clt", ""),
        ("TLS_Clt", "Partner.test"),
        ("TLS_Clt", "test"),
        ("TLS_Clt", "a_b.test"),
        ("TLS_Clt", "192.0.2"),
        ("TLS_Clt", "[192.0.2.1]"),
        ("TLS_Clt", "IPv6:2001:db8:0:0"),
        ("TLS_Rcpt", "user+x@partner.test"),
        ("TLS_Rcpt", "user@"),
        ("TLS_Rcpt", "user@[192.0.2.1]"),
    ],
)
def test_names_that_are_looked_up(tag: str, name: str) -> None:
    assert never_looked_up(tag, name) == ""


_PARTS = ["TLS_Clt:", "tls_rcpt:", "Try_TLS:", "a.test", "@", "192.0.2", "IPv6:", "::", "/24", "\t", " ", "\n",
          "VERIFY", "+", ":112", "CN", "CITag:", "OK", "#", "\0", "é", "[", "]", ".", "*"]  # fmt: skip


@given(st.binary() | st.lists(st.sampled_from(_PARTS)).map(lambda parts: "".join(parts).encode()))
def test_any_bytes_are_linted(access: bytes) -> None:
    for finding in lint(access, file="access", context=KNOWN):
        assert 1 <= finding.line <= access.count(b"\n") + 1
