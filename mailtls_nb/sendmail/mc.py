"""The managed block in sendmail.mc: our settings between two marker lines, all else byte for byte as it was.

sendmail's m4 reads every ``define`` before it writes the options (cf.m4 leaves proto.m4 to m4wrap), and the last one
counts. So the block stands after all features and includes and before the mailers; a later definition of the same
name is refused, an earlier one is overruled and remarked on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.pki.profiles import Roles
from mailtls_nb.sendmail.m4text import INCLUDES_CF_M4, M4Text, read_m4

BEGIN = b"dnl # BEGIN mailtls-nb: TLS settings written by its runbooks; do not edit between the markers"
END = b"dnl # END mailtls-nb"

# The names in sendmail.mc and the options they become in sendmail.cf (cf/README, "STARTTLS"), in the order written.
OPTIONS: Mapping[str, str] = {
    "confCACERT_PATH": "CACertPath",
    "confCACERT": "CACertFile",
    "confCRL_PATH": "CRLPath",
    "confCRL": "CRLFile",
    "confSERVER_CERT": "ServerCertFile",
    "confSERVER_KEY": "ServerKeyFile",
    "confCLIENT_CERT": "ClientCertFile",
    "confCLIENT_KEY": "ClientKeyFile",
}

_BEGIN_LINE = re.compile(rb"^dnl # BEGIN mailtls-nb\b[^\n]*(?:\n|\Z)", re.MULTILINE)
_END_LINE = re.compile(rb"^dnl # END mailtls-nb\b[^\n]*(?:\n|\Z)", re.MULTILINE)
_SETTING_LINE = re.compile(rb"^define\(`(conf[A-Z_]+)', ``([^`'\n]*)''\)dnl\r?$", re.MULTILINE)

# What ends the part for definitions: mailers, and the sections that divert what follows into a part of the cf.
_SECTION = re.compile(
    rb"\b(?:MAILER_DEFINITIONS|MAILER|LOCAL_CONFIG|LOCAL_RULE_[0-3]|LOCAL_RULESETS|LOCAL_NET_CONFIG|LOCAL_UUCP|LOCAL_DNSBL"
    rb"|LOCAL_SRV_FEATURES|LOCAL_CLT_FEATURES|LOCAL_TRY_TLS|LOCAL_TLS_RCPT|LOCAL_TLS_CLIENT|LOCAL_TLS_SERVER|m4exit)\b"
    rb"|\bdivert\(\s*(-?[0-9]*)\s*\)|\bs?include\("
)

# No backquote, apostrophe, comma, parenthesis, dollar, space or line break: nothing that m4 or sendmail's option
# parser (which splits two certificates at a comma) could take for its own. Words that are macro names are harmless,
# since a value is quoted twice: once for define, once for the rescan when the option is written.
_PATH = re.compile(r"/[A-Za-z0-9/._+@:=-]*")


def tls_settings(*, roles: Roles, certificate: str, ca_certificate: str, ca_path: str) -> dict[str, str]:
    """The settings for one file ``certificate`` that holds the certificate and, after it, its key.

    One file for both, so that a renewal is a single rename and there is never a new certificate with an old key.
    """
    settings = {"confCACERT_PATH": ca_path, "confCACERT": ca_certificate}
    if roles in ("both", "server"):
        settings |= {"confSERVER_CERT": certificate, "confSERVER_KEY": certificate}
    if roles in ("both", "client"):
        settings |= {"confCLIENT_CERT": certificate, "confCLIENT_KEY": certificate}
    return settings


def cf_options(settings: Mapping[str, str]) -> dict[str, str]:
    """The options that these settings must have become in the built sendmail.cf."""
    return {OPTIONS[name]: value for name, value in settings.items()}


def with_managed_block(mc: bytes, settings: Mapping[str, str], *, name: str = "sendmail.mc") -> bytes:
    """``mc`` with exactly these settings in its managed block; without any, the block is removed.

    Raises BadParameter for a setting that is not known or cannot be quoted, NotReady when the markers are damaged or a
    later line overrules a setting.
    """
    for setting, value in settings.items():
        _check(setting, value)
    bare_mc = without_managed_block(mc, name=name)
    if not settings:
        return bare_mc
    text = read_m4(name, bare_mc)
    place = _place(text)
    _refuse_later_definitions(name, mc, text, place, settings)

    line_break = b"\r\n" if b"\r\n" in bare_mc else b"\n"
    lines = [BEGIN]
    lines += [f"define(`{key}', ``{settings[key]}'')dnl".encode() for key in OPTIONS if key in settings]
    lines += [END]
    if place == len(bare_mc) and not bare_mc.endswith(b"\n") and bare_mc:
        # A file without a final newline: the block brings the line break that parts it and again ends without one.
        return bare_mc + line_break + line_break.join(lines)
    block = b"".join(line + line_break for line in lines)
    return bare_mc[:place] + block + bare_mc[place:]


def managed_settings(mc: bytes, *, name: str = "sendmail.mc") -> dict[str, str] | None:
    """The settings in the managed block, or None where there is no block; lines of any other form are left out."""
    span = _block_span(mc, name)
    if span is None:
        return None
    found = _SETTING_LINE.findall(mc[span[0] : span[1]])
    return {key.decode("ascii"): value.decode("utf-8", "surrogateescape") for key, value in found}


def managed_block(mc: bytes, *, name: str = "sendmail.mc") -> bytes:
    """The block with its marker lines, empty where there is none: what a diff may show."""
    span = _block_span(mc, name)
    return b"" if span is None else mc[span[0] : span[1]]


def without_managed_block(mc: bytes, *, name: str = "sendmail.mc") -> bytes:
    """``mc`` as it was before a block was put in; raises NotReady when the markers are damaged."""
    span = _block_span(mc, name)
    if span is None:
        return mc
    before, after = mc[: span[0]], mc[span[1] :]
    if not after and not mc.endswith(b"\n"):
        before = before.removesuffix(b"\n").removesuffix(b"\r")
    return before + after


def remarks(mc: bytes, settings: Mapping[str, str], *, name: str = "sendmail.mc") -> tuple[str, ...]:
    """What the operator should know: definitions that the block overrules, and what is read after the block."""
    text = read_m4(name, mc)
    span = _block_span(mc, name) or (_place(text),) * 2
    found = []
    for key in settings:
        for match in _definition_of(key).finditer(text.code):
            if match.start() < span[0]:
                line = text.line_number(match.start())
                found.append(f"{name}, line {line}: {key} is set there too; the managed block comes later and counts.")
    for match in re.finditer(rb"\bs?include\(", text.bare):
        if match.start() >= span[1]:
            line = text.line_number(match.start())
            found.append(f"{name}, line {line}: a file is included after the managed block; the built cf is checked.")
    return tuple(found)


def _check(setting: str, value: str) -> None:
    if setting not in OPTIONS:
        raise BadParameter(setting, f"is not a setting of the managed block ({', '.join(OPTIONS)})")
    if not _PATH.fullmatch(value) or len(value) > 255:
        raise BadParameter(
            setting,
            f"{value!r} cannot be written into sendmail.mc",
            do="give an absolute path of letters, digits and / . _ + @ : = - (at most 255 characters)",
        )


def _block_span(mc: bytes, name: str) -> tuple[int, int] | None:
    begins, ends = list(_BEGIN_LINE.finditer(mc)), list(_END_LINE.finditer(mc))
    if not begins and not ends:
        return None
    if len(begins) == len(ends) == 1 and begins[0].end() <= ends[0].start():
        return begins[0].start(), ends[0].end()
    lines = ", ".join(str(mc.count(b"\n", 0, m.start()) + 1) for m in sorted([*begins, *ends], key=lambda m: m.start()))
    raise NotReady(
        f"{name}: the markers of the managed block do not pair (BEGIN: {len(begins)}, END: {len(ends)}; lines {lines})",
        left="nothing was touched",
        do="remove the marker lines and the definitions between them by hand, then run this again",
    )


def _place(text: M4Text) -> int:
    """The start of the line that begins the mailers or the first section; else the end of the text."""
    discarded = False
    for match in _SECTION.finditer(text.bare):
        if match[1] is not None:
            discarded = match[1].startswith(b"-")
        elif match[0].endswith(b"include("):
            # cf.m4 ends with divert(0): Red Hat's file leaves it to that.
            discarded = discarded and not INCLUDES_CF_M4.match(text.text, match.start())
            continue
        if discarded or match[1] in (b"", b"0"):
            continue
        return _line_start(text, match.start())
    return len(text.text)


def _line_start(text: M4Text, offset: int) -> int:
    # In the mask only line breaks outside quotes are left: a line that begins inside a quote is no place for a block.
    start = text.bare.rfind(b"\n", 0, offset) + 1
    # The comment lines just above belong to the section.
    while True:
        previous = text.bare.rfind(b"\n", 0, max(start - 1, 0)) + 1
        if previous >= start or not text.text[previous:start].startswith(b"dnl #"):
            return start
        start = previous


def _definition_of(key: str) -> re.Pattern[bytes]:
    # Also inside quotes: in an ifdef() it may take effect.
    return re.compile(rb"\b(?:define|undefine|pushdef|popdef)\(\s*`*" + key.encode("ascii") + rb"\b")


def _refuse_later_definitions(name: str, mc: bytes, text: M4Text, place: int, settings: Mapping[str, str]) -> None:
    block = managed_block(mc, name=name)
    block_at = mc.find(block) if block else len(mc)
    for key in settings:
        if match := _definition_of(key).search(text.code, place):
            shift = block.count(b"\n") if match.start() >= block_at else 0
            raise NotReady(
                f"{name}, line {text.line_number(match.start()) + shift}: {key} is set there, after the mailers, "
                "and would overrule the managed block",
                left="nothing was touched",
                do="remove that line, or move it above the MAILER lines, then run this again",
            )
