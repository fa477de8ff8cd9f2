"""The record of one run: ``record.json``, an in-toto Statement (v1) in the run's audit folder.

Its predicate says which runbook ran, with what parameters (secrets only as references), who started it, which
plan was shown and how it was approved, what was observed of each host, every claim with what was seen of it, the
outcome and, for a failed run, the error, for a check its findings. The subject lists the run's files with their
SHA-256.
``record.schema.json`` beside this module describes every member; each record is checked against it when written.

A record is written twice. When a run begins it says ``failed`` with the error kind ``interrupted`` and no end, so
that a run which was killed never looks done; when the run ends, the finished record replaces it in one step.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mailtls_nb
from mailtls_nb import durable
from mailtls_nb.errors import FileAccessFailed, MailTLSError, NotReady, printable
from mailtls_nb.finding import counts
from mailtls_nb.plan import Plan

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# A name, not an address: nothing is fetched from it.
PREDICATE_TYPE = "https://mailtls-nb.example/runbook-run/v1"

FILE_NAME = "record.json"
SIGNATURE_NAME = "record.json.sig"
DRAFT_NAME = ".record.json"
INTERRUPTED = "interrupted"

Outcome = Literal["changed", "unchanged", "planned", "failed"]


@dataclass(frozen=True)
class RunbookSource:
    """The runbook that ran: ``digest`` is SHA-256 over its cells' sources (library.source_digest)."""

    id: str
    digest: str
    version: str = mailtls_nb.__version__


@dataclass(frozen=True)
class Operator:
    """Who started the run, as this machine knows it.

    ``origin`` is where the person came from: ``sudo:USER``, ``ssh:ADDRESS``, both with a space between, or empty.
    """

    login: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.login} ({self.origin})" if self.origin else self.login

    @classmethod
    def of_this_process(cls) -> Operator:
        """The login of this process's user, and what sudo and sshd left in the environment."""
        try:
            login = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            login = f"uid {os.getuid()}"
        sudo = os.environ.get("SUDO_USER", "")
        ssh = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
        origin = " ".join(f"{how}:{who}" for how, who in (("sudo", sudo), ("ssh", ssh)) if who)
        return cls(printable(login), printable(origin))


@dataclass(frozen=True)
class Approval:
    """``approve`` as given, and ``how`` it was met: ``testbed``, ``auto``, ``digest`` or ``not approved``."""

    approve: str
    how: str


@dataclass(frozen=True)
class RunError:
    """Why a run failed: what happened, the state things are in, what to do next, the exit status."""

    kind: str
    message: str
    state: str = ""
    next: str = ""
    exit_status: int = 1

    @classmethod
    def of(cls, error: BaseException) -> RunError:
        """The error in the record's words."""
        if isinstance(error, MailTLSError):
            return cls(type(error).__name__, error.what, error.left, error.do, error.exit_status)
        return cls(type(error).__name__, str(error) or type(error).__name__)


@dataclass(frozen=True)
class Subject:
    """A file of the run, by its path in the audit folder, and its SHA-256 in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Previous:
    """What stood in the audit folder's chain before this record, so that its signature covers that too.

    ``n`` and ``entry`` are the number and the SHA-256 of the line of log.jsonl before this record's own; ``record`` is
    the SHA-256 of the record that ended last, or None for the first.
    """

    n: int
    entry: str
    record: str | None


@dataclass(frozen=True)
class Record:
    """What record.json says. Members hold JSON data; ``started`` and ``ended`` are RFC 3339 in UTC.

    ``findings`` is None for a run that judged no host. ``undone`` says what an interrupted run had left and this one
    put back first. ``machine`` is the host name of where the runbook ran, and
    ``versions`` what it ran on. ``sealed`` tells that a signature lies beside the record, of the key with the
    fingerprint ``signed_by`` (``SHA256:...``, as ssh-keygen shows it); otherwise ``unsigned_because`` says why there is
    none.
    """

    runbook: RunbookSource
    parameters: Mapping[str, str | int]
    operator: Operator
    started: str
    ended: str | None = None
    outcome: Outcome = "failed"
    error: RunError | None = None
    git_commit: str = ""
    package_version: str = mailtls_nb.__version__
    plan: Mapping[str, Any] | None = None
    approval: Approval | None = None
    hosts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    claims: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Mapping[str, str]] | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    undone: Sequence[str] = ()
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    previous: Previous | None = None
    sealed: bool = False
    signed_by: str = ""
    unsigned_because: str = "the run has not ended"
    subject: Sequence[Subject] = ()

    @property
    def hosts_named(self) -> tuple[str, ...]:
        """The hosts of the run: those that it saw, or, where it failed before that, those that it was given."""
        if self.hosts or self.outcome != "failed":
            return tuple(self.hosts)
        given = (str(self.parameters.get(name, "")) for name in ("host", "hosts", "crl_hosts"))
        return tuple(host for text in given for host in text.replace(" ", "").split(",") if host)

    @property
    def exit_status(self) -> int:
        """What the command line exits with: see Outcome under Contracts in the README."""
        if self.outcome == "failed":
            return self.error.exit_status if self.error else 1
        if self.outcome == "planned":
            return 0 if self.parameters.get("approve") == "" else 3
        return 4 if (self.findings_by_severity or {}).get("error") else 0

    @property
    def findings_by_severity(self) -> dict[str, int] | None:
        """How many findings there are of each severity; None for a run that judged no host."""
        return None if self.findings is None else counts(finding["severity"] for finding in self.findings)

    def as_statement(self) -> dict[str, Any]:
        """The record as an in-toto Statement, in JSON data."""
        predicate = asdict(self)
        del predicate["subject"]
        return {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subject],
            "predicateType": PREDICATE_TYPE,
            "predicate": json.loads(json.dumps(predicate)),
        }

    def write(self, folder: Path) -> Path:
        """Check the record against its schema and put it into the folder in one step, mode 0600.

        Raises jsonschema.ValidationError for a record that is not of its schema, FileAccessFailed when it
        cannot be written; what was there stays.
        """
        return self._put(folder, FILE_NAME)

    def write_draft(self, folder: Path) -> Path:
        """As ``write``, but into a hidden file that only says what the notebook itself saw of its end.

        record.json stays what the chain knows of the run until the whole run has ended.
        """
        return self._put(folder, DRAFT_NAME)

    def as_bytes(self) -> bytes:
        """What the file holds; raises jsonschema.ValidationError for a record that is not of its schema."""
        statement = self.as_statement()
        _validator().validate(statement)
        return in_json(statement)

    def _put(self, folder: Path, name: str) -> Path:
        data, path = self.as_bytes(), folder / name
        try:
            durable.write(path, data, mode=0o600)
        except OSError as error:
            raise FileAccessFailed(
                f"{path} cannot be written: {error.strerror}", left="the record is as it was"
            ) from error
        return path


def in_json(statement: Mapping[str, Any]) -> bytes:
    """A statement as it stands in its file."""
    # ASCII only: what a host printed may be no UTF-8.
    return json.dumps(statement, indent=2).encode() + b"\n"


def begin(
    *,
    runbook: RunbookSource,
    parameters: Mapping[str, str | int],
    operator: Operator,
    started: datetime,
    git_commit: str = "",
    machine: str = "",
    versions: Mapping[str, str] | None = None,
) -> Record:
    """The record of a run that begins: failed, until finish() says otherwise."""
    return Record(
        machine=machine,
        versions=dict(versions or {}),
        runbook=runbook,
        parameters=dict(parameters),
        operator=operator,
        started=rfc3339(started),
        git_commit=git_commit,
        error=RunError(INTERRUPTED, "the run began and has not ended", "not known: look at commands.jsonl"),
    )


def finish(
    record: Record,
    *,
    ended: datetime,
    outcome: Outcome,
    error: RunError | None = None,
    subject: Sequence[Subject] = (),
    **members: Any,
) -> Record:
    """The record at the run's end; ``members`` are plan, approval, hosts, claims and artifacts where there are any.

    Raises ValueError for a failed run without an error and for an error of a run that did not fail.
    """
    if (outcome == "failed") != (error is not None):
        raise ValueError("a run has an error exactly when it failed")
    return replace(record, ended=rfc3339(ended), outcome=outcome, error=error, subject=tuple(subject), **members)


def plan_data(plan: Plan) -> dict[str, Any]:
    """A plan as it stands in the record: with the digest that approves it, and what it was expected to do."""
    return {
        "digest": plan.digest,
        **plan.as_data(),
        "outlook": [{"what": what, "expected": expected} for what, expected in plan.outlook],
        "impact": dict(plan.impact),
    }


def load(path: Path) -> Record:
    """Read record.json; raises NotReady when it is not there or not of its schema."""
    try:
        statement = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NotReady(f"{path} is not a record: {error}") from error
    for problem in _validator().iter_errors(statement):
        raise NotReady(f"{path} is not a record: {problem.message}")
    predicate = dict(statement["predicate"])
    error_data, approval, previous = (predicate.pop(name) for name in ("error", "approval", "previous"))
    return Record(
        runbook=RunbookSource(**predicate.pop("runbook")),
        operator=Operator(**predicate.pop("operator")),
        error=RunError(**error_data) if error_data else None,
        approval=Approval(**approval) if approval else None,
        previous=Previous(**previous) if previous else None,
        subject=tuple(Subject(s["name"], s["digest"]["sha256"]) for s in statement["subject"]),
        **predicate,
    )


def subjects(folder: Path, *, leave_out: Sequence[str] = ()) -> tuple[Subject, ...]:
    """The files of a run folder with their digests, sorted by name; the record, its draft and its seal left out."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    kept = [name for name in names if name not in {FILE_NAME, DRAFT_NAME, SIGNATURE_NAME, *leave_out}]
    return tuple(Subject(name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in kept)


def rfc3339(moment: datetime) -> str:
    """An aware time as ``2026-11-22T20:30:25Z``; raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def _validator() -> Draft202012Validator:
    # Late: with all that belongs to it, this import takes two seconds, and most commands need no record.
    from jsonschema import Draft202012Validator

    schema = json.loads((files("mailtls_nb") / "record.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)
