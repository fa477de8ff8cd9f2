"""index.txt: rows as openssl writes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.dates import date_text, ended_by, parse_date
from mailtls_nb.pki.index import Row, parse_row, parse_rows, serial_text

MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
ROWS = st.builds(
    Row,
    status=st.sampled_from(["V", "R", "E"]),
    not_after=MOMENTS,
    revocation=st.sampled_from(["", "260801120000Z", "260801120000Z,keyCompromise"]),
    serial=st.integers(0, 2**160 - 1),
    subject=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80),
)


@given(ROWS)
def test_a_row_reads_as_it_was_written(row: Row) -> None:
    assert parse_row(row.line(), number=1, where="index.txt") == row
    assert row.line().count(b"\t") == 5


@given(st.integers(0, 2**160 - 1))
def test_serials_have_an_even_number_of_upper_case_digits(serial: int) -> None:
    text = serial_text(serial)
    assert (len(text) % 2, text.upper(), int(text, 16)) == (0, text, serial)


def test_years_have_four_digits_from_2050() -> None:
    assert date_text(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)) == "491231235959Z"
    assert date_text(datetime(2050, 1, 1, tzinfo=UTC)) == "20500101000000Z"
    assert parse_date("500101000000Z").year == 1950


@given(MOMENTS, MOMENTS)
def test_whether_a_date_has_come_is_told_from_its_digits(end: datetime, now: datetime) -> None:
    for moment in (now, end, end - timedelta(seconds=1)):
        with contextlib.suppress(OverflowError):
            assert ended_by(moment)(date_text(end).encode()[:-1]) == (end <= moment)


@given(st.text("0123456789Zz+-: T", max_size=16))
def test_what_is_no_date_is_refused_and_what_is_one_reads_as_it_was(text: str) -> None:
    try:
        moment = parse_date(text)
    except ValueError:
        return
    assert date_text(moment) in (text, text[2:])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"V\t260801120000Z\t\t01\tunknown", "5 fields"),
        (b"X\t260801120000Z\t\t01\tunknown\t/CN=a", "none of V, R, E"),
        (b"V\t261301120000Z\t\t01\tunknown\t/CN=a", "line 3"),
        (b"V\tsoon\t\t01\tunknown\t/CN=a", "not a date"),
        (b"V\t260801120000Z\t\t-1\tunknown\t/CN=a", "serial"),
        (b"\x00\xff", "1 fields"),
    ],
)
def test_an_error_names_file_and_line(line: bytes, problem: str) -> None:
    good = b"V\t260801120000Z\t\t01\tunknown\t/CN=a\n"
    with pytest.raises(CADirectoryError, match=problem) as caught:
        list(parse_rows([b"# comment\n", good, line], where="/ca/index.txt"))
    assert "/ca/index.txt, line 3" in str(caught.value)


SUBJECTS = [
    "/CN=relay.example.test",
    "/C=DE/O=Beispiel \u00dc & S\u00f6hne/CN=a\\/b",
    "/O=Smith \\+ Sons+C=DE/OU=x, y/ST=Berlin/L=Mitte/CN=q\\\\u'o\"te/emailAddress=ca@example.test",
    "/DC=test/DC=example/UID=u1/SN=Sur/GN=Given/serialNumber=7/title=T/street=S 1/CN=n",
    "/C=DE/CN=\U0001f4e7 <mail>",
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subject_is_written_as_openssl_writes_it(subject: str, tmp_path: Path, openssl: Callable[..., str]) -> None:
    """The same certificate's row, by `openssl ca` and by us, byte for byte."""
    (tmp_path / "newcerts").mkdir()
    (tmp_path / "index.txt").touch()
    (tmp_path / "cnf").write_text(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\nnew_certs_dir=newcerts\nrand_serial=yes\ndefault_md=sha256\n"
        "policy=p\nemail_in_dn=yes\n[p]\nCN=optional\n"
        "[req]\ndistinguished_name=d\nstring_mask=utf8only\n[d]\n"
    )
    options = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "csr")
    openssl("req", "-config", "cnf", "-new", "-utf8", "-multivalue-rdn", "-subj", subject, *options)
    options = ("-keyfile", "key", "-selfsign", "-in", "csr", "-days", "10000", "-out", "cert")
    openssl("ca", "-config", "cnf", "-batch", "-notext", "-preserveDN", *options)
    certificate = x509.load_pem_x509_certificate((tmp_path / "cert").read_bytes())
    written = (tmp_path / "index.txt").read_bytes()
    ours = Row(
        "V", certificate.not_valid_after_utc, "", certificate.serial_number, openssl_dn(certificate.subject)
    ).line()
    assert ours == written
