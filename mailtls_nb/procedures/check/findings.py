"""What is wrong on a host, judged by what was seen of it. Pure.

What sendmail makes of each fault was measured with Debian's sendmail 8.15, 8.17 and 8.18.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailtls_nb.finding import Finding, by_severity
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.own_certificate import OwnCertificate, Role
from mailtls_nb.pki.certificates import dns_names, extended_key_usage
from mailtls_nb.procedures.check.access_findings import access_findings
from mailtls_nb.procedures.check.ca_findings import ca_findings
from mailtls_nb.procedures.check.clock_findings import clock_findings
from mailtls_nb.procedures.check.ending import REFUSED, endings
from mailtls_nb.procedures.check.observation import CheckBefore
from mailtls_nb.procedures.check.revocation_findings import revocation_findings
from mailtls_nb.procedures.check.trust_findings import crl_findings, trust_findings
from mailtls_nb.procedures.check.wish import CheckWish
from mailtls_nb.sendmail.layout import Layout

_ISSUE = "Run 02-issue-certificate for this host."
_EFFECT: dict[Role, str] = {
    "server": "STARTTLS is not offered, and mail arrives in clear.",
    "client": "sendmail shows no certificate to other servers, and partners that demand one refuse our mail.",
}
_USAGE = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"),
}


def findings(wish: CheckWish, before: CheckBefore) -> tuple[Finding, ...]:
    """All findings, the gravest first."""
    warn = timedelta(days=wish.warn_days)
    return by_severity(
        (
            # A wrong clock makes much of what follows look wrong.
            *clock_findings(before),
            *_host_findings(before.layout),
            *_port_findings(wish, before),
            *_own_findings(before),
            *_revoked(before),
            *(finding for ending in endings(before) for finding in ending.finding(before.at, warn)),
            *trust_findings(before),
            *crl_findings(before),
            *ca_findings(before, wish.warn_days),
            *revocation_findings(before),
            *access_findings(before),
        )
    )


def _host_findings(layout: Layout) -> Iterator[Finding]:
    if layout.interrupted:
        yield Finding(
            "error",
            "A change to this host was cut off, or is going on.",
            "What is in service may be half of the old and half of the new.",
            layout.mc,
            "Run the runbook of that change again: it first undoes what was left.",
        )
    if layout.drifted:
        yield Finding(
            "warning",
            f"{layout.mc} does not build the {layout.cf} in use.",
            "The next build changes more than its author means, and the runbooks refuse to build until then.",
            layout.cf,
            f"Compare with `{' '.join(layout.build.m4_argv)}` and bring both together.",
        )
    for remark in layout.remarks:
        yield Finding("note", remark, "The runbooks may not know this system well.", layout.cf, "Read plans with care.")


def _port_findings(wish: CheckWish, before: CheckBefore) -> Iterator[Finding]:
    seen, name = before.presented, before.layout.canonical_name
    where = f"port 25 of {name}, seen from {wish.probe_name}"
    if not seen.connected:
        why = f"No mail comes in this way: {seen.problem}."
        do = "See whether sendmail runs and whether a packet filter is between, or name another host in probe_from."
        yield Finding("error", "Port 25 does not answer.", why, where, do)
    elif not seen.starttls_offered:
        if "server" not in before.own:
            yield Finding("error", "STARTTLS is not offered.", "Mail arrives in clear.", where, _ISSUE)
            return
        said = f" The server said: {before.greeting}." if before.greeting.startswith(("4", "5")) else ""
        do = "Cure the other errors here, reload sendmail, and look for STARTTLS in the mail log's lines at its start."
        why = f"A certificate is configured, but mail arrives in clear.{said}"
        yield Finding("error", "STARTTLS is not offered.", why, where, do)
    elif not seen.chain:
        why = f"Mail arrives in clear, or not at all: {seen.problem}."
        yield Finding("error", "STARTTLS is offered, but no TLS comes about.", why, where, "Look into the mail log.")
    elif (file_serial := _serial(before)) is not None and seen.serial != file_serial:
        what = f"Port 25 shows another certificate than {before.own['server'].path} holds."
        why = "sendmail reads its certificate when it starts: a renewed one is not in service yet."
        yield Finding("error", what, why, where, "Reload sendmail, or see which host answers at this name.")


def _serial(before: CheckBefore) -> int | None:
    server = before.own.get("server")
    return server.certificate.serial_number if server is not None and server.certificate is not None else None


def _own_findings(before: CheckBefore) -> Iterator[Finding]:
    for role, own in before.own.items():
        yield from _file_findings(role, own, before)
        if own.certificate is not None:
            yield from _certificate_findings(role, own, own.certificate, before)
    if "server" in before.own and "client" not in before.own:
        what = "No certificate is configured for sendmail as a client."
        yield Finding("warning", what, _EFFECT["client"], before.layout.cf, _ISSUE)


def _revoked(before: CheckBefore) -> Iterator[Finding]:
    """Certificates in service that were revoked, by the CRLs that the host reads or by those of the CA directories."""
    crls = [crl for _, crl in before.crls]
    crls += [ca.directory.crl for ca in before.cas if ca.directory.crl is not None]
    shown = {(own.path, own.certificate): None for own in before.own.values() if own.certificate is not None}
    for path, certificate in shown:
        roles = [role for role, own in before.own.items() if (own.path, own.certificate) == (path, certificate)]
        for crl in crls:
            entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if crl.issuer == certificate.issuer and entry is not None:
                what = (
                    f"The {' and '.join(roles)} certificate {path} was revoked on {entry.revocation_date_utc:%Y-%m-%d}."
                )
                do = "Give the host a new one: 06-renew-certificate, with key new where the key may be in other hands."
                yield Finding("error", what, " ".join(REFUSED[role] for role in roles), path, do)
                break


def _file_findings(role: Role, own: OwnCertificate, before: CheckBefore) -> Iterator[Finding]:
    option = "ServerKeyFile" if role == "server" else "ClientKeyFile"
    if own.status is None:
        yield Finding("error", f"The {role} certificate {own.path} is not there.", _EFFECT[role], own.path, _ISSUE)
    elif own.certificate is None:
        what = f"The {role} certificate {own.path} holds no certificate that can be read."
        yield Finding("error", what, _EFFECT[role], own.path, _ISSUE)
    if not own.key_path:
        yield Finding("error", f"{option} is not set.", _EFFECT[role], before.layout.cf, _ISSUE)
    elif own.key_status is None:
        yield Finding("error", f"The {role} key {own.key_path} is not there.", _EFFECT[role], own.key_path, _ISSUE)
    else:
        yield from _key_findings(role, own, own.key_status.mode, before)


def _key_findings(role: Role, own: OwnCertificate, mode: int, before: CheckBefore) -> Iterator[Finding]:
    group_may = "groupreadablekeyfile" in before.options.get("DontBlameSendmail", "").lower()
    if mode & (0o037 if group_may else 0o077):
        what = f"The {role} key {own.key_path} is open to others (mode {mode & 0o7777:04o})."
        why = f"They may copy the key, and sendmail refuses such a file when it starts: {_EFFECT[role]}"
        do = f"`chmod 600 {own.key_path}`, then reload sendmail. Where strangers could read it, make a new key with 02."
        yield Finding("error", what, why, own.key_path, do)
    if own.key_is_encrypted:
        what = f"The {role} key {own.key_path} has a passphrase."
        why = "At its next start the daemon waits for the passphrase and never comes up."
        do = f"Take the passphrase off (`openssl pkey -in {own.key_path}`), or run 02-issue-certificate."
        yield Finding("error", what, why, own.key_path, do)
    elif own.certificate is not None and own.public_key != own.certificate.public_key():
        what = f"The {role} key {own.key_path} is not that of the certificate {own.path}."
        yield Finding("error", what, _EFFECT[role], own.key_path, _ISSUE)


def _certificate_findings(
    role: Role, own: OwnCertificate, certificate: x509.Certificate, before: CheckBefore
) -> Iterator[Finding]:
    what = f"The {role} certificate {openssl_dn(certificate.subject)}"
    if certificate.not_valid_before_utc > before.at:
        begins = f"{what} begins on {certificate.not_valid_before_utc:%Y-%m-%d}."
        yield Finding("error", begins, REFUSED[role], own.path, "Set the clock, or run 02-issue-certificate.")
    usage, (wanted, word) = extended_key_usage(certificate), _USAGE[role]
    if usage is not None and wanted not in usage:
        lacks = f"{what} is not for use as a {role} (extendedKeyUsage without {word})."
        yield Finding("error", lacks, REFUSED[role], own.path, _ISSUE)
    name = before.layout.canonical_name.lower()
    if role == "server" and not _is_for(name, dns_names(certificate)):
        names = ", ".join(dns_names(certificate)) or "no name"
        why = "Partners that compare names hold their mail back; sendmail does so only when told to."
        yield Finding("warning", f"{what} is for {names}, not for {name}.", why, own.path, _ISSUE)
    hidden = [c for c in own.certificates[1:] if all(c != trusted for _, trusted in before.trusted)]
    if hidden:
        behind = (
            f"{own.path} holds {openssl_dn(hidden[0].subject)} behind the certificate, which sendmail does not send."
        )
        why = "Partners that know only the root find no way to it, and get verify=FAIL."
        do = "Put that certificate into the file of CACertFile, then reload sendmail."
        yield Finding("warning", behind, why, own.path, do)


def _is_for(name: str, names: tuple[str, ...]) -> bool:
    """Whether the host is among the names, one label of it behind ``*.`` (RFC 9525 6.3)."""
    return any(other.lower() in (name, f"*.{name.partition('.')[2]}") for other in names)
