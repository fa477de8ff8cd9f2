"""Whether a certificate is to be renewed, and as what: names, roles, key type and lifetime are its own. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.pki.certificates import dns_names
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.profiles import KEY_TYPES, Roles, key_word
from mailtls_nb.procedures.issue.observation import lifetime_days, purposes
from mailtls_nb.procedures.issue.wish import IssueWish, Renewal, whole_days
from mailtls_nb.procedures.renew.wish import RenewWish


def reason_to_renew(wish: RenewWish, certificate: x509.Certificate, status: str, now: datetime) -> str:
    """Why it is to be renewed now, empty when it is not; ``status`` is what its CA's index says of it.

    Without a count of days: a plan shown today is the same tomorrow.
    """
    end = certificate.not_valid_after_utc
    if status == "R":
        return "the CA has revoked it"
    if end <= now:
        return f"it ended on {end:%Y-%m-%d}"
    return f"it ends on {end:%Y-%m-%d}" if end - now <= wish.renew_before else ""


def issue_wish(
    wish: RenewWish, own: OwnCertificate, roles: Roles, reason: str, *, ca_certificate: x509.Certificate, now: datetime
) -> IssueWish:
    """What 02 is to issue: a certificate like the one in service, which does not outlive its CA.

    ``roles`` are those that sendmail uses it in. Raises BadParameter(renew_before_days) where it would be renewed at
    each run, and NotReady where the CA ends too soon or the files are laid out otherwise than 02 does it.
    """
    certificate = _read(own)
    lifetime = lifetime_days(certificate)
    if wish.renew_before_days >= lifetime:
        raise BadParameter(
            "renew_before_days",
            f"{wish.renew_before_days} is not less than the {lifetime} days that the certificate in {own.path} was "
            "made for: it would be renewed at each run",
            do="give fewer days, or a longer lifetime: run 02-issue-certificate with other valid_days",
        )
    ca_end = ca_certificate.not_valid_after_utc
    left_of_ca = whole_days(now, ca_end)
    if left_of_ca < 1 or (reason and left_of_ca <= wish.renew_before_days):
        raise NotReady(
            f"the CA {openssl_dn(ca_certificate.subject)} ends on {ca_end:%Y-%m-%d}: a "
            f"certificate of it would be due again at once (renew_before_days {wish.renew_before_days})",
            left="nothing was touched",
            do="replace the CA (09-replace-ca)",
        )
    key_type = next((kind for kind in KEY_TYPES if kind.word == key_word(certificate.public_key())), None)
    others = tuple(name for name in dns_names(certificate) if name != wish.hostname)
    wanted = IssueWish(
        way="install",
        names=(wish.hostname, *others),
        roles=roles,
        key_type=key_type or KEY_TYPES[0],
        valid_days=lifetime,
        cert_dir=own.path.rpartition("/")[0],
        csr="",
        external_certificate="",
        host=wish.host,
        probe_from=wish.probe_from,
        ca=wish.ca,
        renewal=Renewal(certificate, reason, wish.keeps_key, wish.renew_before_days) if reason else None,
        ca_end=ca_end if ca_end < _latest_end(certificate, now) else None,
    )
    _refuse_another_name(wanted, own)
    problems = [] if key_type else [f"its key is of the type {key_word(certificate.public_key())}"]
    _refuse_another_layout(wanted, own, [*problems, *_layout_problems(wanted, own, certificate)])
    return wanted


def is_superseded(candidate: x509.Certificate, wanted: IssueWish, installed: x509.Certificate) -> bool:
    """Whether a valid certificate of the CA is one that the one in service, or the one to come, takes the place of.

    It has exactly its names and roles, and is older. Where a renewal keeps its key, one that an interrupted run had
    signed for that key already is the one to come.
    """
    if set(dns_names(candidate)) != set(wanted.names) or purposes(candidate) != wanted.roles:
        return False
    if wanted.renewal is None:
        is_older = candidate.not_valid_before_utc <= installed.not_valid_before_utc
        return is_older and candidate != installed
    is_younger = candidate.not_valid_before_utc > installed.not_valid_before_utc
    waits = wanted.renewal.keeps_key and is_younger and candidate.public_key() == installed.public_key()
    return not waits


def _latest_end(certificate: x509.Certificate, now: datetime) -> datetime:
    """When one like it would end that takes its place on its last day: the same on each day until then.

    A day more, since certificates are made for whole days.
    """
    return max(certificate.not_valid_after_utc, now) + timedelta(days=lifetime_days(certificate) + 1)


def _read(own: OwnCertificate) -> x509.Certificate:
    if own.certificate is None:
        raise NotReady(f"{own.path} holds no certificate that can be read", left="nothing was touched")
    return own.certificate


def _refuse_another_name(wanted: IssueWish, own: OwnCertificate) -> None:
    """Raise BadParameter where the file is named by another of the certificate's names."""
    file, ours = own.path.rpartition("/")[2], wanted.certificate_path.rpartition("/")[2]
    if first := next((name for name in wanted.names[1:] if file == ours.replace(wanted.hostname, name, 1)), ""):
        raise BadParameter(
            "hostname",
            f"{wanted.hostname} is a further name of the certificate in {own.path}",
            do=f"give the name that it was issued for: {first}",
        )


def _layout_problems(wanted: IssueWish, own: OwnCertificate, certificate: x509.Certificate) -> list[str]:
    problems = []
    if own.key_path != own.path:
        problems.append(f"its key lies apart from it, in {own.key_path or 'no file'}")
    if own.path != wanted.certificate_path:
        problems.append(f"02 would write {wanted.certificate_path}")
    if purposes(certificate) != wanted.roles:
        problems.append(
            f"it is for {_in_words(purposes(certificate))}, and sendmail uses it as {_in_words(wanted.roles)}"
        )
    if not _has_only_dns_names(certificate):
        problems.append("it is for more than host names (subjectAltName)")
    return problems


def _refuse_another_layout(wanted: IssueWish, own: OwnCertificate, problems: list[str]) -> None:
    if problems:
        raise NotReady(
            f"{own.path} on {wanted.host}, serial {serial_text(_read(own).serial_number)}, is not as "
            f"02-issue-certificate lays it out: {'; '.join(problems)}",
            left="nothing was touched",
            do=f"run 02-issue-certificate for {wanted.hostname} once: from then on it can be renewed",
        )


def _in_words(roles: str) -> str:
    return {"both": "server and client", "": "no mail server"}.get(roles, f"{roles} only")


def _has_only_dns_names(certificate: x509.Certificate) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return all(isinstance(name, x509.DNSName) for name in names)
