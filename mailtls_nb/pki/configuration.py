"""openssl.cnf of a CA directory: what it names, and the one that we write (config(5), openssl-ca(1)). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.errors import CADirectoryError

Sections = dict[str, dict[str, str]]

_TOKEN = re.compile(
    r"""\\(?P<escaped>.)
      | '(?P<single>(?:\\.|[^'\\])*)' | "(?P<double>(?:\\.|[^"\\])*)"
      | \$(?:\{(?P<braces>[^}]*)\} | \((?P<parens>[^)]*)\) | (?P<bare>\w+(?:::\w+)?))
      | (?P<comment>\#.*)
      | (?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_CONTROL_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b"}
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """Where the parts of a CA directory lie. ``serial`` and ``crl_number`` are None where openssl.cnf names none.

    ``crl`` is the newest CRL; it need not be there. ``unique_subject`` and ``random_serials`` are what openssl.cnf
    says, or openssl's defaults; ``says_unique`` is False where it leaves the first unsaid.
    """

    path: Path
    certificate: Path
    private_key: Path
    database: Path
    new_certificates: Path
    serial: Path | None
    crl_number: Path | None
    crl: Path
    unique_subject: bool = True
    says_unique: bool = False
    random_serials: bool = False

    @property
    def configuration(self) -> Path:
        return self.path / "openssl.cnf"

    @property
    def attributes(self) -> Path:
        """The file that overrides unique_subject; openssl writes it whenever it writes the index."""
        return self.database.with_name(f"{self.database.name}.attr")

    @property
    def set_aside(self) -> Path:
        """Rows that were taken out of the index because others had their serials; nothing reads it."""
        return self.database.with_name(f"{self.database.name}.set-aside")

    @property
    def lock(self) -> Path:
        return self.path / ".mailtls-nb.lock"

    @property
    def successor(self) -> Path:
        """Names the CA that follows this one, and how far the change has come; see `succession`."""
        return self.path / ".mailtls-nb.successor"

    @property
    def predecessor(self) -> Path:
        """Names the CA directory that this one follows."""
        return self.path / ".mailtls-nb.predecessor"

    @property
    def pending(self) -> Path:
        """Names the serial that is being issued; there only while it is, or after a crash."""
        return self.path / ".mailtls-nb.pending"


def default_layout(path: Path) -> Layout:
    """The layout of CA.pl and /etc/pki/CA, for a directory without openssl.cnf."""
    return Layout(
        path=path,
        certificate=path / "cacert.pem",
        private_key=path / "private" / "cakey.pem",
        database=path / "index.txt",
        new_certificates=path / "newcerts",
        serial=path / "serial",
        crl_number=path / "crlnumber",
        crl=path / "crl.pem",
    )


def parse(text: str, environment: Mapping[str, str]) -> Sections:
    """The sections of an openssl.cnf, variables expanded; raises CADirectoryError with the line's number.

    ``.include`` and ``.pragma`` lines are passed over.
    """
    sections: Sections = {"default": {}}
    section = "default"
    # A backslash at the end of a line continues it.
    joined = re.sub(r"(?<!\\)\\\r?\n", lambda _: "\x00", text)
    number = 1
    for raw in joined.splitlines():
        line = raw.replace("\x00", "").strip()
        try:
            if header := re.match(r"\[\s*([^\]]*?)\s*\]", line):
                section = header[1]
                sections.setdefault(section, {})
            elif line and not line.startswith(("#", ".")):
                name, equals, value = line.partition("=")
                if not equals:
                    raise ValueError("no = in the line")  # noqa: TRY301
                target, _, bare = name.strip().rpartition("::")
                expanded = _expand(value.strip(), section, sections, environment)
                sections.setdefault(target or section, {})[bare] = expanded
        except ValueError as error:
            raise CADirectoryError(
                f"openssl.cnf, line {number}: {error}", left="nothing was changed", do="mend openssl.cnf"
            ) from error
        number += 1 + raw.count("\x00")
    return sections


def _expand(value: str, section: str, sections: Sections, environment: Mapping[str, str]) -> str:
    out: list[str] = []
    for token in _TOKEN.finditer(value):
        text = token[0]
        match token.lastgroup:
            case "comment":
                break
            case "escaped":
                out.append(_CONTROL_LETTERS.get(token["escaped"], token["escaped"]))
            case "single" | "double":
                out.append(re.sub(r"\\(.)", r"\1", text[1:-1]))
            case "braces" | "parens" | "bare":
                out.append(_variable(token[token.lastgroup], section, sections, environment))
            case _:
                out.append(text)
    return "".join(out).rstrip()


def _variable(name: str, section: str, sections: Sections, environment: Mapping[str, str]) -> str:
    where, separator, bare = name.rpartition("::")
    if where == "ENV":
        if bare in environment:
            return environment[bare]
    else:
        for candidate in (where if separator else section, "default"):
            if bare in sections.get(candidate, {}):
                return sections[candidate][bare]
    raise ValueError(f"${name} has no value")


def configured_layout(path: Path, sections: Sections) -> tuple[Layout, ...]:
    """The layouts that an openssl.cnf in ``path`` may mean; raises CADirectoryError when it describes no CA.

    More than one when it uses relative paths, which openssl resolves from wherever it is started: they are
    tried from the directory itself and from its parent (CA.pl's ``./demoCA``).
    """
    name = _lookup(sections, "ca", "default_ca")
    if name is None or name not in sections:
        raise CADirectoryError(
            f"{path}/openssl.cnf describes no CA: there is no section that default_ca in [ca] names",
            left="nothing was changed",
            do="give the directory whose openssl.cnf serves `openssl ca`, or move this file away to have one written",
        )
    settings = {key: value for key in _KEYS if (value := _lookup(sections, name, key)) is not None}
    if missing := [key for key in ("database", "new_certs_dir") if key not in settings]:
        raise CADirectoryError(
            f"{path}/openssl.cnf, section {name}: {' and '.join(missing)} missing",
            left="nothing was changed",
            do="mend openssl.cnf: `openssl ca` cannot use it either",
        )
    values = (settings[k] for k in ("database", "new_certs_dir", "certificate", "private_key") if k in settings)
    bases = (path,) if all(Path(value).is_absolute() for value in values) else (path, path.parent)
    return tuple(_layout(path, base, settings) for base in bases)


_KEYS = (
    "database",
    "new_certs_dir",
    "certificate",
    "private_key",
    "serial",
    "rand_serial",
    "crlnumber",
    "crl",
    "unique_subject",
)


def _layout(path: Path, base: Path, settings: Mapping[str, str]) -> Layout:
    default = default_layout(path)
    return Layout(
        path=path,
        # Without these two, `openssl ca` is started with -cert and -keyfile.
        certificate=base / settings["certificate"] if "certificate" in settings else default.certificate,
        private_key=base / settings["private_key"] if "private_key" in settings else default.private_key,
        database=base / settings["database"],
        new_certificates=base / settings["new_certs_dir"],
        serial=base / settings["serial"] if "serial" in settings else None,
        crl_number=base / settings["crlnumber"] if "crlnumber" in settings else None,
        # openssl itself writes a CRL where -out says; its own openssl.cnf names the place so.
        crl=base / settings["crl"] if "crl" in settings else default.crl,
        unique_subject=yes_or_no(settings.get("unique_subject", "yes")),
        says_unique="unique_subject" in settings,
        random_serials="rand_serial" in settings,
    )


def yes_or_no(text: str) -> bool:
    """A truth value as `openssl ca` reads it (apps/lib/apps.c, parse_yesno): by its first letter, else yes."""
    return text[:1] not in ("f", "F", "n", "N", "0")


def _lookup(sections: Sections, section: str, key: str) -> str | None:
    for candidate in (section, "default"):
        if key in sections.get(candidate, {}):
            return sections[candidate][key]
    return None


def openssl_cnf(directory: Path, *, unique_subject: bool, random_serials: bool, digest: str) -> str:
    """An openssl.cnf with which `openssl ca` signs, revokes and makes CRLs in ``directory``, started from anywhere."""
    serials = "rand_serial       = yes\n" if random_serials else ""
    return f"""\
# For `openssl ca -config THIS_FILE`, written by mailtls-nb. openssl locks nothing: run one command at a time.
# If this directory moves, change the line `dir` and nothing else.

[ ca ]
default_ca        = ca_directory

[ ca_directory ]
dir               = {_quoted(directory)}
certificate       = $dir/cacert.pem
private_key       = $dir/private/cakey.pem
database          = $dir/index.txt
new_certs_dir     = $dir/newcerts
# OpenSSL before 1.1.1 knows no rand_serial and counts on from this file.
serial            = $dir/serial
{serials}crl_dir           = $dir/crl
crlnumber         = $dir/crlnumber
# The newest CRL: `openssl ca -gencrl -out DIR/crl.pem` keeps it there too.
crl               = $dir/crl.pem
unique_subject    = {"yes" if unique_subject else "no"}
default_md        = {digest}
default_days      = 365
default_crl_days  = 30
policy            = host_name_only
preserve          = no
email_in_dn       = no
x509_extensions   = mail_server
crl_extensions    = crl
# Takes over the subjectAltName of a request, and no extension that [mail_server] sets. READ the names before you
# answer y: openssl does not check them (runbook 02 does).
copy_extensions   = copy

[ host_name_only ]
commonName        = supplied

[ mail_server ]
basicConstraints       = critical, CA:FALSE
# No keyEncipherment: EC keys must not have it (RFC 8813), and RSA keys need it only for RSA key exchange.
keyUsage               = critical, digitalSignature
extendedKeyUsage       = serverAuth, clientAuth
subjectKeyIdentifier   = hash
authorityKeyIdentifier = keyid:always

[ crl ]
authorityKeyIdentifier = keyid:always
"""


def _quoted(path: Path) -> str:
    text = str(path)
    if _PLAIN_PATH.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
