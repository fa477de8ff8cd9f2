"""The testbed itself: brought up, healed, put back to pristine, taken down."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.errors import SetUpError
from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.secret import Secret
from mailtls_nb.testbed.engine import Engine, find_engine
from mailtls_nb.testbed.images import ensure_guest_image, ensure_image
from mailtls_nb.testbed.lock import locked
from mailtls_nb.testbed.progress import say

HOSTS = ("relay", "partner", "stranger")
# Hosts with another mail server, each by its Debian package. They come up one by one, when asked for.
GUESTS = {"postfix": "postfix", "exim": "exim4-daemon-light"}
DOMAIN = "example.test"

_LABEL = "mailtls-nb.testbed"
# A digest of all that a container was made from: one that was made from something else is replaced.
_MADE_FROM = "mailtls-nb.made-from"
_FIRST_ADDRESS = 11
_READY_TIMEOUT_S = 30
_FILES = "/usr/local/lib/testbed"


@dataclass(frozen=True)
class HostState:
    """What is seen of one host of the testbed. ``problem`` is empty when it does its work."""

    name: str
    address: str
    problem: str


@dataclass(frozen=True)
class _Container:
    name: str
    state: str
    made_from: str


class Testbed:
    """Three mail hosts in containers, guests where asked for, the directory of their CA and its passphrase.

    All of it belongs to ``state_dir``: another directory is another testbed. ``release`` is a Debian release's code
    name. Methods raise SetUpError where the engine cannot do its work.
    """

    __test__ = False  # the name is not meant for pytest

    def __init__(self, state_dir: Path, release: str = "bookworm", engine: Engine | None = None) -> None:
        self.state_dir = state_dir.resolve()
        self.release = release
        self.identity = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:8]
        self.ca_dir = self.state_dir / "ca"
        # The CA of the partner's organisation: see mailtls_nb.testbed.organisation.
        self.partner_ca_dir = self.state_dir / "partner-ca"
        self._engine = engine

    @classmethod
    def of_checkout(cls) -> Testbed:
        """The testbed of $MAILTLS_TESTBED, else of the checkout this package runs from, else of the user."""
        named = os.environ.get("MAILTLS_TESTBED")
        if named:
            return cls(Path(named))
        checkout = Path(__file__).resolve().parents[2]
        if (checkout / "runbooks").is_dir() and (checkout / "pyproject.toml").is_file():
            return cls(checkout / ".testbed")
        return cls(Path.home() / ".local/state/mailtls-nb/testbed")

    @property
    def engine(self) -> Engine:
        """The engine the containers run on; found, never installed."""
        if self._engine is None:
            self._engine = find_engine(install=False)
        return self._engine

    def prepare(self) -> None:
        """Find, start or install the engine and build the image: what takes minutes the first time, no host yet."""
        if self._engine is None:
            self._engine = find_engine(install=True)
        ensure_image(self._engine, self.release)

    def up(self, *, ready_timeout_s: int = _READY_TIMEOUT_S) -> None:
        """Bring the testbed up, building the image and putting left-overs right where needed; then it is ready."""
        with self._locked():
            self._up(ready_timeout_s)

    def down(self) -> None:
        """Remove the containers, the network, the CAs and the passphrase of this testbed."""
        with self._locked():
            self._remove_containers()
            for network in self._networks():
                self.engine.run("network", "rm", network, doing="removing the testbed's network")
            self._remove_cas()
            self._passphrase_path.unlink(missing_ok=True)

    def reset(self) -> None:
        """Put all hosts back to pristine and remove the CA directories; the passphrase stays."""
        with self._locked():
            self._remove_containers()
            self._remove_cas()
            self._up(_READY_TIMEOUT_S)

    def guest(self, name: str) -> Host:
        """One of GUESTS, brought up where it is not yet; its name and address are known to all hosts from the start.

        It stays until a reset, and goes with the testbed.
        """
        with self._locked():
            self._up(_READY_TIMEOUT_S, (name,), guest_package=GUESTS[name])
        return self.host(name)

    def status(self) -> tuple[HostState, ...]:
        """What is there now, without changing anything."""
        network = self._networks().get(self._network_name)
        containers = self._containers()
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            return tuple(
                pool.map(
                    lambda name: HostState(
                        f"{name}.{DOMAIN}",
                        self._addresses(network)[name] if network else "",
                        self._problem(name, containers.get(self.container_name(name))),
                    ),
                    HOSTS,
                )
            )

    def host(self, name: str) -> Host:
        """One of HOSTS or GUESTS, to run commands on and to read and write files of; it need not be up."""
        return ContainerHost(engine_argv=self.engine.argv, container=self.container_name(name), name=f"testbed:{name}")

    def container_name(self, name: str) -> str:
        """The name by which the engine knows a host's container."""
        if name not in (*HOSTS, *GUESTS):
            raise SetUpError(f"the testbed has no host {name}", do=f"name one of {', '.join(HOSTS)}")
        return f"mailtls-nb-{self.identity}-{name}"

    def address(self, name: str) -> str:
        """A host's IPv4 address. It stays the same until the testbed is taken down."""
        network = self._networks().get(self._network_name)
        self.container_name(name)
        if network is None:
            raise SetUpError("the testbed is not up", do="bring it up: mailtls-nb testbed up")
        return self._addresses(network)[name]

    def passphrase(self) -> Secret:
        """The passphrase of the testbed's CA, made at the first call; good for nothing else."""
        path = self._passphrase_path
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_name(f"passphrase.{secrets.token_hex(4)}")
            fresh.touch(mode=0o600, exist_ok=False)
            fresh.write_text(secrets.token_urlsafe(24))
            with contextlib.suppress(FileExistsError):  # another process was first: its passphrase holds
                os.link(fresh, path)
            fresh.unlink()
        return Secret(path.read_bytes())

    def hosts_lines(self) -> tuple[str, ...]:
        """What every host's name server knows to begin with: one line, address and name, for each host."""
        network = self._networks().get(self._network_name)
        if network is None:
            raise SetUpError("the testbed is not up", do="bring it up: mailtls-nb testbed up")
        return self._hosts_lines(network)

    def set_dns(self, name: str, hosts_lines: Sequence[str], extra_conf: Sequence[str] = ()) -> None:
        """Change what one host's own name server knows; a reset puts it back.

        ``hosts_lines`` replace the lines of ``hosts_lines()`` (``ADDRESS NAME``: forward and reverse); ``extra_conf``
        are dnsmasq's options without dashes, such as ``mx-host=partner.example.test,relay.example.test,10``.
        """
        host = self.host(name)
        for path, lines in (("hosts", hosts_lines), ("dns.d/extra.conf", extra_conf)):
            content = "".join(f"{line}\n" for line in lines).encode()
            host.write(f"/etc/testbed/{path}", content, mode=0o644, owner="root:root")
        host.run([f"{_FILES}/names"], timeout_s=20).check("changing the names that the host knows")

    # -- how it is done

    @property
    def _passphrase_path(self) -> Path:
        return self.state_dir / "passphrase"

    @property
    def _network_name(self) -> str:
        return f"mailtls-nb-{self.identity}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self.state_dir / "lock", f"works on the testbed of {self.state_dir}"):
            yield

    def _up(self, ready_timeout_s: int, names: Sequence[str] = HOSTS, *, guest_package: str = "") -> None:
        if self._engine is None:
            self._engine = find_engine(install=True)
        if guest_package:
            image = ensure_guest_image(self._engine, self.release, guest_package)
        else:
            image = ensure_image(self._engine, self.release)
        network = self._networks().get(self._network_name) or self._make_network()
        containers = self._containers()
        with ThreadPoolExecutor(len(names)) as pool:
            list(
                pool.map(
                    lambda name: self._bring_up(name, containers.get(self.container_name(name)), image, network), names
                )
            )
            problems = list(pool.map(lambda name: self._not_ready(name, wait_s=ready_timeout_s), names))
        for name, problem in zip(names, problems, strict=True):
            if problem:
                raise SetUpError(
                    f"the testbed's {name} does not come up: {problem}\n{self._last_log_lines(name)}",
                    do="start afresh: mailtls-nb testbed down, then mailtls-nb testbed up",
                )

    def _bring_up(self, name: str, found: _Container | None, image: str, network: str) -> None:
        container = self.container_name(name)
        made_from = self._made_from(image, network)
        usable = found is not None and found.made_from == made_from and found.state == "running"
        if found is not None and found.made_from == made_from and found.state == "exited":
            # What was done on the host is kept over a restart of the engine or the machine.
            usable = self.engine.attempt("start", container).returncode == 0
        if not usable:
            self.engine.attempt("rm", "-f", container)
            self.engine.run(
                *("run", "-d", "--name", container, "--hostname", f"{name}.{DOMAIN}"),
                *("--network", self._network_name, "--ip", self._addresses(network)[name]),
                *("--label", f"{_LABEL}={self.identity}", "--label", f"{_MADE_FROM}={made_from}"),
                *("--label", f"mailtls-nb.release={self.release}"),
                *("--env", "TESTBED_HOSTS=" + "\n".join(self._hosts_lines(network)), image),
                doing=f"starting {name}",
            )

    def _not_ready(self, name: str, *, wait_s: int) -> str:
        completed = self.engine.attempt(
            "exec", self.container_name(name), f"{_FILES}/ready", str(wait_s), timeout_s=wait_s + 20
        )
        return "" if completed.returncode == 0 else completed.stderr.strip() or f"status {completed.returncode}"

    def _problem(self, name: str, found: _Container | None) -> str:
        if found is None:
            return "not there"
        if found.state != "running":
            return found.state
        return self._not_ready(name, wait_s=0)

    def _last_log_lines(self, name: str) -> str:
        container = self.container_name(name)
        printed = self.engine.attempt("logs", "--tail", "10", container)
        mail = self.engine.attempt("exec", container, "tail", "-n", "10", "/var/log/mail.log")
        return (printed.stdout + printed.stderr + mail.stdout).strip()

    def _made_from(self, image: str, network: str) -> str:
        return hashlib.sha256("\n".join((image, *self._hosts_lines(network))).encode()).hexdigest()[:16]

    def _containers(self) -> dict[str, _Container]:
        ids = self.engine.run("ps", "-aq", "--filter", f"label={_LABEL}={self.identity}", doing="listing containers")
        if not ids:
            return {}
        found = self.engine.inspect("container", *ids.split(), doing="looking at the testbed's containers")
        containers = (
            # Docker's names begin with a slash, Podman's do not.
            _Container(data["Name"].lstrip("/"), data["State"]["Status"], data["Config"]["Labels"].get(_MADE_FROM, ""))
            for data in found
        )
        return {container.name: container for container in containers}

    def _remove_containers(self) -> None:
        names = list(self._containers())
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            list(pool.map(lambda name: self.engine.run("rm", "-f", name, doing="removing a container"), names))

    def _remove_cas(self) -> None:
        # The CA that follows ours lies beside it, under a name that begins with its name.
        for directory in (self.ca_dir, *self.state_dir.glob(f"{self.ca_dir.name}-*"), self.partner_ca_dir):
            shutil.rmtree(directory, ignore_errors=True)

    def _networks(self) -> dict[str, str]:
        """The testbed's networks by name, each with its subnet (empty where it has none)."""
        ids = self.engine.run(
            "network", "ls", "-q", "--filter", f"label={_LABEL}={self.identity}", doing="listing networks"
        )
        if not ids:
            return {}
        networks = {}
        for data in self.engine.inspect("network", *ids.split(), doing="looking at the testbed's network"):
            if "IPAM" in data:  # Docker
                networks[data["Name"]] = next((pool["Subnet"] for pool in data["IPAM"]["Config"] or ()), "")
            else:  # Podman
                networks[data["name"]] = next((pool["subnet"] for pool in data.get("subnets") or ()), "")
        return networks

    def _make_network(self) -> str:
        """Make the network and return its subnet.

        Fixed addresses are allowed only in a subnet that was named. So a network is made to see which subnet the
        engine would take, and made again with that one named. Another network may take it in between: hence more tries.
        """
        label = ("--label", f"{_LABEL}={self.identity}")
        probe = f"{self._network_name}-probe"
        say(f"making the network {self._network_name}")
        for _ in range(5):
            self.engine.attempt("network", "rm", probe)
            self.engine.run("network", "create", *label, probe, doing="making the testbed's network")
            subnet = self._networks()[probe]
            self.engine.run("network", "rm", probe, doing="making the testbed's network")
            made = self.engine.attempt("network", "create", *label, "--subnet", subnet, self._network_name)
            if made.returncode == 0:
                return subnet
        raise SetUpError(f"the engine makes no network: {made.stderr.strip()}")

    def _addresses(self, network: str) -> dict[str, str]:
        first = ipaddress.ip_network(network)[_FIRST_ADDRESS]
        return {name: str(first + position) for position, name in enumerate((*HOSTS, *GUESTS))}

    def _hosts_lines(self, network: str) -> tuple[str, ...]:
        return tuple(f"{address} {name}.{DOMAIN}" for name, address in self._addresses(network).items())
