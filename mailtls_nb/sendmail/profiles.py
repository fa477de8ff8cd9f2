"""What the distributions' sendmail packages look like: data, and the choice by what a host says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import NotReady

ServiceKind = Literal["systemd", "sysv", "smf", "pid-file"]


@dataclass(frozen=True)
class Profile:
    """What a distribution's sendmail package looks like; data, proved on real hosts or not yet."""

    name: str
    os_id: str
    proved: bool
    sendmail: str
    mc: str
    cf: str
    cf_m4: str
    m4: str
    mc_includes_cf_m4: bool
    appends_mc: bool
    service: Mapping[ServiceKind, str]
    reload: Literal["hup", "restart"]
    log_file: str
    cert_dir: str
    cert_owner: str
    install: str
    install_cf: str
    queue_pid_file: str = ""
    make_stamp: str = ""


DEBIAN = Profile(
    name="Debian",
    os_id="debian",
    proved=True,
    sendmail="/usr/sbin/sendmail",
    mc="/etc/mail/sendmail.mc",
    cf="/etc/mail/sendmail.cf",
    cf_m4="/usr/share/sendmail/cf/m4/cf.m4",
    m4="m4",
    mc_includes_cf_m4=True,
    appends_mc=True,
    service={"systemd": "sendmail.service", "sysv": "/etc/init.d/sendmail"},
    # Debian's own "reload" is HUP, after a make and before "sleep 2"; systemd runs the init script there too.
    reload="hup",
    log_file="/var/log/mail.log",
    cert_dir="/etc/mail/certs",
    cert_owner="root:root",
    install="apt-get install sendmail",
    install_cf="apt-get install sendmail-cf m4",
    queue_pid_file="/var/run/sendmail/mta/queue.pid",
    make_stamp="/var/run/sendmail/stampdir/reload",
)

RED_HAT = Profile(
    name="Red Hat",
    os_id="rhel",
    proved=False,
    sendmail="/usr/sbin/sendmail",
    mc="/etc/mail/sendmail.mc",
    cf="/etc/mail/sendmail.cf",
    cf_m4="/usr/share/sendmail-cf/m4/cf.m4",
    m4="m4",
    mc_includes_cf_m4=True,
    appends_mc=False,
    service={"systemd": "sendmail.service", "sysv": "/etc/init.d/sendmail"},
    # The unit has a PIDFile, and a daemon that re-executes itself leaves the old pid before the new one is
    # written there: systemd may take that for the service's end. So restart.
    reload="restart",
    log_file="/var/log/maillog",
    cert_dir="/etc/mail/certs",
    cert_owner="root:root",
    install="dnf install sendmail",
    install_cf="dnf install sendmail-cf m4",
)

FEDORA = Profile(
    name="Fedora",
    os_id="fedora",
    proved=False,
    sendmail="/usr/sbin/sendmail",
    mc="/etc/mail/sendmail.mc",
    cf="/etc/mail/sendmail.cf",
    cf_m4="/usr/share/sendmail-cf/m4/cf.m4",
    m4="m4",
    mc_includes_cf_m4=True,
    appends_mc=False,
    service={"systemd": "sendmail.service"},
    reload="restart",
    log_file="/var/log/maillog",
    cert_dir="/etc/mail/certs",
    cert_owner="root:root",
    install="dnf install sendmail",
    install_cf="dnf install sendmail-cf m4",
)

SOLARIS = Profile(
    name="Solaris",
    os_id="solaris",
    proved=False,
    sendmail="/usr/lib/sendmail",
    mc="/etc/mail/cf/cf/sendmail.mc",
    cf="/etc/mail/sendmail.cf",
    cf_m4="/etc/mail/cf/m4/cf.m4",
    m4="/usr/ccs/bin/m4",
    mc_includes_cf_m4=False,
    appends_mc=False,
    service={"smf": "svc:/network/smtp:sendmail"},
    reload="restart",
    log_file="/var/log/syslog",
    cert_dir="/etc/mail/certs",
    cert_owner="root:sys",
    install="pkg install service/network/smtp/sendmail",
    install_cf="pkg install service/network/smtp/sendmail",
)

PROFILES: tuple[Profile, ...] = (DEBIAN, RED_HAT, FEDORA, SOLARIS)


def choose_profile(os_release: Mapping[str, str], kernel: str) -> Profile:
    """The profile for what the host says of itself in /etc/os-release and ``uname -s``; NotReady for any other."""
    if kernel == "SunOS":
        return SOLARIS
    names = [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]
    for name in names:
        if name == "debian":
            return DEBIAN
        if name == "fedora" and names[0] == "fedora":
            return FEDORA
        if name in ("rhel", "centos", "fedora"):
            return RED_HAT
    known = ", ".join(profile.name for profile in PROFILES)
    system = os_release.get("PRETTY_NAME") or names[0] or kernel or "it does not say what it is"
    raise NotReady(
        f"this kind of system is not known: {system}",
        left="nothing was touched",
        do=f"known are {known}; a profile for another is data in mailtls_nb/sendmail/profiles.py",
    )


def parse_os_release(text: str) -> dict[str, str]:
    """/etc/os-release as a mapping (os-release(5)): shell-like quoting, comments ignored."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith("#"):
            try:
                values[name] = "".join(shlex.split(value))
            except ValueError:
                values[name] = value
    return values
