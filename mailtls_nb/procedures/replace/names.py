"""What the CA that is to follow another is called, and the type of its key. Pure."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from mailtls_nb.errors import BadParameter
from mailtls_nb.names import DistinguishedName, openssl_dn
from mailtls_nb.pki.profiles import KEY_TYPES, KeyType, key_type, key_word
from mailtls_nb.procedures.replace.wish import ReplaceWish

# Where the old CA's key is of a type that no new CA should have.
_INSTEAD = "ec-p256"


def new_name(wish: ReplaceWish, old: x509.Certificate) -> DistinguishedName:
    """The old CA's organisation and country with the new common name.

    What of them no CA of ours may have is left out. Raises BadParameter where that is the old CA's name.
    """
    attributes = {attribute.oid: str(attribute.value).strip() for attribute in old.subject}
    country = attributes.get(NameOID.COUNTRY_NAME, "").upper()
    name = DistinguishedName(wish.new_common_name)
    for organization in (attributes.get(NameOID.ORGANIZATION_NAME, ""), ""):
        try:
            name = DistinguishedName(
                wish.new_common_name, organization, country if re.fullmatch("[A-Z]{2}", country) else ""
            )
            break
        except BadParameter:
            continue
    if name.x509_name() == old.subject or attributes.get(NameOID.COMMON_NAME) == wish.new_common_name:
        raise BadParameter(
            "new_common_name",
            f"{wish.new_common_name} is the name of the CA that is to be replaced ({openssl_dn(old.subject)}): with "
            "two CAs of one name nobody could tell which one is meant",
            do="give another one, with a number or a year in it",
        )
    return name


def new_key_type(wish: ReplaceWish, old: x509.Certificate) -> KeyType:
    """The type wished for, else that of the old CA's key, where a CA may have it."""
    there = key_word(old.public_key())
    good = {kind.word for kind in KEY_TYPES if kind.for_a_ca}
    return key_type(wish.key_type or (there if there in good else _INSTEAD), use="ca")
