"""A relay to change, a certificate to put into service, and instruments that the code under test did not write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import Unreachable
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.sendmail.mc import cf_options, tls_settings, with_managed_block
from mailtls_nb.testbed import Testbed

CERT_DIR = "/etc/mail/certs"
BUNDLE = f"{CERT_DIR}/relay.example.test.pem"
SETTINGS = tls_settings(roles="both", certificate=BUNDLE, ca_certificate=BUNDLE, ca_path=CERT_DIR)

_MAKE_BUNDLE = """
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=relay.example.test \
    -set_serial "$2" -keyout "$1.key" -out "$1.cert" 2>/dev/null
cat "$1.cert" "$1.key" >"$1"
rm -f "$1.key" "$1.cert"
"""

_SERIAL = """
openssl s_client -connect 127.0.0.1:25 -starttls smtp </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null
"""

_GREETING = """
for i in 1 2 3 4 5 6 7 8 9 10; do
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/25 && head -n 1 <&3' 2>/dev/null && break
    sleep 0.2
done
"""

# Name, mode, owner and (files only) time and content of all that a change may touch. Debian's init script writes the
# Makefile and the list of databases anew at each start.
_SNAPSHOT = r"""
cd /
find etc/mail -exec stat -c '%n %F %a %U:%G' {} + | sort
find etc/mail -type f ! -name Makefile ! -name databases -exec stat -c '%n %Y' {} + | sort
find etc/mail -type f ! -name Makefile ! -name databases -exec sha256sum {} + | sort
ls -A var/lib/mailtls-nb 2>/dev/null | grep -v '^guard$'
"""


@dataclass(frozen=True)
class Relay:
    """The host under change, with its layout and what tells how it stands."""

    host: Host
    layout: Layout
    cert_dir: str = CERT_DIR
    bundle: str = BUNDLE

    def sh(self, script: str, *arguments: str) -> str:
        """A command of the test's own on the host."""
        return self.host.run(["sh", "-c", script, "sh", *arguments], timeout_s=60).text

    def snapshot(self) -> list[str]:
        """Everything under /etc/mail, and what a run left of its own."""
        return self.sh(_SNAPSHOT).splitlines()

    def serial(self) -> str:
        """The serial number on port 25 by openssl; empty when no TLS is spoken there."""
        return self.sh(_SERIAL).strip()

    def greeting(self) -> str:
        """What the mail server says first, waited for as long as a reload takes it off the port."""
        return self.sh(_GREETING)

    def state(self) -> list[str]:
        """Greeting, serial and snapshot by one command."""
        state = self.sh(f"({_GREETING}) | cut -c1-4\nserial=`{_SERIAL}`; echo $serial\n{_SNAPSHOT}").splitlines()
        assert len(state) > 50, "the instrument itself is broken"
        return state

    def pid(self) -> str:
        """The daemon's pid by its pid file."""
        return self.sh("head -n 1 /var/run/sendmail/mta/sendmail.pid").strip()

    def install(self, host: Host, serial: int, then: Callable[[], None] = lambda: None) -> None:
        """What the issue runbook does on a host, with a certificate signed by itself."""
        mc = host.read(self.layout.mc)
        assert mc is not None
        with Transaction(host, self.layout) as change:
            change.make_directory(CERT_DIR, mode=0o700, owner="root:root")
            change.run(["sh", "-c", _MAKE_BUNDLE, "sh", BUNDLE, str(serial)], changes=[BUNDLE]).check("making a bundle")
            change.write(self.layout.mc, with_managed_block(mc, SETTINGS), mode=0o644, owner="root:smmsp")
            change.build(cf_options(SETTINGS))
            change.reload()
            then()

    def uninstall(self) -> None:
        """Back to a mail server without TLS."""
        mc = self.host.read(self.layout.mc)
        assert mc is not None
        with Transaction(self.host, self.layout) as change:
            change.write(self.layout.mc, with_managed_block(mc, {}), mode=0o644, owner="root:smmsp")
            change.build({})
            change.reload()
        self.sh(f"rm -rf {CERT_DIR}")


@pytest.fixture(scope="module")
def relay(pristine: Testbed) -> Relay:
    """The testbed's relay, without the second that greet_pause takes from each trial of a configuration."""
    host = pristine.host("relay")
    host.run(["sed", "-i", "s/`greet_pause', `1000'/`greet_pause', `0'/", "/etc/mail/sendmail.mc"], timeout_s=10)
    host.run(["make", "-s", "-C", "/etc/mail"], timeout_s=60)
    host.run(["sh", "-c", "kill -HUP `head -n 1 /var/run/sendmail/mta/sendmail.pid`; sleep 0.5"], timeout_s=10)
    return Relay(host, observe_layout(host))


@pytest.fixture
def relay_of() -> Callable[[Host], Relay]:
    """The same for another host, as it is."""
    return lambda host: Relay(host, observe_layout(host))


@pytest.fixture
def installed(relay: Relay) -> None:
    """A test begins with certificate 1 in service, whatever the test before left."""
    if relay.serial() != "serial=01":
        relay.install(relay.host, 1)


@pytest.fixture
def unchanged(relay: Relay, installed: None) -> Iterator[None]:
    """The test must leave files, modes, owners, times and the certificate on the port as they are, and no rest."""
    before = relay.snapshot()
    yield
    assert relay.snapshot() == before
    assert relay.serial() == "serial=01"
    assert relay.greeting().startswith("220 ")


class Breaking:
    """A host whose transport fails after ``at`` commands, for good or ``times`` times; that one may run unanswered."""

    def __init__(self, host: Host, *, at: int, times: int = 10**6, runs: bool = False) -> None:
        self._host = host
        self._good = at
        self._bad = times
        self._runs = runs

    @property
    def name(self) -> str:
        return self._host.name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        if self._good == 0 and self._bad > 0:
            self._bad -= 1
            if self._runs:
                self._host.run(argv, stdin=stdin, timeout_s=timeout_s)
            raise Unreachable("the network is down")
        self._good = max(0, self._good - 1)
        return self._host.run(argv, stdin=stdin, timeout_s=timeout_s)

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        return self._host.stream(argv, take, timeout_s=timeout_s)

    def read(self, path: str) -> bytes | None:
        return self._host.read(path)

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        self._host.write(path, data, mode=mode, owner=owner)


@pytest.fixture
def breaking(relay: Relay) -> Callable[..., Host]:
    """The relay whose connection breaks: at its n-th command, see ``Breaking``."""
    return lambda **when: Breaking(relay.host, **when)
