"""What 07 makes of what it sees: each fault once, and a sound host without a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.finding import Finding, by_severity, counts, in_words
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.observe.clock import Clock
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.observe.trust_store import StoredFile, StoreDirectory, TrustStore
from mailtls_nb.pki.configuration import default_layout
from mailtls_nb.pki.hashed_directory import Entry, NameHash
from mailtls_nb.pki.index import Row
from mailtls_nb.pki.index_ends import IndexEnds
from mailtls_nb.pki.inspection import Inspected
from mailtls_nb.procedures.check.ending import endings
from mailtls_nb.procedures.check.findings import findings
from mailtls_nb.procedures.check.observation import AccessLook, CALook, CheckBefore
from mailtls_nb.procedures.check.textfile import metrics
from mailtls_nb.procedures.check.wish import CheckWish
from mailtls_nb.sendmail.cf import AccessDatabase
from mailtls_nb.sendmail.layout import Build, Layout, LogSource, Service

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
WISH = CheckWish(HostAddress("testbed", "relay"), HostAddress("testbed", "stranger"), 30, "")
NAME = "relay.example.test"
KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
PEM, CA_FILE, CERTS = "/c/relay.pem", "/c/cacert.pem", "/c"
RULES = b"TLS_Srv:partner.example.test\tTEMP+VERIFY:112+CI:/CN=Partner+20CA\n"


@cache
def certificate(
    cn: str = NAME, *, days: int = 300, usage: tuple[ObjectIdentifier, ...] = BOTH, begins: int = -1
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)]),
        KEY.public_key(),
        x509.random_serial_number(),
        NOW + begins * DAY if days > begins else NOW + (days - 1) * DAY,
        NOW + days * DAY,
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(cn)]), critical=False)
    return builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False).sign(KEY, SHA256())


@cache
def ca(cn: str = "CA", *, days: int = 3000) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    begin, serial = NOW - 4000 * DAY, x509.random_serial_number()
    return x509.CertificateBuilder(name, name, KEY.public_key(), serial, begin, NOW + days * DAY).sign(KEY, SHA256())


def crl(
    cn: str = "CA", *, days: float = 20, age: float = 1, number: int = 0, lists: x509.Certificate | None = None
) -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca(cn).subject)
    if lists is not None:
        entry = x509.RevokedCertificateBuilder().serial_number(lists.serial_number).revocation_date(NOW - DAY)
        builder = builder.add_revoked_certificate(entry.build())
    if number:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    return builder.last_update(NOW - age * DAY).next_update(NOW + days * DAY).sign(KEY, SHA256())


LAYOUT = Layout(
    profile="debian",
    proved=True,
    system="Debian",
    version=(8, 17, 1, 9),
    version_text="8.17.1.9",
    compiled_with=frozenset({"STARTTLS"}),
    canonical_name=NAME,
    sendmail="/usr/sbin/sendmail",
    cf="/etc/mail/sendmail.cf",
    submit_cf="/etc/mail/submit.cf",
    mc="/etc/mail/sendmail.mc",
    build=Build("/etc/mail", ("m4", "/etc/mail/sendmail.mc"), appends_mc=True),
    service=Service("pid-file", "/run/sendmail.pid", "hup"),
    pid_file="/run/sendmail.pid",
    queue_pid_file="",
    make_stamp="",
    daemon_argv=("/usr/sbin/sendmail-mta",),
    cert_dir=CERTS,
    cert_owner="root:smmsp",
    log=LogSource("/var/log/mail.log"),
    openssl="/usr/bin/openssl",
    openssl_version="OpenSSL 3.0.15",
)
OWN = OwnCertificate(
    PEM, FileStatus(0o600, "root:root"), (certificate(),), PEM, FileStatus(0o600, "root:root"), False, KEY.public_key()
)
PARTNER = Entry("11111111.0", "partner.pem", 0o644, (ca("Partner CA"),), name_hash=NameHash("11111111", "22222222"))
DIRECTORY = StoreDirectory(CERTS, FileStatus(0o755, "root:root"), (PARTNER,))
STORED = StoredFile(CA_FILE, FileStatus(0o644, "root:root"), 0o644, "", (ca(),), ())
ACCESS = AccessLook(AccessDatabase("hash", "/etc/mail/access", optional=False), RULES)
SOUND = CheckBefore(
    at=NOW,
    layout=LAYOUT,
    options={"CACertFile": CA_FILE, "CACertPath": CERTS, "ServerCertFile": PEM, "ClientCertFile": PEM},
    own={"server": OWN, "client": OWN},
    store=TrustStore(DIRECTORY, None, STORED, None, (), ()),
    presented=Presented(True, True, (certificate(),), "TLSv1.3", "TLS_AES_256_GCM_SHA384", "", ""),
    greeting="",
    access=ACCESS,
    clocks=(Clock("testbed:relay", timedelta(0)),),
)


def server(**changed: object) -> CheckBefore:
    return replace(SOUND, own={**SOUND.own, "server": replace(OWN, **changed)})  # type: ignore[arg-type]


def client(found: x509.Certificate) -> CheckBefore:
    return replace(SOUND, own={**SOUND.own, "client": replace(OWN, certificates=(found,))})


def option(**settings: str) -> CheckBefore:
    return replace(SOUND, options={k: v for k, v in {**SOUND.options, **settings}.items() if v})


def store(before: CheckBefore = SOUND, **changed: object) -> CheckBefore:
    return replace(before, store=replace(before.store, **changed))  # type: ignore[arg-type]


def links(*entries: Entry, mode: int = 0o755) -> CheckBefore:
    return store(ca_path=replace(DIRECTORY, status=FileStatus(mode, "root:root"), entries=entries))


def crl_file(*crls: x509.CertificateRevocationList) -> CheckBefore:
    return store(option(CRLFile="/c/crl.pem"), crl_file=replace(STORED, path="/c/crl.pem", certificates=(), crls=crls))


def crl_path(*crls: x509.CertificateRevocationList) -> CheckBefore:
    entry = Entry("33333333.r0", "a.crl", 0o644, crls=crls, name_hash=NameHash("33333333"))
    directory = StoreDirectory("/crls", FileStatus(0o755, "root:root"), (entry,))
    return store(option(CRLPath="/crls"), crl_path=directory)


def access(**changed: object) -> CheckBefore:
    return replace(SOUND, access=replace(ACCESS, **changed))  # type: ignore[arg-type]


def clock(**ahead: float) -> CheckBefore:
    return replace(SOUND, clocks=(*SOUND.clocks, Clock("ssh://mx", timedelta(**ahead))))


def ca_directory(*, further: tuple[Finding, ...] = (), **changed: object) -> CheckBefore:
    """With a CA directory as well, which is sound but for what is changed."""
    sound = Inspected(default_layout(Path("/ca")), ca(), crl(), certificate(days=200))
    return replace(SOUND, cas=(CALook(replace(sound, **changed), further),))  # type: ignore[arg-type]


def index(*days: float, **counted: object) -> CheckBefore:
    """The CA's index with certificates that end in so many days."""
    rows = tuple(Row("V", NOW + left * DAY, "", 10 + number, f"/CN=h{number}.test") for number, left in enumerate(days))
    counts_of = {"soon": sum(left <= 30 for left in days), **counted}
    return ca_directory(ends=IndexEnds(first=rows, **counts_of))  # type: ignore[arg-type]


def revoked(
    on_the_host: x509.CertificateRevocationList | None, *, untold: int = 0, trusted: bool = True, **changed: object
) -> CheckBefore:
    """The CA, whose newest CRL has the number 7, has revoked three; so many of them are not on its CRL."""
    rows = tuple(Row("R", NOW + DAY, "261101000000Z", 10 + number, f"/CN=h{number}.test") for number in range(untold))
    ends = IndexEnds(revoked=3, untold=untold, untold_first=rows)
    directory = ca_directory(**{"crl": crl(number=7), "ends": ends, **changed})  # type: ignore[arg-type]
    host = crl_file(on_the_host) if on_the_host is not None else SOUND
    ca_file = host.store.ca_file if trusted else replace(STORED, certificates=(ca("Another CA"),))
    return replace(host, cas=directory.cas, store=replace(host.store, ca_file=ca_file))


def port(**changed: object) -> CheckBefore:
    return replace(SOUND, presented=replace(SOUND.presented, **changed))  # type: ignore[arg-type]


# What is there; the severity; what is said; where.
FAULTS: dict[str, tuple[Callable[[], CheckBefore], str, str, str]] = {
    "interrupted": (
        lambda: replace(SOUND, layout=replace(LAYOUT, interrupted=True)), "error", "cut off", LAYOUT.mc,
    ),
    "drifted": (
        lambda: replace(SOUND, layout=replace(LAYOUT, drifted=True)), "warning", "does not build", LAYOUT.cf,
    ),
    "unproved": (lambda: replace(SOUND, layout=replace(LAYOUT, remarks=("Odd.",))), "note", "Odd.", LAYOUT.cf),
    "no answer": (lambda: port(connected=False, chain=(), problem="refused"), "error", "does not answer", "port 25"),
    "no STARTTLS": (lambda: port(starttls_offered=False, chain=()), "error", "STARTTLS is not offered", "port 25"),
    "no TLS": (lambda: port(chain=(), problem="alert"), "error", "no TLS comes about", "port 25"),
    "not reloaded": (lambda: port(chain=(certificate(days=299),)), "error", "another certificate", "port 25"),
    "certificate gone": (lambda: server(status=None, certificates=()), "error", "server certificate /c/relay.pem", PEM),
    "certificate garbage": (lambda: server(certificates=()), "error", "no certificate that can be read", PEM),
    "no key option": (lambda: server(key_path="", key_status=None), "error", "ServerKeyFile is not set", LAYOUT.cf),
    "key gone": (lambda: server(key_status=None), "error", "key /c/relay.pem is not there", PEM),
    "key 0644": (lambda: server(key_status=FileStatus(0o644, "root:root")), "error", "mode 0644", PEM),
    "key 0640": (lambda: server(key_status=FileStatus(0o640, "root:root")), "error", "mode 0640", PEM),
    "passphrase": (lambda: server(key_is_encrypted=True, public_key=None), "error", "has a passphrase", PEM),
    "other key": (lambda: server(public_key=OTHER_KEY.public_key()), "error", "is not that of the certificate", PEM),
    "expired": (lambda: client(certificate(days=-1)), "error", "ended on 2026-11-22", PEM),
    "ends soon": (lambda: client(certificate(days=29)), "warning", "ends on 2026-12-22", PEM),
    "not yet": (lambda: client(certificate(begins=2)), "error", "begins on 2026-11-25", PEM),
    "no clientAuth": (lambda: client(certificate(usage=BOTH[:1])), "error", "without clientAuth", PEM),
    "other name": (lambda: replace(server(certificates=(certificate("a.test"),)), presented=port(
        chain=(certificate("a.test"),)).presented), "warning", f"is for a.test, not for {NAME}", PEM),
    "intermediate": (lambda: server(certificates=(certificate(), ca("I"))), "warning", "/CN=I behind", PEM),
    "no client": (lambda: replace(SOUND, own={"server": OWN}), "warning", "No certificate is configured", LAYOUT.cf),
    "no CACertFile": (lambda: store(option(CACertFile=""), ca_file=None), "error", "CACertFile is not", LAYOUT.cf),
    "no CACertPath": (lambda: option(CACertPath=""), "error", "CACertPath is not set", LAYOUT.cf),
    "CA file gone": (lambda: store(ca_file=None), "error", "is not there", CA_FILE),
    "CA file empty": (lambda: store(ca_file=replace(STORED, certificates=())), "error", "can be read", CA_FILE),
    "CA file 0666": (lambda: store(ca_file=replace(STORED, mode=0o666)), "error", "by everybody", CA_FILE),
    "directory gone": (lambda: store(ca_path=StoreDirectory(CERTS)), "error", "CACertPath, /c, is not there", CERTS),
    "directory 0777": (lambda: links(PARTNER, mode=0o777), "error", "by everybody", CERTS),
    "dangling": (lambda: links(replace(PARTNER, mode=None)), "error", "leads to partner.pem", "/c/11111111.0"),
    "gap": (lambda: links(replace(PARTNER, name="11111111.1")), "error", "never looked at", "/c/11111111.1"),
    "old hash": (lambda: links(PARTNER, replace(PARTNER, name="22222222.0")), "warning", "OpenSSL before 1.0",
        "/c/22222222.0"),
    "linked file 0666": (lambda: links(replace(PARTNER, mode=0o666)), "error", "others can write", "/c/11111111.0"),
    "CA ended": (lambda: store(ca_file=replace(STORED, certificates=(ca(days=-1),))), "error", "CA /CN=CA ended on",
        CA_FILE),
    "CA ends": (lambda: links(replace(PARTNER, certificates=(ca(days=3),))), "warning", "CA /CN=CA ends on", CERTS),
    "CRL ended": (lambda: crl_file(crl(days=-0.5)), "error", "CRL of /CN=CA ended on", "/c/crl.pem"),
    "CRL ends": (lambda: crl_file(crl(days=2, age=28)), "warning", "CRL of /CN=CA ends on", "/c/crl.pem"),
    "linked CRL ended": (lambda: crl_path(crl(days=-0.5)), "error", "CRL of /CN=CA ended on", "/crls"),
    "CRL gone": (lambda: option(CRLFile="/c/crl.pem"), "error", "is not there", "/c/crl.pem"),
    "CRL garbage": (lambda: crl_file(), "error", "no CRL that can be read", "/c/crl.pem"),
    "CRL of another": (lambda: crl_file(crl("X")), "error", "no CA that this host trusts", "/c/crl.pem"),
    "two CRLs": (lambda: crl_file(crl(), crl("Partner CA")), "error", "the first only", "/c/crl.pem"),
    "CRL directory gone": (lambda: option(CRLPath="/crls"), "error", "is not there", "/crls"),
    "no access_db": (lambda: replace(SOUND, access=None), "note", "no access map", LAYOUT.cf),
    "no text": (lambda: access(text=None), "warning", "text of the access map", "/etc/mail/access"),
    "no database": (lambda: access(in_service=False), "error", "is not there", "/etc/mail/access.db"),
    "stale": (lambda: access(is_current=False), "error", "is not what /etc/mail/access says", "/etc/mail/access.db"),
    "refused": (lambda: access(problem="makemap does not take it"), "error", "does not take", "/etc/mail/access"),
    "clock ahead": (lambda: clock(days=365), "error", "ssh://mx is 365 days ahead of", "ssh://mx"),
    "clock behind": (lambda: clock(days=-365), "error", "ssh://mx is 365 days behind", "ssh://mx"),
    "clock 301 s": (lambda: clock(seconds=301), "error", "ssh://mx is 5 minutes ahead", "ssh://mx"),
    "clock 90 s": (lambda: clock(seconds=-90), "note", "ssh://mx is 90 seconds behind", "ssh://mx"),
    "our CA ended": (lambda: ca_directory(certificate=ca(days=-1)), "error", "Our CA /CN=CA ended on", "/ca/cacert"),
    "our CA ends": (lambda: ca_directory(certificate=ca(days=9)), "warning", "Our CA /CN=CA ends on", "/ca/cacert"),
    "our CRL ended": (lambda: ca_directory(crl=crl(days=-1, age=9)), "error", "CRL of our CA /CN=CA ended", "/ca/crl"),
    "our CRL ends": (lambda: ca_directory(crl=crl(days=2, age=28)), "warning", "CRL of our CA /CN=CA ends", "/ca/crl"),
    "issued ends": (lambda: index(3, 200), "warning", "/CN=h0.test (serial 0A) that our CA issued ends", "/ca/index"),
    "many end": (lambda: index(soon=980), "warning", "980 more certificates of the CA end within 30", "/ca/index"),
    "superseded": (lambda: index(superseded=7), "note", "7 certificates of the CA end within 30 days, ", "/ca/index"),
    "one superseded": (lambda: index(superseded=1), "note", "One certificate of the CA ends within", "/ca/index"),
    "still valid": (lambda: index(expired=1000, expired_last=(Row("V", NOW - DAY, "", 9, "/CN=x"),)), "note",
        "1000 certificates of the CA have ended and are still valid by the index, the last: /CN=x on 2026-11-22",
        "/ca/index"),
    "certificate ahead": (lambda: ca_directory(newest=certificate(days=200, begins=100)), "error", "only on 2027-03-03",
        "/ca"),
    "CRL ahead": (lambda: ca_directory(crl=crl(days=500, age=-365)), "error", "its CRL begins only on 2027-11-23",
        "/ca"),
    "unfinished": (lambda: ca_directory(is_unfinished=True), "warning", "was cut short", "/ca/index.txt"),
    "CA unreadable": (lambda: ca_directory(certificate=None, crl=None, newest=None, problems=(
        CADirectoryError("/ca/cacert.pem is odd", do="see"),)), "error", "/ca/cacert.pem is odd.", "/ca"),
    "one untold": (lambda: revoked(crl(number=7), untold=1), "error",
        "Revoked in the index and not listed in /ca/crl.pem: /CN=h0.test (serial 0A).", "/ca/crl.pem"),
    "many untold": (lambda: revoked(crl(number=7), untold=9), "error", "(serial 0E), and 4 more.", "/ca/crl.pem"),
    "no CRL of ours": (lambda: revoked(crl(number=7), untold=1, crl=None), "error", "not listed", "/ca/crl.pem"),
    "not distributed": (lambda: revoked(crl(number=6)), "error",
        "The CRL of /CN=CA in /c/crl.pem has the number 6, and the newest in the CA directory 7.", "/c/crl.pem"),
    "on no host": (lambda: revoked(None), "warning",
        "/CN=CA has revoked 3 certificates, and this host reads no CRL of it.", LAYOUT.cf),
    "revoked": (lambda: crl_file(crl(lists=certificate())), "error",
        "The server and client certificate /c/relay.pem was revoked on 2026-11-22.", PEM),
    "revoked by its CA": (lambda: ca_directory(crl=crl(lists=certificate())), "error", "was revoked on", PEM),
    "further": (lambda: ca_directory(further=(Finding("note", "Odd.", "So.", "/ca/x", "See."),)), "note", "Odd.",
        "/ca/x"),
    "open rule": (lambda: access(text=RULES + b"TLS_Srv:x.test PERM+VERFY:112\n"), "error", "TLS_Srv:x.test has",
        "/etc/mail/access, line 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_the_one_finding(fault: str) -> None:
    make, severity, said, where = FAULTS[fault]
    (found,) = findings(WISH, make())
    assert (found.severity, said in found.what, found.where.startswith(where)) == (severity, True, True), found
    assert all(text.endswith(".") for text in (found.what, found.why, found.do)), found


def test_a_sound_host_has_no_findings() -> None:
    assert findings(WISH, SOUND) == ()
    assert findings(WISH, ca_directory()) == findings(WISH, index(31, 200)) == findings(WISH, clock(seconds=60)) == ()
    assert findings(WISH, crl_file(crl(days=20, age=1))) == ()
    # Another certificate, or another CA's of that number.
    assert findings(WISH, crl_file(crl(lists=certificate(days=200)))) == ()
    assert findings(WISH, crl_file(crl("Partner CA", lists=certificate()))) == ()
    # Told and distributed, also from another copy of the directory; or of a CA that it does not trust.
    assert findings(WISH, revoked(crl(number=7))) == findings(WISH, revoked(crl(number=8))) == ()
    assert findings(WISH, revoked(None, trusted=False)) == ()
    # What a CRL of an hour's life needs is not a warning from its first minute.
    assert findings(replace(WISH, warn_days=3650), crl_file(crl(days=0.03, age=0.01)))[0].severity == "warning"
    assert findings(WISH, crl_file(crl(days=0.03, age=0.01))) == ()


def test_a_host_without_a_certificate_is_told_the_one_thing_to_do() -> None:
    bare = replace(SOUND, own={}, options={}, store=TrustStore(DIRECTORY, None, None, None, (), ()))
    bare = replace(bare, presented=replace(SOUND.presented, starttls_offered=False, chain=()))
    (found,) = findings(WISH, bare)
    assert (found.severity, found.what) == ("error", "STARTTLS is not offered.")
    assert "02-issue-certificate" in found.do


def test_a_group_may_read_the_key_where_sendmail_is_told_so() -> None:
    before = server(key_status=FileStatus(0o640, "root:smmsp"))
    told = replace(before, options={**before.options, "DontBlameSendmail": "GroupReadableKeyFile"})
    assert findings(WISH, told) == ()


def test_a_wildcard_names_the_host() -> None:
    wild = certificate("*.example.test")
    assert findings(WISH, replace(server(certificates=(wild,)), presented=port(chain=(wild,)).presented)) == ()


def test_the_gravest_stand_first_and_each_once() -> None:
    note, error = (Finding(severity, "a", "b", "c", "d") for severity in ("note", "error"))
    assert by_severity((note, error, note)) == (error, note)
    assert counts(("error", "error", "note")) == {"error": 2, "warning": 0, "note": 1}
    assert in_words(counts(("error", "error", "note"))) == "2 errors, 1 note"
    assert in_words(counts(())) == "no findings"


def test_what_a_host_printed_cannot_steer_a_terminal() -> None:
    assert Finding("note", "a\x1b[2J", "b", "c", "d").what == r"a\x1b[2J"


def test_the_textfile_is_what_prometheus_reads() -> None:
    before = store(crl_file(crl(days=-0.5)), ca_file=replace(STORED, certificates=(ca('a"b\\c', days=3),)))
    text = metrics("testbed:relay", before, findings(WISH, before))
    assert text.splitlines()[2:] == [
        'mailtls_days_left{host="testbed:relay",kind="crl",name="/CN=CA",path="/c/crl.pem"} -0.50',
        'mailtls_days_left{host="testbed:relay",kind="partner-ca",name="/CN=a\\"b\\\\c",path="/c/cacert.pem"} 3',
        f'mailtls_days_left{{host="testbed:relay",kind="certificate",name="/CN={NAME}",path="/c/relay.pem"}} 300',
        'mailtls_days_left{host="testbed:relay",kind="partner-ca",name="/CN=Partner CA",path="/c"} 3000',
        "# HELP mailtls_findings What 07-check-host found, by severity.",
        "# TYPE mailtls_findings gauge",
        'mailtls_findings{host="testbed:relay",severity="error"} 2',
        'mailtls_findings{host="testbed:relay",severity="warning"} 1',
        'mailtls_findings{host="testbed:relay",severity="note"} 0',
        "# HELP mailtls_checked_timestamp_seconds When the host was looked at.",
        "# TYPE mailtls_checked_timestamp_seconds gauge",
        f'mailtls_checked_timestamp_seconds{{host="testbed:relay"}} {int(NOW.timestamp())}',
    ]


def test_one_list_holds_all_that_ends() -> None:
    """The host's own certificate is no partner's, and is told once though the CA's index has it too."""
    own_row = Row("V", certificate().not_valid_after_utc, "", certificate().serial_number, f"/CN={NAME}")
    issued = IndexEnds(first=(Row("V", NOW + 9 * DAY, "", 9, "/CN=x"), own_row))
    before = store(crl_file(crl(days=20)), ca_file=replace(STORED, certificates=(ca(), ca("Public", days=50))))
    before = replace(before, cas=ca_directory(ends=issued).cas)
    assert [(ending.end.kind, ending.end.name, ending.end.where) for ending in endings(before)] == [
        ("issued", "/CN=x (serial 09)", "/ca/index.txt"),
        ("crl", "/CN=CA", "/c/crl.pem"),
        ("crl", "/CN=CA", "/ca/crl.pem"),
        ("partner-ca", "/CN=Public", CA_FILE),
        ("certificate", f"/CN={NAME}", PEM),
        ("ca", "/CN=CA", CA_FILE),
        ("ca", "/CN=CA", "/ca/cacert.pem"),
        ("partner-ca", "/CN=Partner CA", CERTS),
    ]


def test_a_certificate_of_both_roles_is_one_finding_that_tells_of_both() -> None:
    ended = replace(OWN, certificates=(certificate(days=-1),))
    before = replace(SOUND, own={"server": ended, "client": ended})
    found = [f for f in findings(WISH, before) if "ended" in f.what]
    assert [f.what for f in found] == [f"The server and client certificate /CN={NAME} ended on 2026-11-22."]
    assert "Whoever verifies us" in found[0].why
    assert "Partners get verify=FAIL" in found[0].why
    assert "06-renew-certificate" in found[0].do


def test_a_year_later_all_has_ended_and_the_clock_is_named_first() -> None:
    """Given times: the same host, looked at with a clock that is a year ahead."""
    before = replace(ca_directory(), at=NOW + 365 * DAY, clocks=(Clock("testbed:relay", -365 * DAY),))
    errors = [f.what for f in findings(WISH, before) if f.severity == "error"]
    assert errors[0].startswith("The clock of testbed:relay is 365 days behind this machine's, which says 2027-11-23")
    assert any("certificate /CN=relay.example.test ended" in what for what in errors)
    assert any("CRL of our CA /CN=CA ended" in what for what in errors)


def test_what_to_do_names_the_runbook() -> None:
    for before, runbook in (
        (ca_directory(certificate=ca(days=9)), "09-replace-ca"),
        (ca_directory(crl=crl(days=-1, age=9)), "05-revoke-certificate with action refresh"),
        (index(3), "06-renew-certificate"),
        (links(replace(PARTNER, certificates=(ca("P", days=3),))), "03-trust-partner"),
    ):
        (found,) = findings(WISH, before)
        assert runbook in found.do
