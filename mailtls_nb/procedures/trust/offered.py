"""Reading what the operator offers: the partner's CA and its CRL, on this machine."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.pki.certificates import fingerprint
from mailtls_nb.pki.partner_ca import LONGEST_FILE, check_fingerprints, check_partner_ca, read_partner_ca
from mailtls_nb.pki.partner_crl import LONGEST_CRL_FILE, check_crls
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.trust.observation import Offered
from mailtls_nb.procedures.trust.wish import TrustWish
from mailtls_nb.testbed.organisation import partner_organisation


def read_offered(context: Context, wish: TrustWish) -> Offered:
    """Read and check the files by themselves; raises BadParameter and CertificateRefused, no host touched.

    Only what is to be trusted must be sound: a CA that has expired may still be taken away.
    """
    given, path = wish.fingerprints, Path(wish.partner_ca)
    if wish.of_testbeds_partner:
        organisation = partner_organisation(context.testbed(), host=context.host(HostAddress("testbed", "partner")))
        path = organisation.ca_certificate
        given = given or (fingerprint(organisation.directory.ca_certificate),)
    where = str(path)
    certificates = read_partner_ca(_read("partner_ca", path, LONGEST_FILE), where=where)
    if given or wish.trusts:
        check_fingerprints(certificates, given, where=where)
    if not wish.trusts:
        return Offered(certificates)
    remarks = check_partner_ca(certificates, now=context.now(), where=where)
    offered = Offered(certificates, remarks=remarks)
    return _with_crls(wish, offered, context.now()) if wish.partner_crl else offered


def _with_crls(wish: TrustWish, offered: Offered, now: datetime) -> Offered:
    data = _read("partner_crl", Path(wish.partner_crl), LONGEST_CRL_FILE)
    crls = check_crls(data, offered.certificates, now=now, where=wish.partner_crl)
    ends = tuple(
        f"The CRL ends on {crl.next_update_utc:%Y-%m-%d}. From then on sendmail refuses every certificate of that CA: "
        "run this again with a newer one before."
        for _, crl in crls
    )
    return Offered(offered.certificates, crls, (*offered.remarks, *ends))


def _read(parameter: str, path: Path, longest: int) -> bytes:
    """The file's content, one byte more than allowed at most: it may be a device that never ends."""
    try:
        if path.exists() and not path.is_file():
            raise BadParameter(parameter, f"{path} is no file", do="name a file that can be read here")
        with path.open("rb") as file:
            return file.read(longest + 1)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "is no path"
        raise BadParameter(parameter, f"{path}: {problem}", do="name a file that can be read here") from error
