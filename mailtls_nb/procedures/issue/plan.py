"""The steps of 02 from what is there to what is wished."""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.pki.certificates import dns_names, fingerprint
from mailtls_nb.pki.pem_file import beginning_with
from mailtls_nb.pki.profiles import key_word
from mailtls_nb.plan import Plan, Step, sha256
from mailtls_nb.procedures.configuration import configuration_steps
from mailtls_nb.procedures.healing import heal_step
from mailtls_nb.procedures.issue.cure import cure_steps
from mailtls_nb.procedures.issue.observation import HostBefore, reasons_to_issue
from mailtls_nb.procedures.issue.sign import SignBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.sendmail.cf import options

RUNBOOK = "02-issue-certificate"
# Only the daemon's user reads these; sendmail refuses a key that others can read (op.me 4.11.6).
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_PERMISSIONS = 0o777
_MOST_LISTED = 20


def install_plan(wish: IssueWish, before: HostBefore) -> Plan:
    """The plan of the ways ``install`` and ``external``; empty when the certificate wished for is in service."""
    if before.layout.interrupted:
        return Plan(RUNBOOK, wish.as_data(), (heal_step(str(wish.host)),), _rests_on(before))
    steps = [*_directory(wish, before), *_certificate(wish, before), *_ca_certificate(wish, before)]
    steps += _configuration(wish, before)
    if steps or _serves_another(wish, before):
        _refuse_what_would_fail(wish, before)
        steps.append(_reload(wish, before))
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), _rests_on(before))


def request_plan(wish: IssueWish, before: HostBefore) -> Plan:
    """The plan of the way ``request``: a key on the host and a request in the audit folder."""
    if before.layout.interrupted:
        return Plan(RUNBOOK, wish.as_data(), (heal_step(str(wish.host)),), _rests_on(before))
    waiting = before.files.new_public_key
    if waiting is not None and key_word(waiting) != wish.key_type.word:  # type: ignore[arg-type]
        raise NotReady(
            f"a key of another type waits at {wish.new_key_path} on {wish.host}: {key_word(waiting)}",  # type: ignore[arg-type]
            left="nothing was touched",
            do=f"remove it there, or give key_type {key_word(waiting)}",  # type: ignore[arg-type]
        )
    steps = _directory(wish, before)
    if waiting is None:
        steps.append(_make_key(wish, before, "It waits there for the certificate."))
    steps.append(
        Step(
            "request",
            str(wish.host),
            "request.csr",
            f"Write a certificate signing request for {', '.join(wish.names)} into the audit folder.",
            settings={"roles": wish.roles},
        )
    )
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), _rests_on(before))


def sign_plan(wish: IssueWish, before: SignBefore) -> Plan:
    """The plan of the way ``sign``; empty when the CA has signed exactly this already."""
    steps: tuple[Step, ...] = ()
    if before.signed is None:
        steps = (*cure_steps(wish, before.cures), _sign(wish, f"the request in {wish.csr}"))
    rests_on = {"csr": sha256(before.csr), "ca": fingerprint(before.directory.ca_certificate)}
    return Plan(RUNBOOK, wish.as_data(), steps, rests_on)


def trusted_file(before: HostBefore) -> bytes:
    """What the CA file is to hold: the signer's certificates, those of the file in use, and what it holds already.

    While our CA takes the place of another, that one too, and first the certificate by it, which is then sent along.
    """
    there = before.files.ca_certificates or b""
    present = _certificates(there)
    added = [certificate for certificate in before.signer.certificates if certificate not in present]
    content = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in added)
    if not set(_certificates(before.trusted_elsewhere)) <= {*present, *added}:
        content += before.trusted_elsewhere
    change = before.signer.transition
    if change is None:
        return content + there
    if change.old not in _certificates(content + there):
        there += change.old.public_bytes(Encoding.PEM)
    return beginning_with(content + there, (change.cross,) if change.cross is not None else ())


def _directory(wish: IssueWish, before: HostBefore) -> list[Step]:
    status, target = before.files.directory, wish.cert_dir
    owner = before.layout.cert_owner
    settings: dict[str, str | int] = {"mode": f"{DIRECTORY_MODE:04o}", "owner": owner}
    if status is None:
        sentence = "Make the directory for certificates, open to nobody else."
        return [Step("make-directory", str(wish.host), target, sentence, before="absent", settings=settings)]
    if status.mode & 0o022:
        raise NotReady(
            f"{target} on {wish.host} can be written by others than its owner (mode {status.mode & _PERMISSIONS:04o})",
            left="nothing was touched",
            do="take that right away (chmod go-w), or give another directory in cert_dir",
        )
    foreign = [name for name in before.files.names if not _is_ours(name, wish, before)]
    if _is(status, DIRECTORY_MODE, owner) or foreign:
        # Other programs may use what else lies here: the directory stays as it is; the key's own mode protects it.
        return []
    sentence = f"Close the directory for certificates to everybody else (mode was {status.mode & _PERMISSIONS:04o})."
    return [Step("set-mode", str(wish.host), target, sentence, before=_word(status), settings=settings)]


def _is_ours(name: str, wish: IssueWish, before: HostBefore) -> bool:
    ours = {path.rpartition("/")[2] for path in (wish.certificate_path, wish.ca_certificate_path, wish.new_key_path)}
    return name in ours | {value.rpartition("/")[2] for value in before.wished_settings(wish).values()}


def _certificate(wish: IssueWish, before: HostBefore) -> list[Step]:
    reasons = reasons_to_issue(wish, before)
    owner = before.layout.cert_owner
    settings: dict[str, str | int] = {"mode": f"{FILE_MODE:04o}", "owner": owner}
    if not reasons:
        if before.files.file is not None and _is(before.files.file, FILE_MODE, owner):
            return []
        sentence = "Close the file with certificate and key to everybody else."
        was = _word(before.files.file)
        return [Step("set-mode", str(wish.host), wish.certificate_path, sentence, before=was, settings=settings)]
    installed = before.files.certificate
    install = Step(
        "install",
        str(wish.host),
        wish.certificate_path,
        "Put certificate and key into one file, so that they can never disagree. The certificate there now: "
        + "; ".join(reasons)
        + ".",
        before=fingerprint(installed) if installed else "absent",
        settings=settings,
    )
    if wish.way == "external" and before.wanted is not None:
        # The file may be exchanged after the approval; its certificate may not.
        names = ", ".join(dns_names(before.wanted))
        sentence = f"{install.sentence} The new one is for {names}, until {before.wanted.not_valid_after_utc:%Y-%m-%d}."
        return [replace(install, sentence=sentence, settings={**settings, "certificate": fingerprint(before.wanted)})]
    keeps_key = wish.renewal is not None and wish.renewal.keeps_key
    key = _keep_key(wish, before) if keeps_key else _make_key(wish, before, "")
    cures = cure_steps(wish, before.signer.cures)
    return [key, *cures, _sign(wish, f"the request of {wish.host}"), install]


def _make_key(wish: IssueWish, before: HostBefore, more: str) -> Step:
    return Step(
        "make-key",
        str(wish.host),
        wish.new_key_path,
        f"Make a new private key ({wish.key_type.word}) on the host; it never leaves it. {more}".rstrip(),
        before="absent" if before.files.new_public_key is None else "a key of an earlier run",
        settings={"key_type": wish.key_type.word, "mode": f"{FILE_MODE:04o}", "owner": before.layout.cert_owner},
    )


def _keep_key(wish: IssueWish, before: HostBefore) -> Step:
    sentence = "Take the private key in service for the new certificate as well; it never leaves the host."
    return replace(_make_key(wish, before, ""), action="keep-key", sentence=sentence)


def _sign(wish: IssueWish, what: str) -> Step:
    at_most = f", at most until the CA ends on {wish.ca_end:%Y-%m-%d}" if wish.ca_end else ""
    return Step(
        "sign",
        "here",
        wish.ca.directory if wish.ca else "",
        f"Sign {what} for {', '.join(wish.names)}, valid for {wish.valid_days} days{at_most}.",
        settings={"roles": wish.roles, **wish.lifetime, "names": ",".join(wish.names)},
    )


def _ca_certificate(wish: IssueWish, before: HostBefore) -> list[Step]:
    there, status = before.files.ca_certificates, before.files.ca_file
    try:
        wanted = trusted_file(before)
        diff = _trust_diff(_certificates(there or b""), _certificates(wanted))
    except ValueError as error:
        raise NotReady(
            f"{wish.ca_certificate_path} on {wish.host}, or the CACertFile in use, holds an unreadable certificate",
            left="nothing was touched",
            do="look at it with openssl x509 -text, then repair or remove it",
        ) from error
    # Who else reads it may go on; but sendmail offers no STARTTLS with a CA file that others can write.
    settings: dict[str, str | int] = {"mode": f"{FILE_MODE:04o}", "owner": before.layout.cert_owner}
    if status is not None and not status.mode & 0o022:
        settings = {"mode": f"{status.mode & _PERMISSIONS:04o}", "owner": status.owner}
        if there == wanted:
            return []
    carried = " It takes over what was trusted by another file until now." if before.trusted_elsewhere else ""
    return [
        Step(
            "write",
            str(wish.host),
            wish.ca_certificate_path,
            f"Write the CA certificates that clients are verified by and asked for.{carried}",
            diff=diff,
            before=sha256(there),
            content=wanted,
            settings=settings,
        )
    ]


def _trust_diff(before: list[x509.Certificate], after: list[x509.Certificate]) -> str:
    """Which CAs are trusted, by name and fingerprint: plus for a new one, a space for one that stays."""
    lines = [
        f"{' ' if certificate in before else '+'} {openssl_dn(certificate.subject)} SHA-256 {fingerprint(certificate)}"
        for certificate in after
    ]
    more = [f"  and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "\n".join((*lines[:_MOST_LISTED], *more))


def _configuration(wish: IssueWish, before: HostBefore) -> list[Step]:
    return configuration_steps(
        str(wish.host),
        before.layout,
        before.wished_settings(wish),
        mc=before.mc,
        mc_status=before.mc_status,
        cf=before.cf,
    )


def _reload(wish: IssueWish, before: HostBefore) -> Step:
    service = before.layout.service
    sentence = "Reload the daemon, look at port 25 from outside, and judge; if it fails, put everything back."
    return Step("reload", str(wish.host), service.name, sentence, settings={"how": service.reload})


def _refuse_what_would_fail(wish: IssueWish, before: HostBefore) -> None:
    """Raise NotReady where the change or its proof could not be had: better now than after it."""
    _refuse_what_sendmail_would(wish, before)
    probe = wish.probe_from or "here"
    if wish.roles != "client" and not before.presented.connected:
        raise NotReady(
            f"port 25 of {wish.hostname} is not reached from {probe} ({before.presented.problem})",
            left="nothing was touched",
            do=f"see that sendmail runs, that {wish.hostname} is the name of {wish.host} there and that no firewall is "
            "between, or name another host in probe_from",
        )
    if before.presented.connected and not before.logged:
        raise NotReady(
            f"the mail log of {wish.host} ({before.layout.log.path or 'the journal'}) does not tell of a connection "
            f"from {probe} to {wish.hostname}, so nothing could be proved",
            left="nothing was touched",
            do=f"see that syslog runs on {wish.host}, and that {wish.hostname} leads to it and not to another server",
        )


def _refuse_what_sendmail_would(wish: IssueWish, before: HostBefore) -> None:
    """Raise NotReady for a host where sendmail could not use our files, or where they are somebody else's."""
    user = options(before.cf).get("RunAsUser", "")
    if user.partition(":")[0] not in ("", "root", "0"):
        raise NotReady(
            f"sendmail on {wish.host} runs as {user} (RunAsUser) and could not read a key that only root can",
            left="nothing was touched",
            do="such hosts are not supported yet: take RunAsUser out of its configuration, or install by hand",
        )
    for path, status in ((wish.certificate_path, before.files.file), (wish.ca_certificate_path, before.files.ca_file)):
        if status is not None and status.is_link:
            raise NotReady(
                f"{path} on {wish.host} is a symbolic link: replacing it would part it from what it names",
                left="nothing was touched",
                do="put a file in its place, or give another directory in cert_dir",
            )


def _serves_another(wish: IssueWish, before: HostBefore) -> bool:
    """Whether the daemon shows another certificate than the one in its file, as before a reload."""
    if wish.roles == "client" or before.files.certificate is None:
        return False
    return before.presented.serial != before.files.certificate.serial_number


def _rests_on(before: HostBefore) -> dict[str, str]:
    return {
        "sendmail": before.layout.version_text,
        "signer": ",".join(fingerprint(certificate) for certificate in before.signer.certificates),
    }


def _certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem) if b"BEGIN CERTIFICATE" in pem else []


def _is(status: FileStatus, mode: int, owner: str) -> bool:
    # A directory under Debian's /etc/mail inherits its set-group-ID bit and with it its group, which mean nothing here.
    return status.mode & _PERMISSIONS == mode and status.owner.partition(":")[0] == owner.partition(":")[0]


def _word(status: FileStatus | None) -> str:
    return "absent" if status is None else f"{status.mode & _PERMISSIONS:04o} {status.owner}"
