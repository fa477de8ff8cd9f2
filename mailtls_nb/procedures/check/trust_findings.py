"""What is wrong with the CAs that a host trusts, and with their CRLs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from mailtls_nb.finding import Finding, Severity
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.trust_store import StoredFile, StoreDirectory
from mailtls_nb.pki import hashed_directory
from mailtls_nb.pki.hashed_directory import Entry
from mailtls_nb.procedures.check.ending import RENEW_CRL
from mailtls_nb.procedures.check.observation import CheckBefore

_OTHERS_WRITE = 0o022
_EVERYBODY_WRITES = 0o002
_NOBODY = "sendmail then verifies nobody: every partner is verify=FAIL, or STARTTLS is not offered."
_REVOKED = "sendmail ignores it with one line in the log at its start: revoked certificates are accepted."


def trust_findings(before: CheckBefore) -> Iterator[Finding]:
    """The file and the directory of trusted CAs."""
    yield from _ca_file(before)
    if "CACertPath" in before.options and before.store.ca_path.status is None:
        path = before.store.ca_path.path
        what = f"The directory of CACertPath, {path}, is not there."
        yield Finding("error", what, "The CAs in it are not trusted.", path, "Run 03-trust-partner for each partner.")
    for directory in before.hash_directories:
        yield from _directory(directory)


def crl_findings(before: CheckBefore) -> Iterator[Finding]:
    """CRLs that count, and those that should."""
    if path := before.options.get("CRLFile", ""):
        yield from _crl_file(before, path)
    if "CRLPath" in before.options and (before.store.crl_path is None or before.store.crl_path.status is None):
        path = before.options["CRLPath"]
        what = f"The directory of CRLPath, {path}, is not there."
        yield Finding("error", what, "Revoked certificates are accepted.", path, RENEW_CRL)


def _ca_file(before: CheckBefore) -> Iterator[Finding]:
    path, ca_file = before.options.get("CACertFile", ""), before.store.ca_file
    do = "Run 02-issue-certificate, which sets it and puts our CA there, and 03-trust-partner for each partner."
    # Measured with 8.17: neither is looked at without the other.
    missing = [option for option in ("CACertFile", "CACertPath") if not before.options.get(option)]
    if before.own:
        for option in missing:
            yield Finding("error", f"{option} is not set.", _NOBODY, before.layout.cf, do)
    if not path:
        return
    if ca_file is None:
        yield Finding("error", f"The file of CACertFile, {path}, is not there.", _NOBODY, path, do)
    elif not ca_file.certificates:
        what = f"The file of CACertFile, {path}, holds no certificate that can be read."
        yield Finding("error", what, _NOBODY, path, do)
    elif (ca_file.mode or 0) & _EVERYBODY_WRITES:
        what = f"The file of CACertFile, {path}, can be written by everybody."
        why = "Whoever writes into it is believed, and sendmail refuses it at its start: STARTTLS is not offered."
        yield Finding("error", what, why, path, f"`chmod 644 {path}`, see what is in it, then reload sendmail.")


def _directory(directory: StoreDirectory) -> Iterator[Finding]:
    path, status = directory.path, directory.status
    if status is not None and status.mode & _OTHERS_WRITE:
        what = hashed_directory.writable_directory(path, status.mode)
        why = "Anybody's certificates can be made to look verified."
        yield Finding("error", what, why, path, f"`chmod 755 {path}`, and see what is in it.")
    for entry in directory.entries:
        for what in hashed_directory.problems(directory.entries, directory_mode=None, directory=path):
            if what.startswith(f"{path}/{entry.name} "):
                yield _link_finding(entry, what, path)


def _link_finding(entry: Entry, what: str, directory: str) -> Finding:
    # Programs that serve old and new releases make both links, so an old one may be left over beside a good one.
    is_old = entry.name_hash is not None and entry.name_hash.old == entry.hash != entry.name_hash.current
    severity: Severity = "warning" if is_old else "error"
    if entry.mode is not None and entry.mode & _OTHERS_WRITE:
        why, do = "Whoever writes into it is believed.", "Take the right to write from others, and see what is in it."
    elif entry.kind == "crl":
        why, do = "Certificates revoked by this CRL are accepted.", RENEW_CRL
    else:
        why = "The CA that was meant is not found by this link: its certificates are verify=FAIL."
        do = "Run 03-trust-partner for that partner, which mends its links, or remove the link."
    return Finding(severity, what, why, f"{directory}/{entry.name}", do)


def _crl_file(before: CheckBefore, path: str) -> Iterator[Finding]:
    crl_file: StoredFile | None = before.store.crl_file
    if crl_file is None:
        yield Finding("error", f"The file of CRLFile, {path}, is not there.", _REVOKED, path, RENEW_CRL)
    elif not crl_file.crls:
        what = f"The file of CRLFile, {path}, holds no CRL that can be read."
        yield Finding("error", what, _REVOKED, path, RENEW_CRL)
    else:
        issuer = crl_file.crls[0].issuer
        if not any(certificate.subject == issuer for _, certificate in before.trusted):
            what = f"The CRL in {path} is of {openssl_dn(issuer)}, which is no CA that this host trusts."
            yield Finding("error", what, _REVOKED, path, RENEW_CRL)
        if len(crl_file.crls) > 1:
            names = ", ".join(_issuer(crl) for crl in crl_file.crls[1:])
            what = f"{path} holds several CRLs, and sendmail reads the first only; ignored are those of {names}."
            do = "Put them into the directory of CRLPath, each with its link (03-trust-partner)."
            yield Finding("error", what, "Certificates revoked by the others are accepted.", path, do)


def _issuer(crl: x509.CertificateRevocationList) -> str:
    return openssl_dn(crl.issuer)
