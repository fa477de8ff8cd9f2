"""What a partner gets when our CA is replaced: what to do, until when, and what happens if nothing is done. Pure."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.names import openssl_dn, sendmail_dn
from mailtls_nb.pki.partner_pack import partner_pack

CROSS_FILE = "cross-signed.pem"


def transition_pack(
    old: x509.Certificate,
    new: x509.Certificate,
    cross: x509.Certificate | None,
    mail_hosts: tuple[str, ...],
    *,
    is_over: bool = False,
) -> dict[str, bytes]:
    """The files of the pack by name: those of the new CA's partner pack, how to change, and the cross-signed one.

    ``mail_hosts`` are our mail servers; ``is_over``: the old CA is withdrawn. The same certificates and hosts always
    give the same bytes.
    """
    files = partner_pack(new, mail_hosts)
    if cross is not None:
        files[CROSS_FILE] = cross.public_bytes(Encoding.PEM)
    files["CHANGE.md"] = (_over(old, new) if is_over else _instructions(old, new, cross, mail_hosts)).encode()
    return files


def _instructions(
    old: x509.Certificate, new: x509.Certificate, cross: x509.Certificate | None, mail_hosts: tuple[str, ...]
) -> str:
    return f"""\
# Our mail CA changes

Our mail servers will show certificates of a new CA. Please trust it **beside** the old one, and tell us when that is
done. We reissue our certificates after that, and you take the old one away only when we say that we have.

| | old | new |
|---|---|---|
| CA | `{openssl_dn(old.subject)}` | `{openssl_dn(new.subject)}` |
| valid until | {_date(old.not_valid_after_utc)} | {_date(new.not_valid_after_utc)} |
| SHA-256 | `{_fingerprint(old)}` | `{_fingerprint(new)}` |
| our mail servers | {", ".join(f"`{host}`" for host in mail_hosts)} | the same |

## Now

1. Check the new CA's fingerprint by another way than this came (a telephone number that you had before).
2. Install it beside the old one: README.md has the steps for sendmail, Postfix and Exim ("Install the CA"). Do not take
   the old one away.
3. Does one of your rules name our CA? In sendmail's access map it looks like this:

       ...+CI:{sendmail_dn(old.subject)}

   Such a rule refuses the new certificates, whatever is trusted. A rule can name one CA only, so until we tell you that
   all is reissued let it end in `VERIFY:112`, without `+CI:...`; then put the new name there:

       ...+CI:{sendmail_dn(new.subject)}

   The same holds for fingerprints of our certificates or of our CA that you have pinned anywhere.
4. Tell us.
{_for_those_who_cannot(old, cross)}
## Later, when we tell you that the change is over

Take the old CA away: the file, and its hash link. From then on nothing of ours needs it.
"""


def _over(old: x509.Certificate, new: x509.Certificate) -> str:
    return f"""\
# The change of our mail CA is over

Nothing of ours needs the old CA any more. Please take it away now: its file, its hash link, and the cross-signed
certificate if you installed that. Rules that named the old CA name the new one from now on.

| | take away | keep |
|---|---|---|
| CA | `{openssl_dn(old.subject)}` | `{openssl_dn(new.subject)}` |
| SHA-256 | `{_fingerprint(old)}` | `{_fingerprint(new)}` |
| in sendmail's rules | `+CI:{sendmail_dn(old.subject)}` | `+CI:{sendmail_dn(new.subject)}` |

The other files are the new CA's, as you have them already.
"""


def _for_those_who_cannot(old: x509.Certificate, cross: x509.Certificate | None) -> str:
    if cross is None:
        return ""
    return f"""
## If you cannot add a CA in time

`{CROSS_FILE}` is the new CA's certificate signed by the old one. Our servers send it along, so whoever trusts only the
old CA verifies our new certificates all the same, and need do nothing, as long as no rule names the CA (3. above). That
ends on {_date(min(cross.not_valid_after_utc, old.not_valid_after_utc))}, and earlier when we have told you that the
change is over. A mail server that builds no chain of its own from what is sent can have the file beside the old CA's.
"""


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
