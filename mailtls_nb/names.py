"""Names: host names, distinguished names, and the subtrees that a CA may be held to.

Everything here turns text that a person typed into a value that is valid by construction, or raises
BadParameter without repeating control characters.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

import idna
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mailtls_nb.errors import BadParameter

# RFC 1035, 2.3.4 without the trailing dot and the root's length octet.
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
# RFC 5280, appendix A.1: ub-common-name and ub-organization-name. Some programs count octets of UTF-8: so do we.
_LONGEST_ATTRIBUTE = 64
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def hostname(parameter: str, text: str) -> str:
    """The fully qualified host name in its one form: lower-case ASCII, no trailing dot.

    An internationalised name is converted to its A-labels (UTS #46, IDNA 2008). Raises BadParameter for
    anything that is not a host name of two labels or more (RFC 952, RFC 1123 2.1), so also for addresses
    and wildcards.
    """
    if not text.strip():
        raise BadParameter(parameter, "is empty", do="give a fully qualified host name such as relay.example.test")
    if len(text) > _LONGEST_NAME + 1:
        raise BadParameter(parameter, f"{shown(text)} is longer than {_LONGEST_NAME} characters")
    if _is_address(text):
        raise BadParameter(
            parameter,
            f"{shown(text)} is an IP address",
            do="give the host's name: certificates of mail servers name it",
        )
    if "*" in text:
        raise BadParameter(
            parameter,
            f"{shown(text)} is a wildcard",
            do="name each host: a stolen wildcard key is good for all of them",
        )
    name = _ascii_form(parameter, text).removesuffix(".")
    labels = name.split(".")
    problem = _label_problem(labels)
    if len(name) > _LONGEST_NAME:
        problem = f"is longer than {_LONGEST_NAME} characters"
    elif not problem and len(labels) < 2:
        problem = "has no domain: at least two labels are needed"
    elif not problem and labels[-1].isdigit():
        problem = "ends in a number, as only addresses do"
    if problem:
        raise BadParameter(parameter, f"{shown(text)} is not a host name: it {problem}")
    return name


def hostnames(parameter: str, text: str) -> tuple[str, ...]:
    """A comma-separated list of host names, each as from `hostname`, doubles dropped; empty text gives ()."""
    return tuple(dict.fromkeys(hostname(parameter, item) for item in _items(parameter, text)))


def partner_name(parameter: str, text: str) -> str:
    """A host name as from `hostname`, of somebody else's: only as DNS has it.

    A letter of another script may look like a Latin one, and a rule for the wrong name protects nobody.
    """
    if not text.isascii():
        raise BadParameter(
            parameter,
            f"{ascii(text)[:80]} holds letters that may look like others",
            do="give the name as DNS has it (xn--...)",
        )
    return hostname(parameter, text)


def is_within(name: str, domain: str) -> bool:
    """Whether a name is that domain or below it; both in one case."""
    return name == domain or name.endswith(f".{domain}")


def name_constraints(parameter: str, text: str) -> tuple[str, ...]:
    """A comma-separated list of what a CA may certify: DNS subtrees and IP prefixes, in their one form.

    ``example.test`` covers the name itself and everything under it (RFC 5280, 4.2.1.10). A leading dot is
    accepted and dropped: RFC 5280 gives it no meaning for DNS names and verifiers disagree about it. A single
    label such as ``test`` is a subtree too.
    """
    return tuple(dict.fromkeys(_subtree(parameter, item) for item in _items(parameter, text)))


def _subtree(parameter: str, item: str) -> str:
    if "/" in item or _is_address(item):
        try:
            return str(ipaddress.ip_network(item))
        except ValueError as error:
            raise BadParameter(parameter, f"{shown(item)} is not an IP prefix: {error}") from error
    subtree = item.removeprefix(".")
    # A label in front makes one rule serve for subtrees of a single label as well.
    return hostname(parameter, f"any.{subtree}").removeprefix("any.") if subtree else hostname(parameter, subtree)


@dataclass(frozen=True)
class DistinguishedName:
    """The name of a CA: validated when made, written in the order C, O, CN.

    Raises BadParameter for an empty common name, control characters, and values over the upper bounds of
    RFC 5280, appendix A.1. Text beyond ASCII is allowed and becomes UTF8String.
    """

    common_name: str
    organization: str = ""
    country: str = ""

    def __post_init__(self) -> None:
        if not self.common_name:
            raise BadParameter("common_name", "is empty", do="give the CA a name that partners will recognise")
        for parameter, value in (("common_name", self.common_name), ("organization", self.organization)):
            if not value.isprintable():
                raise BadParameter(parameter, f"{shown(value)} holds a control or invisible character")
            if value != value.strip():
                raise BadParameter(parameter, f"{shown(value)} starts or ends with a space")
            if len(value.encode()) > _LONGEST_ATTRIBUTE:
                raise BadParameter(parameter, f"{shown(value)} is longer than {_LONGEST_ATTRIBUTE} octets (RFC 5280)")
        if self.country and not re.fullmatch("[A-Z]{2}", self.country):
            raise BadParameter("country", f"{shown(self.country)} is not a country code of two capital letters")

    def x509_name(self) -> x509.Name:
        """The name as it stands in a certificate."""
        values = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, self.common_name),
        )
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in values if value])

    def __str__(self) -> str:
        return openssl_dn(self.x509_name())


# OpenSSL's short names (crypto/objects/objects.txt); an attribute without one is written as its dotted number.
_SHORT_NAMES: dict[ObjectIdentifier, str] = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.INITIALS: "initials",
    NameOID.TITLE: "title",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.STREET_ADDRESS: "street",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.POSTAL_ADDRESS: "postalAddress",
    NameOID.BUSINESS_CATEGORY: "businessCategory",
    NameOID.JURISDICTION_COUNTRY_NAME: "jurisdictionC",
    NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME: "jurisdictionST",
    NameOID.JURISDICTION_LOCALITY_NAME: "jurisdictionL",
    NameOID.UNSTRUCTURED_NAME: "unstructuredName",
}


def openssl_dn(name: x509.Name, *, before_openssl_3: bool = False) -> str:
    r"""The name as OpenSSL's X509_NAME_oneline writes it, and so as it stands in index.txt: ``/C=DE/CN=...``.

    Octets outside printable ASCII become ``\xHH``. Since OpenSSL 3.0, ``/`` and ``+`` in a value have a backslash
    before them and the values of one RDN are joined by ``+``; before, neither, so that the text cannot be taken apart.
    """
    text = ""
    for joined, oid, octets in _attributes(name.public_bytes()):
        value = "".join(chr(o) if 0x20 <= o <= 0x7E else f"\\x{o:02X}" for o in octets)
        if not before_openssl_3:
            value = re.sub("([/+])", r"\\\1", value)
        separator = "+" if joined and not before_openssl_3 else "/"
        text += f"{separator}{_SHORT_NAMES.get(oid, oid.dotted_string)}={value}"
    return text


def sendmail_dn(name: x509.Name, *, before_openssl_3: bool = False) -> str:
    """The name as sendmail compares it in ``CI:`` and ``CS:`` (cf/README, STARTTLS): specials as ``+HH``.

    sendmail encodes the text of X509_NAME_oneline as xtext, so ``Darth Mail`` is ``Darth+20Mail``; a name with ``/`` or
    ``+`` in a value looks different on hosts whose OpenSSL is older than 3.0.
    """
    text = openssl_dn(name, before_openssl_3=before_openssl_3)
    return "".join(c if "!" <= c <= "~" and c not in '\\<>()"+' else f"+{ord(c):02X}" for c in text)


def shown(text: str) -> str:
    """The text quoted for a message: control and invisible characters escaped, long text cut."""
    return repr(text) if len(text) <= 80 else repr(text[:60]) + f"... ({len(text)} characters)"


def _items(parameter: str, text: str) -> tuple[str, ...]:
    if not text:
        return ()
    items = tuple(item.strip(" ") for item in text.split(","))
    if "" in items:
        raise BadParameter(parameter, f"{shown(text)} has an empty item", do="separate items by one comma each")
    return items


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _ascii_form(parameter: str, text: str) -> str:
    lowered = text.lower()
    if lowered.isascii() and "xn--" not in lowered:
        return lowered
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        # idna's own message may repeat the text raw.
        raise BadParameter(parameter, f"{shown(text)} is not a valid internationalised host name") from error


def _label_problem(labels: list[str]) -> str:
    for label in labels:
        if not label:
            return "has an empty label"
        if len(label) > _LONGEST_LABEL:
            return f"has a label longer than {_LONGEST_LABEL} characters"
        if label.startswith("-") or label.endswith("-"):
            return "has a label that starts or ends with a dash"
        if not _LABEL.fullmatch(label):
            return "holds something other than letters, digits, dashes and dots"
    return ""


def _attributes(der: bytes) -> Iterator[tuple[bool, ObjectIdentifier, bytes]]:
    """Of each attribute of a DER Name, SEQUENCE OF SET OF SEQUENCE { type, value }: type and raw value.

    The first item says whether it belongs to one RDN with the attribute before it.
    """
    for rdn in _elements(next(_elements(der))):
        for position, attribute in enumerate(_elements(rdn)):
            oid, value = _elements(attribute)
            yield position > 0, _object_identifier(oid), value


def _object_identifier(content: bytes) -> ObjectIdentifier:
    """An OID from its base-128 groups (X.690 8.19)."""
    arcs: list[int] = []
    arc = 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ObjectIdentifier(".".join(str(a) for a in (first, arcs[0] - 40 * first, *arcs[1:])))


def _elements(der: bytes) -> Iterator[bytes]:
    """The contents of each element of a run of DER elements (X.690 8.1; tags of one octet)."""
    position = 0
    while position < len(der):
        length = der[position + 1]
        start = position + 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[start : start + octets], "big")
            start += octets
        yield der[start : start + length]
        position = start + length
