"""Reading what a host says of its sendmail, from recorded answers."""

from __future__ import annotations

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.sendmail.layout import parse_identity, parse_pid_file, read_layout
from mailtls_nb.sendmail.profiles import choose_profile, parse_os_release

# As Debian bookworm's sendmail prints it, the operating system's defines shortened.
IDENTITY = """\
Version 8.17.1.9
 Compiled with: DNSMAP IPV6_FULL LDAPMAP LDAP_NETWORK_TIMEOUT
\t\tNIS NISPLUS PIPELINING SASLv2 SCANF SOCKETMAP STARTTLS
\t\tTCPWRAPPERS TLS_EC TLS_VRFY_PER_CTX USERDB USE_LDAP_INIT XDEBUG
    OS Defines: ADDRCONFIG_IS_BROKEN HASFCHOWN HASFCHMOD HASFLOCK
\t\tHASGETDTABLESIZE HAS_GETHOSTBYNAME2 HASGETUSERSHELL
Kernel symbols:\t/boot/vmlinux
     Conf file:\t/etc/mail/submit.cf (default for MSP)
     Conf file:\t/etc/mail/sendmail.cf (default for MTA)
      Pid file:\t/var/run/sendmail/mta/sendmail.pid (default)
Canonical name: relay.example.test
 UUCP nodename: relay.example.test
\ta.k.a.: relay
     Conf file:\t/etc/mail/sendmail.cf (selected)
      Pid file:\t/var/run/sendmail/mta/sendmail.pid (selected)

============ SYSTEM IDENTITY (after readcf) ============
      (short domain name) $w = relay
  (canonical domain name) $j = relay.example.test
========================================================

ADDRESS TEST MODE (ruleset 3 NOT automatically invoked)
Enter <ruleset> <address>
> \n"""

DEBIAN_FILES = "/usr/sbin/sendmail\n/etc/mail/sendmail.mc\n/usr/share/sendmail/cf/m4/cf.m4\n/etc/init.d/sendmail\n"

RED_HAT_FILES = "/usr/sbin/sendmail\n/etc/mail/sendmail.mc\n/usr/share/sendmail-cf/m4/cf.m4\n/run/systemd/system\n"

DEBIAN = {
    "uid": "0\n",
    "user": "root\n",
    "kernel": "Linux\n",
    "os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    "files": DEBIAN_FILES,
    "sendmail-link": "/usr/libexec/sendmail/sendmail\n",
    "identity": IDENTITY,
    "pid-file-option": "",
    "pid-file": "117\n/usr/sbin/sendmail-mta -Am -L sm-mta -bd -q10m",
    "drift": "same\n17 300\n18 200\n",
    "interrupted": "",
    "real-paths": "mc\t/etc/mail/sendmail.mc\ncf\t/etc/mail/sendmail.cf\n",
    "m4": "/usr/bin/m4\n",
    "openssl-path": "/usr/bin/openssl\n",
    "openssl-version": "OpenSSL 3.0.18\n",
}


def test_identity_is_read_whole() -> None:
    """Flags of continuation lines count, the operating system's do not, and the selected files win."""
    identity = parse_identity(IDENTITY)
    assert identity is not None
    assert identity.version == (8, 17, 1, 9)
    assert {"DNSMAP", "STARTTLS", "XDEBUG"} <= identity.compiled_with
    assert "HASFLOCK" not in identity.compiled_with
    assert identity.canonical_name == "relay.example.test"
    assert (identity.cf, identity.submit_cf) == ("/etc/mail/sendmail.cf", "/etc/mail/submit.cf")
    assert identity.pid_file == "/var/run/sendmail/mta/sendmail.pid"


def test_debian_is_proved() -> None:
    """Debian's layout has no remarks and knows how to build, reload and log."""
    layout = read_layout("relay", DEBIAN)
    assert (layout.profile, layout.proved, layout.remarks) == ("Debian", True, ())
    assert layout.starttls
    assert layout.build.m4_argv == ("m4", "/etc/mail/sendmail.mc")
    assert (layout.service.kind, layout.service.reload) == ("sysv", "hup")
    assert layout.daemon_argv[0] == "/usr/sbin/sendmail-mta"
    assert layout.log.path == "/var/log/mail.log"


def test_without_a_log_file_the_journal_is_read() -> None:
    """A host with systemd's journal and no mail.log logs to the journal."""
    layout = read_layout("relay", DEBIAN | {"files": DEBIAN_FILES + "/run/systemd/journal\n/run/systemd/system\n"})
    assert layout.log.path == ""
    assert layout.service.kind == "systemd"


@pytest.mark.parametrize(
    ("answers", "profile", "build_argv", "service", "log"),
    [
        (
            {
                "os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nPRETTY_NAME="Rocky Linux 9.5"\n',
                "files": RED_HAT_FILES,
            },
            "Red Hat",
            ("m4", "/etc/mail/sendmail.mc"),
            "sendmail.service",
            "/var/log/maillog",
        ),
        (
            {
                "os-release": 'ID=fedora\nPRETTY_NAME="Fedora Linux 43"\n',
                "files": RED_HAT_FILES,
            },
            "Fedora",
            ("m4", "/etc/mail/sendmail.mc"),
            "sendmail.service",
            "/var/log/maillog",
        ),
        (
            {
                "kernel": "SunOS\n",
                "os-release": "",
                "files": "/usr/lib/sendmail\n/etc/mail/cf/cf/sendmail.mc\n/etc/mail/cf/m4/cf.m4\n/usr/sbin/svcadm\n",
                "real-paths": "mc\t/etc/mail/cf/cf/sendmail.mc\n",
            },
            "Solaris",
            ("/usr/ccs/bin/m4", "-D_CF_DIR_=/etc/mail/cf/", "/etc/mail/cf/m4/cf.m4", "/etc/mail/cf/cf/sendmail.mc"),
            "svc:/network/smtp:sendmail",
            "/var/log/syslog",
        ),
    ],
)
def test_other_profiles_are_marked_as_not_proved(
    answers: dict[str, str], profile: str, build_argv: tuple[str, ...], service: str, log: str
) -> None:
    """Red Hat, Fedora and Solaris are known as data, and say that no real host has proved them."""
    layout = read_layout("mail1", DEBIAN | answers)
    assert (layout.profile, layout.proved) == (profile, False)
    assert "not yet proved" in layout.remarks[0]
    assert layout.build.m4_argv == build_argv
    assert (layout.service.name, layout.service.reload) == (service, "restart")
    assert layout.log.path == log


def test_a_distribution_made_from_debian_uses_its_profile_unproved() -> None:
    """Ubuntu is like Debian, but was not tried."""
    layout = read_layout("mail1", DEBIAN | {"os-release": 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04"\n'})
    assert (layout.profile, layout.proved) == ("Debian", False)


def test_an_unknown_system_is_refused_by_name() -> None:
    """Nothing is guessed from files that happen to be there."""
    with pytest.raises(NotReady, match=r"Alpine Linux v3\.20"):
        choose_profile(parse_os_release('ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"'), "Linux")


def test_without_starttls_is_named_with_the_cure() -> None:
    """A sendmail built without STARTTLS is refused with what to install and what to build."""
    with pytest.raises(NotReady, match=r"8\.17\.1\.9 was built without STARTTLS") as caught:
        read_layout("relay", DEBIAN | {"identity": IDENTITY.replace(" STARTTLS", "")})
    assert "-DSTARTTLS" in caught.value.do
    assert "-lssl -lcrypto" in caught.value.do
    assert "apt-get install sendmail" in caught.value.do


# What each prints for `sendmail -d0.10 -bt`, from Debian bookworm's packages.
@pytest.mark.parametrize(
    ("link", "files", "printed", "name"),
    [
        ("/usr/sbin/sendmail", "/usr/sbin/postfix\n", "sendmail: invalid option -- 'd'\n", "Postfix"),
        (
            "/usr/sbin/exim4",
            "/usr/sbin/exim4\n",
            'exim: malformed debug_selector setting: + or - expected but found "0.10"\n',
            "Exim",
        ),
        ("/usr/bin/msmtp", "/usr/bin/msmtp\n", "sendmail: unsupported operation mode bt\n", "msmtp"),
    ],
)
def test_another_mail_server_is_named(link: str, files: str, printed: str, name: str) -> None:
    """Another program behind /usr/sbin/sendmail is not mistaken for sendmail."""
    answers = DEBIAN | {"sendmail-link": link, "files": DEBIAN_FILES + files, "identity": printed}
    with pytest.raises(NotReady, match=f"is not sendmail but {name}"):
        read_layout("relay", answers)


@pytest.mark.parametrize(
    ("missing", "message", "cure"),
    [
        ({"files": "", "identity": "sh: sendmail: not found\n"}, "there is no /usr/sbin/sendmail", "apt-get"),
        ({"files": DEBIAN_FILES.replace("/etc/mail/sendmail.mc\n", "")}, "no /etc/mail/sendmail.mc", "write /etc"),
        ({"files": DEBIAN_FILES.replace("/usr/share/sendmail/cf/m4/cf.m4\n", "")}, "cf.m4 is missing", "sendmail-cf"),
        ({"m4": ""}, "m4 is missing", "sendmail-cf m4"),
        ({"openssl-path": ""}, "openssl command is missing", "install the package openssl"),
        ({"uid": "1000\n", "user": "ops\n"}, "as ops, not as root", "sudo=yes"),
    ],
)
def test_what_is_missing_is_named_with_its_cure(missing: dict[str, str], message: str, cure: str) -> None:
    """Each missing thing is one clear error."""
    with pytest.raises(NotReady, match=message) as caught:
        read_layout("relay", DEBIAN | missing)
    assert cure in caught.value.do
    assert caught.value.left == "nothing was touched"


def test_a_name_without_domain_and_an_unusual_cf_are_remarked_on() -> None:
    """The operator learns of the 60 seconds that sendmail waits for its own name."""
    identity = IDENTITY.replace("Canonical name: relay.example.test", "Canonical name: relay")
    layout = read_layout("relay", DEBIAN | {"identity": identity, "real-paths": "cf\t/srv/mail/sendmail.cf\n"})
    assert any("60 s" in remark for remark in layout.remarks)
    assert any("/srv/mail/sendmail.cf" in remark for remark in layout.remarks)


def test_an_interrupted_change_and_a_drifted_cf_are_seen() -> None:
    """Both are in the layout, so that a plan is not made on top of them."""
    layout = read_layout("relay", DEBIAN | {"drift": "differs\n17 300\n18 200\n", "interrupted": "0001\n"})
    assert layout.drifted
    assert (layout.cf_checksum, layout.built_checksum) == ("17 300", "18 200")
    assert layout.interrupted


def test_pid_file() -> None:
    """Line 1 is the pid, line 2 the command; anything else is no pid file."""
    assert parse_pid_file("117\n/usr/sbin/sendmail-mta -Am -bd") == (117, ("/usr/sbin/sendmail-mta", "-Am", "-bd"))
    assert parse_pid_file("117\n") == (117, ())
    assert parse_pid_file("") is None
    assert parse_pid_file("garbage\n") is None
