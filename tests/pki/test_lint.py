"""What goes wrong in CA directories: shown with openssl's own words, then named by the lint, then cured.

Each test first has openssl fail (or do harm) by itself.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki import adoption, mending
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import parse_row
from mailtls_nb.pki.index_scan import plain_row
from mailtls_nb.pki.lint import lint
from mailtls_nb.pki.problem import IndexProblem
from tests.pki.openssl_ca import OpensslCA

Openssl = Callable[..., str]
NAME = "relay.example.test"
# OpenSSL 3 says the second, older ones (and those who add several at once) the first.
CLASH = re.compile(r"TXT_DB error number 2|There is already a certificate for /CN=relay\.example\.test")


@pytest.fixture
def made(tmp_path: Path, openssl: Openssl) -> OpensslCA:
    return OpensslCA.make(tmp_path / "ca", openssl)


def problems(path: Path, now: datetime) -> dict[str, IndexProblem]:
    """By name; the directory is as it was, to the file times."""
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*")}
    found = lint(adoption.find_layout(path)[0], now=now)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*")} == before
    order = [problem.severity for problem in found]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    for problem in found:
        assert all((problem.what, problem.why, problem.where.startswith(str(path)), problem.do))
        assert problem.what.endswith(".")
        assert problem.why.endswith(".")
    return {problem.name: problem for problem in found}


def cured(made: OpensslCA, now: datetime, name: str = NAME) -> Cures:
    ca = made.ours
    _, cures = mending.look(ca.layout, f"/CN={name}", now=now)
    mending.cure(ca, cures, now=now)
    assert not mending.look(ca.layout, f"/CN={name}", now=now)[1]
    return cures


def test_a_sound_directory_has_no_problem(made: OpensslCA, now: datetime) -> None:
    assert problems(made.path, now) == {}
    made.sign(NAME)
    made.sign("other.example.test")
    made.ca("-revoke", made.path / "newcerts" / "01.pem", "-crl_reason", "keyCompromise")
    made.ca("-gencrl", "-out", made.path / "crl.pem")
    made.sign(NAME)
    assert problems(made.path, now) == {}


def test_one_of_ours_has_no_problem(ca: CADirectory, now: datetime) -> None:
    assert problems(ca.path, now) == {}


class TestUniqueSubject:
    def test_an_expired_certificate_that_is_still_marked_valid(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME, days=1)
        made.sign("other.example.test", days=1)
        later = now + timedelta(days=2)
        assert CLASH.search(made.refuses(NAME))
        found = problems(made.path, later)
        assert list(found) == ["unique-subject-expired"]
        said = found["unique-subject-expired"]
        assert CLASH.search(said.why)
        assert said.where == f"{made.path}/index.txt, line 1"
        assert "01, 02" in said.what

        cures = cured(made, later)
        assert [row.serial for row in cures.expired] == [1]
        assert not cures.superseded
        # As by -updatedb: all that has expired is marked.
        assert [line[0] for line in made.index.splitlines()] == ["E", "E"]
        made.sign(NAME)
        assert problems(made.path, later) == {}

    def test_a_certificate_that_is_still_valid(self, made: OpensslCA, now: datetime) -> None:
        """Sound as it is: only who wants another certificate for the name needs a cure."""
        made.sign(NAME)
        made.sign("other.example.test")
        assert CLASH.search(made.refuses(NAME))
        assert problems(made.path, now) == {}
        cures = cured(made, now)
        assert [row.serial for row in cures.superseded] == [1]
        assert [line[0] for line in made.index.splitlines()] == ["R", "V"]
        assert made.index.splitlines()[0].split("\t")[2].endswith("Z,superseded")
        made.sign(NAME)
        made.ca("-gencrl", "-out", made.path / "crl.pem")
        assert "Serial Number: 01" in made.openssl("crl", "-in", made.path / "crl.pem", "-noout", "-text")

    def test_two_valid_certificates_of_one_subject_stop_openssl_altogether(
        self, made: OpensslCA, now: datetime
    ) -> None:
        """As where unique_subject was `no` for a while: not even -updatedb, the cure of the books, works then."""
        made.sign(NAME, days=1)
        attributes = made.path / "index.txt.attr"
        attributes.write_text("unique_subject = no\n")
        made.sign(NAME)
        attributes.write_text("unique_subject = yes\n")
        later = now + timedelta(days=2)
        for command in (("-updatedb",), ("-revoke", made.path / "newcerts" / "01.pem")):
            assert "name index:(2," in made.ca(*command, status=None)
        assert "name index:(2," in made.refuses("other.example.test")
        found = problems(made.path, later)
        assert list(found) == ["unique-subject-twice", "unique-subject-expired"]
        assert "TXT_DB error number 2" in found["unique-subject-twice"].why
        assert "lines 1, 2, and subjects are to be unique." in found["unique-subject-twice"].what

        cures = cured(made, later)
        assert [[row.serial for row in rows] for rows in (cures.expired, cures.superseded)] == [[1], [2]]
        assert [line[0] for line in made.index.splitlines()] == ["E", "R"]
        made.sign(NAME)
        made.ca("-updatedb")
        assert problems(made.path, later) == {}

    def test_where_subjects_need_not_be_unique_nothing_is_to_be_cured(self, made: OpensslCA, now: datetime) -> None:
        text = (made.path / "openssl.cnf").read_text().replace("unique_subject = yes", "unique_subject = no")
        (made.path / "openssl.cnf").write_text(text)
        made.sign(NAME)
        made.sign(NAME)
        assert problems(made.path, now) == {}
        found = problems(made.path, now + timedelta(days=366))
        assert [(problem.name, problem.severity) for problem in found.values()] == [("expired-valid", "note")]
        assert not mending.look(made.ours.layout, f"/CN={NAME}", now=now + timedelta(days=366))[1]

    def test_the_attributes_and_the_configuration_disagree(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        (made.path / "index.txt.attr").write_text("unique_subject = no\n")
        made.sign(NAME)  # the attributes decide
        found = problems(made.path, now)
        assert list(found) == ["attributes-disagree"]
        (made.path / "index.txt.attr").unlink()
        assert "name index:(2," in made.refuses("other.example.test")
        assert list(problems(made.path, now)) == ["unique-subject-twice"]


class TestSerials:
    def test_the_same_row_twice(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        row = made.index
        made.index = row + row
        assert "serial number index:(2," in made.refuses("other.example.test")
        found = problems(made.path, now)
        assert set(found) == {"serial-twice", "unique-subject-twice"}
        assert "TXT_DB error number 2" in found["serial-twice"].why
        assert not cured(made, now, "other.example.test").set_aside
        assert made.index == row
        made.sign("other.example.test")

    def test_two_certificates_of_one_serial(self, made: OpensslCA, now: datetime) -> None:
        """What parallel `openssl ca` leave: two rows, and the certificate of the later one."""
        made.sign("lost.example.test")
        lost = made.index
        made.index = ""
        (made.path / "serial").write_text("01\n")
        made.sign(NAME)
        kept = made.index
        made.index = lost + kept
        assert "serial number index:(2," in made.refuses("other.example.test")
        found = problems(made.path, now)
        assert list(found) == ["serial-twice"]
        assert "rows that differ: lines 1, 2" in found["serial-twice"].what

        cures = cured(made, now, "other.example.test")
        assert [row.line for row in cures.set_aside] == [lost.rstrip("\n").encode()]
        assert made.index == kept
        note, row = (made.path / "index.txt.set-aside").read_text().splitlines(keepends=True)
        assert row == lost
        assert re.fullmatch(r"# \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, from line 1 of .*\n", note)
        made.sign("other.example.test")
        assert problems(made.path, now) == {}

    def test_of_one_certificate_the_row_that_was_revoked_is_kept(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        valid = made.index
        made.ca("-revoke", made.path / "newcerts" / "01.pem")
        revoked = made.index
        made.index = revoked + valid
        assert "serial number index:(2," in made.refuses("other.example.test")
        cured(made, now)
        assert made.index == revoked

    def test_what_cannot_be_decided_is_refused(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        one = made.index
        made.index = one + one.replace(NAME, "a.example.test") + one.replace(NAME, "b.example.test")
        assert len(cured(made, now).set_aside) == 2
        made.index = one.replace(NAME, "a.example.test") + one.replace(NAME, "b.example.test")
        before = made.index
        with pytest.raises(CADirectoryError, match=r"lines 1, 2\), and none of them agrees with newcerts/01\.pem"):
            mending.look(made.ours.layout, f"/CN={NAME}", now=now)
        (made.path / "newcerts" / "01.pem").unlink()
        with pytest.raises(CADirectoryError, match="none of them agrees"):
            mending.look(made.ours.layout, f"/CN={NAME}", now=now)
        assert made.index == before

    def test_serials_as_openssl_does_not_write_them(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        sound = made.index
        made.index = sound.replace("\t01\t", "\t1\t")
        assert "bad serial number length" in made.refuses("other.example.test")
        assert problems(made.path, now)["serial-spelling"].severity == "error"
        # By other letters the same serial can be given out twice.
        made.index = sound.replace("\t01\t", "\t0a\t")
        (made.path / "serial").write_text("0A\n")
        made.sign("other.example.test")
        assert {"serial-spelling", "serial-twice"} <= set(problems(made.path, now))

    def test_the_next_serial_was_given_out(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        (made.path / "serial").write_text("01\n")
        assert "Serial number 01 has already been issued" in made.refuses("other.example.test")
        assert list(problems(made.path, now)) == ["serial-used"]
        for text, name in (("x\n", "serial-garbage"), (None, "serial-missing")):
            (made.path / "serial").unlink()
            if text is not None:
                (made.path / "serial").write_text(text)
            made.refuses("other.example.test")
            assert list(problems(made.path, now)) == [name]


class TestLines:
    def test_a_last_line_without_lf(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        cut = made.index[:-1]
        made.index = cut
        made.sign("other.example.test")
        assert NAME not in made.index  # openssl dropped the row, and said nothing
        made.index = cut
        assert "no-final-newline" in problems(made.path, now)
        made.ours  # noqa: B018 - opening it is no reason to write
        assert made.index == cut
        assert cured(made, now, "third.example.test").lacks_lf
        assert made.index == f"{cut}\n"

    def test_a_blank_line(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        sound = made.index
        made.index = f"\n{sound} \n"
        assert "could not load/parse" in made.refuses("other.example.test")
        assert "Lines 1, 3 are blank" in problems(made.path, now)["blank-line"].what
        cured(made, now, "other.example.test")
        assert made.index == sound
        made.sign("other.example.test")

    @pytest.mark.parametrize(
        "line", ["V\t300101000000Z\t\t0B\tunknown\n", "garbage\n", "V\tsoon\t\t0B\tunknown\t/CN=a\n"]
    )
    def test_a_line_that_is_no_row(self, line: str, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        made.index += line
        assert re.search("could not load/parse|invalid expiry date", made.refuses("other.example.test"))
        found = problems(made.path, now)
        assert list(found) == ["not-a-row"]
        assert found["not-a-row"].where == f"{made.path}/index.txt, line 2"
        with pytest.raises(CADirectoryError, match="line 2"):
            mending.look(made.ours.layout, f"/CN={NAME}", now=now)

    @pytest.mark.parametrize(("status", "revocation"), [("V", "261128120000Z"), ("R", ""), ("R", "261128120000Z,lost")])
    def test_a_date_of_revocation_in_the_wrong_place(
        self, status: str, revocation: str, made: OpensslCA, now: datetime
    ) -> None:
        made.sign(NAME)
        _, end, _, *rest = made.index.split("\t")
        made.index = "\t".join((status, end, revocation, *rest))
        said = made.refuses("other.example.test")
        assert re.search("not revoked yet, but has a revocation date|in entry 1|invalid rev", said)
        assert list(problems(made.path, now)) == ["revocation-date"]

    def test_an_editor_of_another_system(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        made.index = made.index.replace("\n", "\r\n")
        made.sign(NAME)  # openssl no longer sees that there is one
        assert list(problems(made.path, now)) == ["unique-subject-twice", "carriage-return"]


def test_an_index_that_somebody_else_changed_meanwhile_is_left_alone(made: OpensslCA, now: datetime) -> None:
    """What was planned by line is done to exactly those lines, or not at all."""
    made.sign(NAME)
    made.index += "\n" + made.index
    ca = made.ours
    _, cures = mending.look(ca.layout, f"/CN={NAME}", now=now)
    made.index = made.index.replace("\n\n", "\n")
    before = made.index
    with pytest.raises(CADirectoryError, match=r"line 2 has changed since it was looked at(.|\n)*nothing was changed"):
        mending.cure(ca, cures, now=now)
    assert made.index == before


def test_the_row_of_an_editor_that_a_writer_completes_meanwhile(made: OpensslCA, now: datetime) -> None:
    made.sign(NAME)
    made.index = made.index + made.index[:-1]
    ca = made.ours
    _, cures = mending.look(ca.layout, "/CN=other.example.test", now=now)
    assert (len(cures.drop), cures.lacks_lf) == (1, True)
    made.index += "\n"
    mending.cure(ca, cures, now=now)
    assert made.index.count("\n") == 1


class TestFiles:
    def test_openssl_killed_between_its_renames(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        made.sign("other.example.test")
        index, old = made.path / "index.txt", made.path / "index.txt.old"
        whole = made.index
        index.rename(made.path / "index.txt.new")
        made.sign("third.example.test", status=None)
        found = problems(made.path, now)
        assert list(found) == ["index-missing"]
        assert "index.txt.new and index.txt.old" in found["index-missing"].what
        (made.path / "index.txt.new").unlink()
        assert "index.txt.old to index.txt" in problems(made.path, now)["index-missing"].do
        old.unlink()
        assert problems(made.path, now)["index-missing"].what == "There is no index."
        made.index = whole
        (made.path / "index.txt.new").touch()
        assert list(problems(made.path, now)) == ["left-over"]

    def test_rows_without_certificates_and_certificates_without_rows(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        old = made.index
        made.sign("other.example.test")
        newer = made.index
        lost = made.path / "newcerts" / "02.pem"
        pem = lost.read_bytes()
        lost.unlink()
        found = problems(made.path, now)
        assert list(found) == ["certificate-missing"]
        assert "index is newer" in found["certificate-missing"].why
        assert "02." in found["certificate-missing"].what
        lost.write_bytes(pem)
        assert problems(made.path, now) == {}

        made.index = old
        found = problems(made.path, now)
        assert list(found) == ["row-missing"]
        # The cure that it names, taken at its word.
        made.ca("-valid", lost)
        assert problems(made.path, now) == {}
        assert made.index == newer

    def test_a_row_that_is_not_its_certificates(self, made: OpensslCA, now: datetime) -> None:
        made.sign(NAME)
        made.sign("other.example.test")
        for other in (made.index.replace("/CN=other", "/CN=another"), re.sub(r"^V\t\d\d", "V\t44", made.index)):
            sound, made.index = made.index, other
            found = problems(made.path, now)
            assert list(found) == ["row-disagrees"]
            assert "newest 2,000 rows" in found["row-disagrees"].do
            made.index = sound
        shutil.copy(made.path / "newcerts" / "01.pem", made.path / "newcerts" / "02.pem")
        assert "its serial is 01" in problems(made.path, now)["row-disagrees"].what

    def test_numbers_of_crls(self, made: OpensslCA, now: datetime) -> None:
        crl, number = made.path / "crl.pem", made.path / "crlnumber"
        made.ca("-gencrl", "-out", crl)
        made.ca("-gencrl", "-out", crl)
        assert problems(made.path, now) == {}
        number.write_text("02\n")
        assert "Write 03 into it" in problems(made.path, now)["crlnumber-behind"].do
        made.ca("-gencrl", "-out", crl)
        assert "0x02" in made.openssl("crl", "-in", crl, "-noout", "-crlnumber")  # twice
        number.write_text("x\n")
        made.ca("-gencrl", "-out", crl, status=1)
        assert list(problems(made.path, now)) == ["crlnumber-garbage"]
        number.unlink()
        made.ca("-gencrl", "-out", crl, status=1)
        assert list(problems(made.path, now)) == ["crlnumber-missing"]

    def test_what_is_no_crl_of_this_ca(self, made: OpensslCA, now: datetime, tmp_path: Path) -> None:
        crl = made.path / "crl.pem"
        made.ca("-gencrl", "-out", crl)
        good = crl.read_bytes()
        crl.write_bytes(good + good)
        assert "2 CRLs" in problems(made.path, now)["crl-several"].what
        crl.write_bytes(b"garbage")
        assert "crl-unreadable" in problems(made.path, now)
        twin = OpensslCA.make(tmp_path / "twin", made.openssl)
        twin.ca("-gencrl", "-out", crl)
        assert "not this CA's" in problems(made.path, now)["crl-foreign"].what

    def test_a_ca_certificate_that_is_gone(self, made: OpensslCA, now: datetime) -> None:
        (made.path / "cacert.pem").write_text("garbage")
        assert "ca-certificate" in problems(made.path, now)
        (made.path / "cacert.pem").unlink()
        assert "missing" in problems(made.path, now)


ROW_LIKE = st.one_of(
    st.binary(max_size=60),
    st.tuples(
        st.sampled_from([b"V", b"E", b"R", b"v", b"", b"VV"]),
        st.sampled_from([b"", b"20", b"19"]),
        st.text("0123456789", min_size=11, max_size=13).map(str.encode),
        st.sampled_from([b"", b"261128120000Z", b"261128120000Z,superseded", b"261128120000Z,lost", b"x"]),
        st.text("0123456789abcdefABCDEFxX_+ ", max_size=8).map(str.encode),
        st.sampled_from([b"unknown", b"", b"a\\"]),
        st.sampled_from([b"/CN=a", b"", b"/CN=a\\\tb", b"/CN=a\r", b"/CN=\xff"]),
        st.sampled_from([b"\n", b"", b"\r\n"]),
    ).map(lambda f: b"\t".join((f[0], f[1] + f[2] + b"Z", *f[3:7])) + f[7]),
)


@given(ROW_LIKE)
def test_a_row_that_is_passed_over_quickly_reads_the_same_when_taken_apart(line: bytes) -> None:
    plain = plain_row(line)
    if plain is None:
        return
    row = parse_row(line, number=1, where="index.txt")
    status, end, serial, subject = plain
    assert (row.status.encode(), row.serial, row.subject.encode("utf-8", "surrogateescape")) == (
        status,
        serial,
        subject,
    )
    again = row.line()
    assert plain_row(again) in ((status, end, serial, subject), (status, end[2:], serial, subject))
