"""Where things lie on a host that runs sendmail, told from what the host itself answers.

The host is asked by ``mailtls_nb.observe.layout``; here its answers are read. Nothing is guessed: an answer
that does not fit a profile is refused, naming what is missing and what to install.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import NotReady
from mailtls_nb.sendmail.profiles import Profile, ServiceKind, choose_profile, parse_os_release

_UNTOUCHED = "nothing was touched"


@dataclass(frozen=True)
class Service:
    """What starts the daemon: ``name`` is the systemd unit, init script, SMF fmri, or the pid file itself.

    ``reload`` is ``hup`` (signal the daemon, which re-executes itself; the port is closed for some 30 ms) or
    ``restart``.
    """

    kind: ServiceKind
    name: str
    reload: Literal["hup", "restart"]


@dataclass(frozen=True)
class Build:
    """How sendmail.cf is made: the output of ``m4_argv``, run in ``directory``.

    ``appends_mc``: Debian's Makefile adds the .mc as comments; so do we, and its next ``make`` sees its own work.
    """

    directory: str
    m4_argv: tuple[str, ...]
    appends_mc: bool


@dataclass(frozen=True)
class LogSource:
    """Where the mail log is: a file, or (``path`` empty) systemd's journal."""

    path: str


@dataclass(frozen=True)
class Layout:
    """One host's sendmail. ``proved`` is False where no real host of this kind has been changed in a test yet.

    ``version`` is e.g. (8, 17, 1, 9). ``cert_owner`` is ``user:group``. ``daemon_argv`` is the running
    daemon's command from the second line of its pid file, empty when it does not run. ``drifted``: the .mc does not
    build the cf in use, so a build would change more than asked for. ``cf_checksum`` is that of the cf as it stands,
    ``built_checksum`` that of what m4 makes of the .mc now, without the lines that say when (both by cksum).
    ``interrupted``: a change was cut off, or is going
    on; ``mailtls_nb.apply.transaction.heal`` undoes the former. ``remarks`` are sentences for the operator.
    """

    profile: str
    proved: bool
    system: str
    version: tuple[int, ...]
    version_text: str
    compiled_with: frozenset[str]
    canonical_name: str
    sendmail: str
    cf: str
    submit_cf: str
    mc: str
    build: Build
    service: Service
    pid_file: str
    queue_pid_file: str
    make_stamp: str
    daemon_argv: tuple[str, ...]
    cert_dir: str
    cert_owner: str
    log: LogSource
    openssl: str
    openssl_version: str
    drifted: bool = False
    interrupted: bool = False
    remarks: tuple[str, ...] = ()
    cf_checksum: str = ""
    built_checksum: str = ""

    @property
    def starttls(self) -> bool:
        """Always true of a layout that was made by ``read_layout``, which refuses any other."""
        return "STARTTLS" in self.compiled_with

    def versions(self) -> dict[str, str]:
        """What the record says of the host."""
        return {"system": self.system, "sendmail": self.version_text, "openssl": self.openssl_version}

    def refuse_drift(self, host: str) -> None:
        """Raise NotReady where the .mc does not build the cf in use: a build would change more than asked for."""
        if self.drifted:
            raise NotReady(
                f"{host}: {self.mc} does not build the {self.cf} in use: one of them was changed by hand, or sendmail "
                "was upgraded since",
                left=_UNTOUCHED,
                do=f"bring both together (compare with `{shlex.join(self.build.m4_argv)}`), then run this again",
            )


@dataclass(frozen=True)
class Identity:
    """What ``sendmail -d0.10 -bt`` says of itself (-d0.4 leaves out the file names; measured on 8.17.1)."""

    version_text: str
    compiled_with: frozenset[str]
    canonical_name: str
    cf: str
    submit_cf: str
    pid_file: str

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version_text))


def parse_identity(output: str) -> Identity | None:
    """Read the output of ``sendmail -d0.10 -bt </dev/null``; None when no sendmail printed it."""
    version = re.search(r"^Version (\d+\.\d+[\w.+-]*)", output, re.MULTILINE)
    flags = re.search(r"^ *Compiled with:((?:[^\n]*\n)(?:\t+[^\n]*\n)*)", output + "\n", re.MULTILINE)
    if version is None or flags is None:
        return None

    def named(label: str, kind: str) -> str:
        found = re.findall(rf"^ *{label}:\s*(\S+)(?: \({kind}\))$", output, re.MULTILINE)
        return found[-1] if found else ""

    canonical = re.search(r"^Canonical name: *(\S+)", output, re.MULTILINE) or re.search(
        r"^ *\(canonical domain name\) \$j = (\S+)", output, re.MULTILINE
    )
    return Identity(
        version_text=version[1],
        compiled_with=frozenset(flags[1].split()),
        canonical_name=canonical[1] if canonical else "",
        cf=named("Conf file", "selected") or named("Conf file", "default for MTA"),
        submit_cf=named("Conf file", "default for MSP"),
        pid_file=named("Pid file", "selected") or named("Pid file", "default"),
    )


def parse_pid_file(text: str) -> tuple[int, tuple[str, ...]] | None:
    """The daemon's pid (line 1) and its command (line 2), or None when the text is no pid file."""
    lines = text.splitlines()
    if not lines or not lines[0].strip().isdigit():
        return None
    return int(lines[0]), tuple(lines[1].split()) if len(lines) > 1 else ()


# Programs that other mail servers put behind /usr/sbin/sendmail, as the link or the installed files name them.
_OTHER_MAIL_SERVERS = {
    "postfix": "Postfix",
    "exim": "Exim",
    "msmtp": "msmtp",
    "ssmtp": "sSMTP",
    "nullmailer": "nullmailer",
    "smtpctl": "OpenSMTPD",
    "opensmtpd": "OpenSMTPD",
    "qmail": "qmail",
    "courier": "Courier",
    "dma": "the DragonFly Mail Agent",
    "busybox": "BusyBox",
}


def _other_mail_server(link: str, files: frozenset[str], printed: str) -> str:
    for evidence in (link, " ".join(sorted(files)), printed):
        for word, name in _OTHER_MAIL_SERVERS.items():
            if re.search(rf"(?<![a-z]){word}", evidence.lower()):
                return name
    return ""


def read_layout(host: str, answers: Mapping[str, str]) -> Layout:
    """The layout of ``host`` from the sections that the observation's script printed.

    Raises NotReady when it is not run as root, when there is no sendmail or another mail server in its place, when
    sendmail was built without STARTTLS, or when the .mc, the m4 sources or openssl are missing.
    """
    if answers["uid"].strip() != "0":
        raise NotReady(
            f"{host}: commands run there as {answers['user'].strip() or 'a user'}, not as root",
            left=_UNTOUCHED,
            do="use a host reference that ends in ?sudo=yes (sudo -n must work there), or connect as root",
        )
    kernel = answers["kernel"].strip()
    os_release = parse_os_release(answers["os-release"])
    profile = choose_profile(os_release, kernel)
    files = frozenset(answers["files"].splitlines())
    identity = _identity(host, profile, answers, files)
    _must_exist(host, profile, answers, files)

    pid_file = answers["pid-file-option"].strip() or identity.pid_file
    daemon = parse_pid_file(answers["pid-file"])
    real = dict(line.split("\t", 1) for line in answers["real-paths"].splitlines() if "\t" in line)
    mc, cf = real.get("mc", profile.mc), real.get("cf", identity.cf or profile.cf)
    drifted, cf_checksum, built_checksum = read_drift(answers["drift"])
    return Layout(
        profile=profile.name,
        proved=_is_proved(profile, os_release),
        system=os_release.get("PRETTY_NAME", kernel),
        version=identity.version,
        version_text=identity.version_text,
        compiled_with=identity.compiled_with,
        canonical_name=identity.canonical_name,
        sendmail=profile.sendmail,
        cf=cf,
        submit_cf=identity.submit_cf,
        mc=mc,
        build=_build(profile, mc),
        service=_service(profile, files, pid_file),
        pid_file=pid_file,
        queue_pid_file=profile.queue_pid_file,
        make_stamp=profile.make_stamp,
        daemon_argv=daemon[1] if daemon else (),
        cert_dir=profile.cert_dir,
        cert_owner=profile.cert_owner,
        log=_log_source(profile, files),
        openssl=answers["openssl-path"].strip(),
        openssl_version=answers["openssl-version"].strip(),
        drifted=drifted,
        interrupted=bool(answers["interrupted"].strip()),
        remarks=_remarks(profile, os_release, identity, cf),
        cf_checksum=cf_checksum,
        built_checksum=built_checksum,
    )


def read_drift(answer: str) -> tuple[bool, str, str]:
    """Whether the .mc does not build the cf in use, and the checksums of both; empty where the host was not asked."""
    sameness, cf_checksum, built_checksum, *_ = (*answer.strip().splitlines(), "", "", "")
    return sameness == "differs", cf_checksum.strip(), built_checksum.strip()


def _identity(host: str, profile: Profile, answers: Mapping[str, str], files: frozenset[str]) -> Identity:
    link, printed = answers["sendmail-link"].strip(), answers["identity"]
    identity = parse_identity(printed)
    if profile.sendmail not in files:
        raise NotReady(
            f"{host}: there is no {profile.sendmail}", left=_UNTOUCHED, do=f"install sendmail: {profile.install}"
        )
    if identity is None:
        other = _other_mail_server(link, files, printed)
        first_line = printed.strip().splitlines()[0] if printed.strip() else "nothing"
        raise NotReady(
            f"{host}: {profile.sendmail} is not sendmail"
            + (f" but {other}" if other else f" (it printed: {first_line})"),
            left=_UNTOUCHED,
            do=f"these runbooks are for sendmail only; to use it on this host: {profile.install}",
        )
    if "STARTTLS" not in identity.compiled_with:
        raise NotReady(
            f"{host}: sendmail {identity.version_text} was built without STARTTLS",
            left=_UNTOUCHED,
            do=f"install the distribution's package ({profile.install}), or build sendmail with these lines in "
            "devtools/Site/site.config.m4: APPENDDEF(`conf_sendmail_ENVDEF', `-DSTARTTLS') and "
            "APPENDDEF(`conf_sendmail_LIBS', `-lssl -lcrypto')",
        )
    return identity


def _must_exist(host: str, profile: Profile, answers: Mapping[str, str], files: frozenset[str]) -> None:
    if profile.cf_m4 not in files or not answers["m4"].strip():
        missing = profile.cf_m4 if profile.cf_m4 not in files else "m4"
        raise NotReady(
            f"{host}: {missing} is missing, so sendmail.cf cannot be built",
            left=_UNTOUCHED,
            do=f"install it: {profile.install_cf}",
        )
    if profile.mc not in files:
        raise NotReady(
            f"{host}: there is no {profile.mc}; a sendmail.cf edited by hand is not changed by these runbooks",
            left=_UNTOUCHED,
            do=f"write {profile.mc} so that it builds the sendmail.cf in use, then run this again",
        )
    if not answers["openssl-path"].strip():
        raise NotReady(
            f"{host}: the openssl command is missing; it makes the key there, since keys never leave the host",
            left=_UNTOUCHED,
            do="install the package openssl on that host",
        )


def _build(profile: Profile, mc: str) -> Build:
    m4_argv: tuple[str, ...] = (profile.m4,)
    if not profile.mc_includes_cf_m4:
        cf_dir = profile.cf_m4.removesuffix("m4/cf.m4")
        m4_argv += (f"-D_CF_DIR_={cf_dir}", profile.cf_m4)
    return Build(directory=mc.rpartition("/")[0] or "/", m4_argv=(*m4_argv, mc), appends_mc=profile.appends_mc)


def _service(profile: Profile, files: frozenset[str], pid_file: str) -> Service:
    if "smf" in profile.service and "/usr/sbin/svcadm" in files:
        return Service("smf", profile.service["smf"], profile.reload)
    if "systemd" in profile.service and "/run/systemd/system" in files:
        return Service("systemd", profile.service["systemd"], profile.reload)
    if profile.service.get("sysv", "") in files:
        return Service("sysv", profile.service["sysv"], profile.reload)
    return Service("pid-file", pid_file, "hup")


def _log_source(profile: Profile, files: frozenset[str]) -> LogSource:
    if profile.log_file not in files and "/run/systemd/journal" in files:
        return LogSource("")
    return LogSource(profile.log_file)


def _remarks(profile: Profile, os_release: Mapping[str, str], identity: Identity, cf: str) -> tuple[str, ...]:
    remarks = []
    if not _is_proved(profile, os_release):
        system = os_release.get("PRETTY_NAME", profile.name)
        remarks.append(f"The profile for {system} is not yet proved on a real host: read the plan with care.")
    if "." not in identity.canonical_name:
        own_name = identity.canonical_name or "unknown"
        remarks.append(
            f"The host's own name is {own_name}, without a domain: sendmail waits for it 60 s at each start."
        )
    if cf != profile.cf:
        remarks.append(f"The configuration in use is {cf}, where {profile.cf} is usual.")
    return tuple(remarks)


def _is_proved(profile: Profile, os_release: Mapping[str, str]) -> bool:
    # A distribution made from Debian uses its profile, but was not itself tried.
    return profile.proved and os_release.get("ID") == profile.os_id
