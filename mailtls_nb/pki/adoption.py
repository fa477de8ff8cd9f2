"""What a directory is: the layouts of CA directories that others made, and what we add so that openssl works there."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki import cakey
from mailtls_nb.pki.configuration import Layout, configured_layout, default_layout, openssl_cnf, parse, yes_or_no


def find_layout(path: Path) -> tuple[Layout, list[str]]:
    """Where the parts of the CA lie, and remarks for its operator. Raises CADirectoryError and OSError."""
    default = default_layout(path)
    if not default.configuration.exists():
        remark = f"{default.configuration} is missing: the first issue writes it, so that `openssl ca` works here"
        if not (default.crl_number and default.crl_number.exists()):
            remark += ", and with it crlnumber"
        return default, [f"{remark}."]
    sections = parse(default.configuration.read_text("utf-8", "surrogateescape"), os.environ)
    layouts = configured_layout(path, sections)
    layout = next((candidate for candidate in layouts if candidate.certificate.exists()), layouts[0])
    if default.database.exists() and not (layout.database.exists() and layout.database.samefile(default.database)):
        raise not_sound(
            f"{default.configuration} names {layout.database}, not the index.txt beside it",
            path,
            do=f"if the directory was moved or copied, set `dir = {path}` in {default.configuration}",
        )
    remarks = []
    if len(layouts) > 1:
        remarks.append(f"{default.configuration} uses relative paths: start `openssl ca` where they hold.")
    return layout, remarks


def key_remarks(layout: Layout) -> tuple[str, ...]:
    """What the operator should know about the CA's private key."""
    try:
        encrypted = cakey.is_encrypted(layout.private_key.read_bytes())
    except OSError as error:
        return (f"{layout.private_key} cannot be read ({error.strerror}): nothing can be issued.",)
    return () if encrypted else (f"{layout.private_key} is not encrypted: whoever reads it can issue certificates.",)


def subjects_are_unique(layout: Layout) -> bool:
    """Whether openssl allows one valid certificate for each subject here: index.txt.attr decides, if it is there."""
    try:
        settings = parse(layout.attributes.read_text("utf-8", "surrogateescape"), {})["default"]
    except FileNotFoundError:
        return layout.unique_subject
    return yes_or_no(settings["unique_subject"]) if "unique_subject" in settings else layout.unique_subject


def looks_like_a_ca(path: Path) -> bool:
    """Whether a directory has any of the files that make a CA."""
    return any((path / name).exists() for name in ("cacert.pem", "index.txt", "openssl.cnf"))


def write_missing_configuration(layout: Layout, issued: x509.Certificate) -> None:
    """Complete an adopted directory, so that `openssl ca -config DIR/openssl.cnf` works in it. Raises OSError.

    It goes on as it did: serials counted on where there is a serial file, and its own unique_subject.
    """
    if layout.configuration.exists():
        return
    assert issued.signature_hash_algorithm is not None  # noqa: S101 - ours: EC or RSA
    text = openssl_cnf(
        layout.path,
        unique_subject=subjects_are_unique(layout),
        random_serials=not (layout.serial and layout.serial.exists()),
        digest=issued.signature_hash_algorithm.name,
    )
    if layout.crl_number and not layout.crl_number.exists():
        durable.write(layout.crl_number, b"01\n", mode=0o644)
    durable.write(layout.configuration, text.encode(), mode=0o644)


def not_sound(what: str, path: Path, do: str = "") -> CADirectoryError:
    """The error for a directory that is no CA, or is damaged."""
    return CADirectoryError(
        what,
        left="nothing was changed",
        do=do or f"check that ca_dir ({path}) is the directory meant, and who may read it",
    )
