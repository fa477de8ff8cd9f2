"""The steps of 03 from what is there to what is wished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.trust_store import StoredFile
from mailtls_nb.pki.certificates import fingerprint, is_issued_by, key_info
from mailtls_nb.pki.partner_crl import check_not_older
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.configuration import configuration_steps
from mailtls_nb.procedures.healing import heal_step
from mailtls_nb.procedures.trust.demanded import rules_that_need
from mailtls_nb.procedures.trust.observation import TrustBefore, offered_fingerprints
from mailtls_nb.procedures.trust.wish import TrustWish
from mailtls_nb.sendmail.access.entries import Entry
from mailtls_nb.sendmail.mc import managed_settings

RUNBOOK = "03-trust-partner"
_UNTOUCHED = "nothing was touched"


def trust_plan(wish: TrustWish, before: TrustBefore) -> Plan:
    """The plan; empty when the CA is trusted, or is not, as wished. Raises NotReady and CertificateRefused."""
    rests_on = {"sendmail": before.host.layout.version_text, "offered": offered_fingerprints(before.offered)}
    if before.host.layout.interrupted:
        return Plan(RUNBOOK, wish.as_data(), (heal_step(str(wish.host)),), rests_on)
    planned = _planned(wish, before)
    steps = [*planned.files_and_links(), *planned.configuration()]
    if any(step.action == "build" for step in steps) or planned.needs_reload:
        steps.append(_reload(wish, before))
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), rests_on)


def wished_settings(wish: TrustWish, before: TrustBefore) -> dict[str, str]:
    """The settings of the managed block after the change."""
    return _planned(wish, before).wished_settings()


class _Planned:
    """What both ways have in common."""

    def __init__(self, wish: TrustWish, before: TrustBefore) -> None:
        self.wish, self.before = wish, before
        self.host, self.where = before.host, str(wish.host)
        self.owner = before.host.layout.cert_owner
        # Hash directories are read at each handshake; a CRLFile only when the daemon starts.
        self.needs_reload = False

    def wished_settings(self) -> dict[str, str]:
        return managed_settings(self.host.mc, name=self.host.layout.mc) or {}

    def configuration(self) -> list[Step]:
        settings, look = self.wished_settings(), self.host
        if settings == (managed_settings(look.mc, name=look.layout.mc) or {}):
            return []
        return configuration_steps(self.where, look.layout, settings, mc=look.mc, mc_status=look.mc_status, cf=look.cf)


class _Trust(_Planned):
    """Trusting it: files before the links that lead to them."""

    def files_and_links(self) -> list[Step]:
        if self.before.revoked:
            raise NotReady(
                f"the CRL revokes the certificate that {self.wish.partner} shows on port 25: its mail would be refused",
                left=_UNTOUCHED,
                do="ask the partner whether it has been compromised, and for a new certificate",
            )
        look, missing = self.host, self.host.missing(self.before.offered.certificates)
        if look.store.ca_file is None:
            raise NotReady(
                f"sendmail on {self.wish.host} has no CACertFile ({look.ca_file or 'not set'}): without one it does "
                "not look into CACertPath either, and verifies nobody",
                left=_UNTOUCHED,
                do="put a certificate into service first, with the runbook 02-issue-certificate",
            )
        steps: list[Step] = []
        crls = self.before.offered.crls
        if missing or crls:
            steps += store_steps.directory(self.where, look.store.ca_path, owner=self.owner)
        for certificate in missing:
            name = self.wish.file_name(fingerprint(certificate), "pem")
            content = certificate.public_bytes(Encoding.PEM)
            steps += store_steps.file(
                self.where,
                look.store.ca_path,
                name,
                content,
                f"the CA certificate {_shown(certificate)}",
                owner=self.owner,
            )
        for name_hash in dict.fromkeys(look.hash_of(c) for c in self.before.offered.certificates):
            added = [
                self.wish.file_name(fingerprint(certificate), "pem")
                for certificate in missing
                if look.hash_of(certificate) == name_hash
            ]
            steps += store_steps.links(self.where, look.store.ca_path, name_hash, "ca", add=added)
        if crls and not look.knows_crl_path:
            self._refuse_second_crl()
        if crls and look.crl_directory is not look.store.ca_path:
            steps += store_steps.directory(self.where, look.crl_directory, owner=self.owner)
        for ca, crl in crls:
            steps += self._crl(ca, crl)
        return steps

    def wished_settings(self) -> dict[str, str]:
        settings, look = super().wished_settings(), self.host
        if look.missing(self.before.offered.certificates) and "CACertPath" not in look.options:
            settings |= {"confCACERT_PATH": look.ca_path}
        for ca, _ in self.before.offered.crls:
            if not look.knows_crl_path:
                settings |= {"confCRL": f"{look.ca_path}/{self.wish.file_name(fingerprint(ca), 'crl')}"}
            elif "CRLPath" not in look.options:
                settings |= {"confCRL_PATH": look.crl_directory.path}
        return settings

    def _crl(self, ca: x509.Certificate, crl: x509.CertificateRevocationList) -> list[Step]:
        look = self.host
        directory = look.crl_directory
        there = next((old for old in (*directory.crls, *_crls_in_use(look.store.crl_file)) if _same_ca(old, crl)), None)
        if there is not None and there != crl:
            check_not_older(there, crl, where=self.wish.partner_crl)
        name = self.wish.file_name(fingerprint(ca), "crl")
        what = f"the CRL of {openssl_dn(crl.issuer)}"
        steps = store_steps.file(self.where, directory, name, crl.public_bytes(Encoding.PEM), what, owner=self.owner)
        if look.knows_crl_path:
            steps += store_steps.links(self.where, directory, look.hash_of(ca), "crl", add=[name])
        else:
            self.needs_reload = bool(steps)
        return steps

    def _refuse_second_crl(self) -> None:
        look, crls = self.host, self.before.offered.crls
        in_use = look.options.get("CRLFile", "")
        ours = f"{look.ca_path}/{self.wish.file_name(fingerprint(crls[0][0]), 'crl')}"
        if len(crls) > 1 or in_use not in ("", ours):
            raise NotReady(
                f"sendmail {look.layout.version_text} on {self.wish.host} knows no CRLPath (8.16.1 and later do), and "
                f"of a CRLFile it reads the first CRL only: {in_use or 'one file for several CAs'} is not enough",
                left=_UNTOUCHED,
                do="trust the CA without its CRL (leave partner_crl empty), or upgrade sendmail",
            )


class _Untrust(_Planned):
    """Taking it away: links before the files that they lead to."""

    def files_and_links(self) -> list[Step]:
        look, offered = self.host, self.before.offered
        self._refuse_what_stays()
        self._refuse_what_rules_need()
        steps: list[Step] = []
        for name_hash in dict.fromkeys(look.hash_of(certificate) for certificate in offered.certificates):
            drop = [entry.name for c in offered.certificates for entry in look.entries_of(c) if entry.hash == name_hash]
            if drop:
                store_steps.refuse_writable(self.where, look.store.ca_path)
                steps += store_steps.links(self.where, look.store.ca_path, name_hash, "ca", drop=drop)
            steps += self._crl_links(name_hash)
        # Last, since a link to a file that is gone hides those behind it.
        return [*steps, *self._files()]

    def wished_settings(self) -> dict[str, str]:
        """Without a CRLFile that goes."""
        settings = super().wished_settings()
        gone = {step.target for step in self._files()}
        return {name: value for name, value in settings.items() if name != "confCRL" or value not in gone}

    def _crl_links(self, name_hash: str) -> Iterator[Step]:
        directory = self.host.crl_directory
        drop = [entry.name for entry in directory.entries if entry.kind == "crl" and self._is_offered_ones(entry.crls)]
        of_hash = [name for name in drop if name.startswith(f"{name_hash}.")]
        if of_hash:
            yield from store_steps.links(self.where, directory, name_hash, "crl", drop=of_hash)

    def _files(self) -> Iterator[Step]:
        """Files that this runbook wrote and that hold nothing else."""
        look = self.host
        files = {file.path: file for file in (*look.store.ca_path.written_files, *look.crl_directory.written_files)}
        for file in files.values():
            certificates = bool(file.certificates) and set(file.certificates) <= set(self.before.offered.certificates)
            if file.status.is_link or not (certificates or self._is_offered_ones(file.crls)):
                continue
            sentence = "Remove the file, which nothing leads to any more."
            yield Step("remove", self.where, file.path, sentence, before=file.sha256)

    def _is_offered_ones(self, crls: Sequence[x509.CertificateRevocationList]) -> bool:
        """Whether these are CRLs, and all of them of the CAs that go."""
        issuers = [certificate.subject for certificate in self.before.offered.certificates]
        return bool(crls) and all(crl.issuer in issuers for crl in crls)

    def _refuse_what_stays(self) -> None:
        look, wish = self.host, self.wish
        for certificate in self.before.offered.certificates:
            name = openssl_dn(certificate.subject)
            if any(is_issued_by(own, certificate) for own in look.store.own):
                raise NotReady(
                    f"{name} has signed the certificate that {wish.host} shows itself: it is our own CA",
                    left=_UNTOUCHED,
                    do="see whether this is the partner's file",
                )
            if look.store.ca_file and certificate in look.store.ca_file.certificates:
                raise NotReady(
                    f"{name} is in {look.store.ca_file.path} (CACertFile) on {wish.host}, which this runbook has not "
                    "written: it would stay trusted",
                    left=_UNTOUCHED,
                    do="take it out of that file by hand and reload sendmail, then run this again",
                )
            if any(
                _is_twin(certificate, other) for other in look.trusted if other not in self.before.offered.certificates
            ):
                raise NotReady(
                    f"another certificate of {name}, with the same key, is trusted on {wish.host} too: all that it has "
                    "signed would still be verified",
                    left=_UNTOUCHED,
                    do="put both certificates into one file and untrust them together",
                )
            for entry in look.entries_of(certificate):
                if not entry.target and len(entry.certificates) > 1:
                    raise NotReady(
                        f"{look.ca_path}/{entry.name} on {wish.host} is a file with other certificates beside {name}",
                        left=_UNTOUCHED,
                        do="take it out of that file by hand, then run this again",
                    )

    def _refuse_what_rules_need(self) -> None:
        """Mail would stop that a rule lets through only because this CA is trusted."""
        look, wish = self.host, self.wish
        gone = [certificate for certificate in self.before.offered.certificates if certificate in look.trusted]
        if not gone:
            return
        staying = [certificate for certificate in look.trusted if certificate not in gone]
        name = look.access_name
        own, others = rules_that_need(gone, look.access, partner=wish.partner, staying=staying, name=name)
        if own:
            raise NotReady(
                f"a rule on {wish.host} lets the mail of {wish.partner} through only with a verified certificate "
                f"({_lines(name, own)}): without this CA it would be refused",
                left=_UNTOUCHED,
                do=f"first run 04-enforce-access with requirement none for {wish.partner}, then run this again",
            )
        if others:
            raise NotReady(
                f"rules on {wish.host} ask for certificates of this CA by its name ({_lines(name, others)}): without "
                "it all that they are for would be refused",
                left=_UNTOUCHED,
                do="first run 04-enforce-access with requirement none for that partner (an entry outside the managed "
                "block is to be taken out by hand), then run this again",
            )


def _lines(name: str, entries: Sequence[Entry]) -> str:
    return f"{name}, " + "; ".join(f"line {entry.line}: {entry.written_key}" for entry in entries)


def _planned(wish: TrustWish, before: TrustBefore) -> _Trust | _Untrust:
    return _Trust(wish, before) if wish.trusts else _Untrust(wish, before)


def _reload(wish: TrustWish, before: TrustBefore) -> Step:
    service = before.host.layout.service
    sentence = "Reload the daemon, which reads this only when it starts."
    return Step("reload", str(wish.host), service.name, sentence, settings={"how": service.reload})


def _is_twin(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.subject == other.subject and key_info(one.public_key()) == key_info(other.public_key())


def _crls_in_use(file: StoredFile | None) -> tuple[x509.CertificateRevocationList, ...]:
    return file.crls if file else ()


def _same_ca(one: x509.CertificateRevocationList, other: x509.CertificateRevocationList) -> bool:
    return one.issuer == other.issuer


def _shown(certificate: x509.Certificate) -> str:
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"{openssl_dn(certificate.subject)} (until {ends}, SHA-256 {fingerprint(certificate)})"
