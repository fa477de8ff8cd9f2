"""07-check-host: the procedure. It changes nothing on any host."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.errors import FileAccessFailed, printable
from mailtls_nb.finding import Finding
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import dns_names, extended_key_usage, fingerprint
from mailtls_nb.procedures.check.ending import endings
from mailtls_nb.procedures.check.findings import findings
from mailtls_nb.procedures.check.look import look
from mailtls_nb.procedures.check.observation import CheckBefore
from mailtls_nb.procedures.check.textfile import metrics
from mailtls_nb.procedures.check.wish import CheckWish, read_wish
from mailtls_nb.procedures.procedure import Check, Context, Facts, Observed, Table, Values
from mailtls_nb.sendmail.access.entries import FEATURE_TAGS, TLS_TAGS, access_entries


class CheckHost(Check[CheckWish, CheckBefore]):
    """The procedure of 07-check-host."""

    runbook = "07-check-host"

    def wish(self, values: Values) -> CheckWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["host"])

    def observe(self, context: Context, wish: CheckWish) -> CheckBefore:
        return look(context, wish)

    def observed(self, wish: CheckWish, before: CheckBefore) -> Observed:
        layout = before.layout
        return Observed(
            f"{wish.host} is {layout.canonical_name}, sendmail {layout.version_text} on {layout.system}.",
            _facts(before),
            {str(wish.host): layout.versions()},
            tables={
                "What ends first": _ends_table(wish, before),
                "Its own certificates": _own_table(before),
                "Trusted CAs": _trusted_table(before),
                "Revocation lists": _crl_table(before),
                "Links": _links_table(before),
                "Rules about TLS": _rules_table(before),
            },
        )

    def findings(self, wish: CheckWish, before: CheckBefore) -> tuple[Finding, ...]:
        return findings(wish, before)

    def publish(self, wish: CheckWish, before: CheckBefore, findings: tuple[Finding, ...]) -> None:
        """Write the textfile in one step; raises FileAccessFailed."""
        if not wish.textfile:
            return
        path = Path(wish.textfile)
        try:
            # The collector is another user, and reads only names that end in .prom: never the one being written.
            durable.write(path, metrics(str(wish.host), before, findings).encode(), mode=0o644)
        except OSError as error:
            raise FileAccessFailed(
                f"{path} cannot be written: {error.strerror}",
                left="the host was looked at only; the textfile is as it was",
                do="make its directory, or name another file in textfile",
            ) from error


def _facts(before: CheckBefore) -> Facts:
    seen, options = before.presented, before.options
    shows = f"{openssl_dn(seen.chain[0].subject)}, {seen.protocol}" if seen.chain else seen.problem or "no STARTTLS"
    return (
        ("configuration", before.layout.cf),
        ("port 25 shows", shows),
        ("certificates behind it", str(max(len(seen.chain) - 1, 0))),
        *((option, options.get(option, "not set")) for option in ("CACertFile", "CACertPath", "CRLFile", "CRLPath")),
        *((f"clock of {clock.host}", str(clock)) for clock in before.clocks),
        ("access map", before.access.database.text if before.access else "none"),
    )


def _ends_table(wish: CheckWish, before: CheckBefore) -> Table:
    at, warn = before.at, timedelta(days=wish.warn_days)
    rows = [
        (str(end), end.where, f"{end.end:%Y-%m-%d}", str(end.days_left(at)), end.state(at, warn))
        for end in (ending.end for ending in endings(before))
    ]
    return (("what", "where", "ends", "days left", "state"), *rows)


def _own_table(before: CheckBefore) -> Table:
    rows = [
        (
            f"as {role}",
            own.path,
            openssl_dn(own.certificate.subject) if own.certificate else "cannot be read",
            ", ".join(dns_names(own.certificate)) if own.certificate else "",
            _purposes(own.certificate) if own.certificate else "",
            openssl_dn(own.certificate.issuer) if own.certificate else "",
            f"{own.key_path} (mode {own.key_status.mode:04o})" if own.key_status else f"{own.key_path} (not there)",
        )
        for role, own in before.own.items()
    ]
    return (("certificate", "file", "subject", "names", "may be used for", "issued by", "key"), *rows)


def _purposes(certificate: x509.Certificate) -> str:
    usage = extended_key_usage(certificate)
    return ", ".join(purpose._name for purpose in usage) if usage is not None else "anything"


def _trusted_table(before: CheckBefore) -> Table:
    rows = [
        (
            openssl_dn(certificate.subject),
            ":".join(f"{octet:02X}" for octet in bytes.fromhex(fingerprint(certificate))),
            where,
        )
        for where, certificate in before.trusted
    ]
    return (("CA", "SHA-256 fingerprint", "trusted by"), *rows)


def _crl_table(before: CheckBefore) -> Table:
    rows = [
        (
            openssl_dn(crl.issuer),
            f"{crl.last_update_utc:%Y-%m-%d}",
            "yes" if crl.next_update_utc else "no",
            str(len(crl)),
            where,
        )
        for where, crl in before.crls
    ]
    return (("CRL of", "made", "says its end", "revoked", "in"), *rows)


def _links_table(before: CheckBefore) -> Table:
    rows = [
        (
            f"{directory.path}/{entry.name}",
            entry.target or "a file",
            "leads to nothing" if entry.is_dangling else "good",
        )
        for directory in before.hash_directories
        for entry in directory.entries
    ]
    return (("link", "leads to", "state"), *rows)


def _rules_table(before: CheckBefore) -> Table:
    # Only these tags: an access map may hold passwords.
    access = before.access
    text = access.text if access is not None and access.text is not None else b""
    rows = [
        (printable(entry.written_key), printable(entry.value), str(entry.line))
        for entry in access_entries(text)
        if entry.tag in (*TLS_TAGS, *FEATURE_TAGS)
    ]
    return (("rule", "value", "line"), *rows)
