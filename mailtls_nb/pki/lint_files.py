"""The files beside the index: what is missing, left over, or contradicts another one. Never writes."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

from cryptography import x509

from mailtls_nb.pki import adoption, recovery
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.crl import IGNORED, READS_THE_FIRST, REFUSES_EVERYONE, crl_blocks, crl_number, is_signed_by
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.problem import IndexProblem


def file_problems(layout: Layout) -> Iterator[IndexProblem]:
    """All that can be said without reading the index."""
    certificate = None
    try:
        certificate = x509.load_pem_x509_certificate(layout.certificate.read_bytes())
    except OSError as error:
        yield missing(layout.certificate, error)
    except ValueError:
        yield IndexProblem(
            "ca-certificate",
            "error",
            "It holds no certificate that can be read.",
            "Nothing can be signed.",
            str(layout.certificate),
            "Put it back from a backup.",
        )
    yield from _index_between_renames(layout)
    yield from _left_over(layout)
    yield from _attributes(layout)
    crl = None
    if certificate is not None and layout.crl.exists():
        crl, problems = _crl(layout.crl, certificate)
        yield from problems
    yield from _crl_number(layout, crl)


def missing(path: Path, error: OSError) -> IndexProblem:
    """A file or directory that cannot be read."""
    return IndexProblem(
        "missing",
        "error",
        f"It cannot be read: {error.strerror}.",
        "Without it nothing can be issued here.",
        str(path),
        "Look who may read it; put it back from a backup if it is gone.",
    )


def serial_problems(layout: Layout, serials: Set[int]) -> Iterator[IndexProblem]:
    """The serial file, where openssl counts serials on by it."""
    if layout.serial is None or layout.random_serials or not layout.configuration.exists():
        return
    text = _text(layout.serial)
    if text is None:
        yield IndexProblem(
            "serial-missing",
            "warning",
            "The file with the next serial is missing.",
            "openssl signs nothing without it (`unable to load number from`), unless it is told -create_serial.",
            str(layout.serial),
            f"Write `rand_serial = yes` into {layout.configuration}.",
        )
        return
    number = _hex(text)
    if number is None:
        yield IndexProblem(
            "serial-garbage",
            "warning",
            "It holds no number in hex.",
            "openssl signs nothing with it (`unable to load number from`).",
            str(layout.serial),
            f"Write a serial into it that was never given out, or `rand_serial = yes` into {layout.configuration}.",
        )
    elif number in serials or recovery.certificate_path(layout, number).exists():
        yield IndexProblem(
            "serial-used",
            "error",
            f"The next serial, {serial_text(number)}, was given out already.",
            f"openssl refuses to sign (`Serial number {serial_text(number)} has already been issued`, or, where the "
            "row is gone, it writes over that certificate).",
            str(layout.serial),
            f"Write a higher one into it, or `rand_serial = yes` into {layout.configuration}.",
        )


def _index_between_renames(layout: Layout) -> Iterator[IndexProblem]:
    database = layout.database
    if database.exists():
        return
    there = [path.name for path in (_beside(database, ".new"), _beside(database, ".old")) if path.exists()]
    if not there:
        yield IndexProblem(
            "index-missing",
            "error",
            "There is no index.",
            "What was issued and what was revoked is not known.",
            str(database),
            "Put the directory back from a backup.",
        )
        return
    do = {
        True: f"Rename {database}.new to {database.name}: it is the index with what openssl was about to write.",
        False: f"Rename {database}.old to {database.name}: it is the index as it was before; compare it with newcerts.",
    }[there[0].endswith(".new")]
    yield IndexProblem(
        "index-missing",
        "error",
        f"There is no index, but {' and '.join(there)}.",
        "An openssl was ended between its two renames (killed, or the machine stopped).",
        str(database),
        do,
    )


def _left_over(layout: Layout) -> Iterator[IndexProblem]:
    counted = [path for path in (layout.serial, layout.crl_number) if path is not None]
    for path in (layout.database, layout.attributes, *counted):
        new = _beside(path, ".new")
        if new.exists() and path.exists():
            yield IndexProblem(
                "left-over",
                "warning",
                f"{new.name} was left behind.",
                "An openssl was ended before it put that file in place, unless one is at work at this moment: what it "
                "was doing may be done by half (a certificate in newcerts without its row).",
                str(new),
                f"Compare it with {path.name}, then remove it.",
            )
    if layout.database.exists() and recovery.is_needed(layout):
        yield IndexProblem(
            "unfinished",
            "note",
            "An issue or a revocation of ours was cut short, or is at work at this moment.",
            "It is finished, or taken back, by the next of our runs.",
            str(layout.path),
            "Run anything that uses this CA.",
        )


def _attributes(layout: Layout) -> Iterator[IndexProblem]:
    unique = adoption.subjects_are_unique(layout)
    if not layout.says_unique or unique == layout.unique_subject:
        return
    words = {True: "yes", False: "no"}
    yield IndexProblem(
        "attributes-disagree",
        "warning",
        f"It says unique_subject = {words[unique]}, and {layout.configuration.name} says "
        f"{words[layout.unique_subject]}.",
        f"{layout.attributes.name} decides; were it lost, as when it is left out of a copy, openssl would do "
        "otherwise.",
        str(layout.attributes),
        "Write the same into both: `no`, unless you want one valid certificate for each subject.",
    )


def _crl(path: Path, issuer: x509.Certificate) -> tuple[x509.CertificateRevocationList | None, list[IndexProblem]]:
    """The CRL, where it is this CA's, and what is wrong with it apart from its dates."""

    def problem(name: str, what: str, why: str) -> IndexProblem:
        do = "Sign a new one: 05-revoke-certificate with action refresh, or `openssl ca -gencrl`."
        return IndexProblem(name, "error", what, f"{why[0].upper()}{why[1:]}.", str(path), do)

    try:
        blocks = crl_blocks(path.read_bytes())
        crl = x509.load_pem_x509_crl(blocks[0])
    except (OSError, ValueError, IndexError):
        return None, [problem("crl-unreadable", "It holds no CRL that can be read.", IGNORED)]
    problems = []
    if len(blocks) > 1:
        problems.append(problem("crl-several", f"It holds {len(blocks)} CRLs.", READS_THE_FIRST))
    if crl.issuer != issuer.subject:
        return None, [*problems, problem("crl-foreign", "The CRL is of another CA.", IGNORED)]
    if not is_signed_by(crl, issuer):
        return None, [*problems, problem("crl-foreign", "The CRL's signature is not this CA's.", REFUSES_EVERYONE)]
    return crl, problems


def _crl_number(layout: Layout, crl: x509.CertificateRevocationList | None) -> Iterator[IndexProblem]:
    path = layout.crl_number
    # Without openssl.cnf the first issue writes both; without a name for it openssl numbers no CRL.
    if path is None or not layout.configuration.exists():
        return
    text = _text(path)
    given_out = 0 if crl is None else crl_number(crl) or 0
    higher = (
        f"Write {serial_text(given_out + 1)} into it ({given_out + 1} in hex), or a higher number where a host has a "
        "newer CRL than this."
    )
    number = 0 if text is None else _hex(text)
    if text is None or number is None:
        yield IndexProblem(
            "crlnumber-missing" if text is None else "crlnumber-garbage",
            "warning",
            "The file with the next CRL's number is missing." if text is None else "It holds no number in hex.",
            "openssl makes no CRL without it (`error while loading CRL number`); we go on from the CRL that is there.",
            str(path),
            higher,
        )
    elif number <= given_out:
        yield IndexProblem(
            "crlnumber-behind",
            "warning",
            f"The next CRL would have the number {number}, and the one in {layout.crl.name} has {given_out}.",
            "openssl would give a number twice, or a lower one, and who compares numbers takes the new CRL for the "
            "older; we go on from the CRL that is there. So it is after an old copy of this file was put back.",
            str(path),
            higher,
        )


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def _hex(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
