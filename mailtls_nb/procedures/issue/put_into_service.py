"""Carrying out the plan of 02 on the host, in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.approval import check_still
from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.pki.profiles import Roles
from mailtls_nb.pki.requests import read_request
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures.issue.cure import Curing
from mailtls_nb.procedures.issue.look import look, open_ca
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.plan import install_plan, request_plan
from mailtls_nb.procedures.issue.proof import prove
from mailtls_nb.procedures.issue.sign import sign_key
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.mc import cf_options
from mailtls_nb.verdict import Claim, judge

_KEY_TIMEOUT_S = 120  # an RSA key of 4096 bits on a slow host
# In these scripts values are arguments, never part of the text.
# openssl does not tell of a full disk: what it writes goes through cat, which does.
_MAKE_KEY = 'out=$1; shift; umask 077; rm -f "$out"; "$@" | cat >"$out" && test -s "$out"'
# Only the block with the key, which sed finds in the file with the certificate in service.
_KEEP_KEY = (
    'umask 077; rm -f "$2"; sed -n "/^-----BEGIN [A-Z ]*PRIVATE KEY/,/^-----END [A-Z ]*PRIVATE KEY/p" "$1" '
    '| cat >"$2" && test -s "$2"'
)
# The certificate comes on standard input, the key from its file beside: it never leaves the host.
_JOIN = (
    'umask 077; new=$2.new; { cat && cat "$1"; } > "$new" && chmod "$3" "$new" && chown "$4" "$new" '
    '&& mv -f "$new" "$2" && rm -f "$1"'
)
_SET_MODE = 'chmod "$2" "$1" && chown "$3" "$1"'
_PURPOSES: dict[Roles, str] = {"both": "serverAuth,clientAuth", "server": "serverAuth", "client": "clientAuth"}


def put_into_service(
    context: Context,
    wish: IssueWish,
    before: HostBefore,
    plan: Plan,
    *,
    also: Callable[[], tuple[Claim, ...]] = tuple,
) -> tuple[x509.Certificate, tuple[Claim, ...]]:
    """Apply the plan; on any failure the host is as before and ChangeFailed is raised.

    ``also`` looks for further claims once the certificate is in service. Returns that, and all claims, which hold.
    """
    certificate = before.wanted or before.files.certificate
    with Curing(context) as curing, Transaction(context.host(wish.host), before.layout) as change:
        before = _still(plan, install_plan, context, wish)
        for step in plan.steps:
            match step.action:
                case "mend-index" | "update-index" | "revoke":
                    pass  # together with the signature that they are for
                case "sign":
                    certificate = _sign(context, wish, change.host, curing, before)
                case "install":
                    _install(change, wish, step, _needed(certificate))
                case "build":
                    change.build(cf_options(before.wished_settings(wish)))
                case "reload":
                    change.reload()
                case _:
                    _file_step(change, wish, step)
        claims = (*prove(context, wish, before, _needed(certificate)), *also())
        judge(claims)
    return _needed(certificate), claims


def make_request(context: Context, wish: IssueWish, before: HostBefore, plan: Plan) -> bytes:
    """Make the key that waits on the host and its request for a CA elsewhere (PEM)."""
    with Transaction(context.host(wish.host), before.layout) as change:
        _still(plan, request_plan, context, wish)
        for step in plan.steps:
            if step.action != "request":
                _file_step(change, wish, step)
        request = _signing_request(change.host, wish)
        read_request(request, names=wish.names, where=f"made on {wish.host}")
    return request


def _still(
    plan: Plan, planned: Callable[[IssueWish, HostBefore], Plan], context: Context, wish: IssueWish
) -> HostBefore:
    """Look again, now that nobody else may change the host; raises StaleApproval when the plan would be another one."""
    now = look(context, wish)
    check_still(plan, planned(wish, now), str(wish.host))
    return now


def _file_step(change: Transaction, wish: IssueWish, step: Step) -> None:
    mode, owner = str(step.settings["mode"]), str(step.settings["owner"])
    match step.action:
        case "make-directory":
            change.make_directory(step.target, mode=int(mode, 8), owner=owner)
        case "set-mode":
            argv: tuple[str, ...] = ("sh", "-c", _SET_MODE, "sh", step.target, mode, owner)
            change.run(argv, changes=(step.target,)).check(f"closing {step.target}")
        case "make-key":
            argv = ("sh", "-c", _MAKE_KEY, "sh", step.target, *wish.key_type.genpkey_argv)
            made = change.run(argv, changes=(step.target,), timeout_s=_KEY_TIMEOUT_S)
            made.check("making the private key")
        case "keep-key":
            argv = ("sh", "-c", _KEEP_KEY, "sh", wish.certificate_path, step.target)
            change.run(argv, changes=(step.target,)).check("taking the private key in service")
        case "write" if step.content is not None:
            # What was saved there since the look under the lock is not overwritten.
            change.write(step.target, step.content, mode=int(mode, 8), owner=owner, expected=step.before)
        case _:
            raise NotReady(f"this run cannot do the step {step.action} on {step.target}")


def _sign(context: Context, wish: IssueWish, host: Host, curing: Curing, before: HostBefore) -> x509.Certificate:
    request = read_request(_signing_request(host, wish), names=wish.names, where=f"made on {wish.host}")
    directory = open_ca(context, wish)
    curing.carry_out(directory, before.signer.cures)
    return curing.signed(sign_key(context, wish, directory, request.public_key))


def _install(change: Transaction, wish: IssueWish, step: Step, certificate: x509.Certificate) -> None:
    mode, owner = str(step.settings["mode"]), str(step.settings["owner"])
    path, key = step.target, wish.new_key_path
    argv = ("sh", "-c", _JOIN, "sh", key, path, mode, owner)
    joined = change.run(argv, changes=(path, f"{path}.new", key), stdin=certificate.public_bytes(Encoding.PEM))
    joined.check("putting certificate and key into one file")


def _signing_request(host: Host, wish: IssueWish) -> bytes:
    """A request (RFC 2986) by the new key, made on the host by its own openssl, as PEM."""
    names = ",".join(f"DNS:{name}" for name in wish.names)
    configuration = (
        "[req]\nprompt = no\ndistinguished_name = name\nreq_extensions = extensions\n"
        f"[name]\nCN = {wish.hostname}\n"
        f"[extensions]\nsubjectAltName = {names}\nextendedKeyUsage = {_PURPOSES[wish.roles]}\n"
    )
    argv = ("openssl", "req", "-new", "-sha256", "-key", wish.new_key_path, "-config", "/dev/stdin")
    completed = host.run(argv, stdin=configuration.encode(), timeout_s=60)
    return completed.check("making the certificate signing request").stdout


def _needed(certificate: x509.Certificate | None) -> x509.Certificate:
    if certificate is None:
        raise NotReady("there is no certificate to install")
    return certificate
