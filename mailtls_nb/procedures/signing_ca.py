"""The CA that a runbook signs with: its directory and the reference to its passphrase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.parameters import absolute_path
from mailtls_nb.pki.clock import refuse_clock_behind
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.revoking import newest_crl
from mailtls_nb.pki.succession import signing_directory
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.secret import SecretReference
from mailtls_nb.testbed import Testbed

_TESTBED = "testbed"


@dataclass(frozen=True)
class SigningCA:
    """``directory`` is a path, or ``testbed`` for the testbed's own CA.

    ``follows``: where another CA has taken over from it, that one signs.
    """

    directory: str
    passphrase: SecretReference
    follows: bool = True

    @classmethod
    def parse(cls, ca_dir: str, ca_passphrase: str) -> SigningCA:
        """Check the two parameters; the testbed's passphrase is good for the testbed's CA only."""
        passphrase = SecretReference.parse("ca_passphrase", ca_passphrase)
        if ca_dir == _TESTBED:
            return cls(_TESTBED, passphrase)
        directory = absolute_path("ca_dir", ca_dir)
        if passphrase.kind == "testbed":
            raise BadParameter(
                "ca_passphrase",
                f"testbed is the passphrase of the testbed's own CA, not of {directory}",
                do="give env:NAME, file:PATH or prompt",
            )
        return cls(str(directory), passphrase)

    @property
    def is_testbed(self) -> bool:
        return self.directory == _TESTBED

    def remarks(self) -> tuple[str, ...]:
        """What the operator should know of how the passphrase is kept."""
        if self.passphrase.kind != "file":
            return ()
        mode = Path(self.passphrase.where).stat().st_mode & 0o777
        return (f"{self.passphrase.where} can be read by others (mode {mode:04o}).",) if mode & 0o077 else ()

    def named(self, testbed: Callable[[], Testbed]) -> Path:
        """The CA directory on this machine that was named."""
        return directory_here(self.directory, testbed)

    def path(self, testbed: Callable[[], Testbed]) -> Path:
        """The CA directory that signs: the one named, or the one that has taken over from it (09-replace-ca).

        Raises CADirectoryError.
        """
        named = self.named(testbed)
        return signing_directory(named) if self.follows and named.is_dir() else named


def refuse_clock_behind_ca(context: Context, directory: CADirectory, *, revokes: bool = False) -> None:
    """Raise NotReady where this machine's clock lies before what the CA has signed already.

    A certificate that was signed too far ahead is no reason not to revoke it.
    """
    refuse_clock_behind(
        context.now(),
        ca=directory.ca_certificate,
        newest=None if revokes else directory.newest_certificate(),
        crl=newest_crl(directory),
        where=str(directory.path),
    )


def open_ready_ca(context: Context, ca: SigningCA, path: Path, *, do: str, revokes: bool = False) -> CADirectory:
    """The CA at ``path``, ready to sign: its key opens, and the clock is not behind what it has signed.

    ``do`` says what to do where there is none. Raises NotReady, BadParameter(ca_passphrase), CADirectoryError.
    """
    if not path.is_dir():
        raise NotReady(f"there is no CA at {path}", left="nothing was touched", do=do)
    directory = CADirectory.open(path)
    # A wrong passphrase is found now, not after something was changed.
    directory.signing_key(context.secret(ca.passphrase))
    refuse_clock_behind_ca(context, directory, revokes=revokes)
    return directory


def open_signing_ca(context: Context, ca: SigningCA) -> CADirectory:
    """The CA that signs for whoever names this one; raises NotReady where there is none, and CADirectoryError."""
    named, path = ca.named(context.testbed), ca.path(context.testbed)
    if not path.is_dir():
        raise NotReady(
            f"there is no CA at {path}",
            left="nothing was touched",
            do="make it with the runbook 01-create-ca first"
            if path == named
            else f"put back the directory that follows {named}: 09-replace-ca has written its name there",
        )
    directory = CADirectory.open(path)
    if path == named:
        return directory
    remark = f"The CA in {named} was replaced: the one in {path} signs now."
    return replace(directory, remarks=(*directory.remarks, remark))


def directory_here(ca_dir: str, testbed: Callable[[], Testbed]) -> Path:
    """The directory that the parameter ca_dir names: a path, or ``testbed`` for the testbed's own."""
    return testbed().ca_dir if ca_dir == _TESTBED else Path(ca_dir)
