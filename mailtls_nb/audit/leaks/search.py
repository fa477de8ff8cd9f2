"""Whether a run's folder holds a secret of the run, or a private key: looked up before it is sealed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from mailtls_nb.audit.leaks.needle import Needle
from mailtls_nb.audit.leaks.places import NameOf, Place, json_places, notebook_places, parsed
from mailtls_nb.errors import FileAccessFailed, printable
from mailtls_nb.secret import Secret

# So many places are told of one secret in one file; an operator needs no more.
MOST_TOLD = 20
# The end of each line that begins or ends a PEM private key, encrypted or not (RFC 7468, sections 10 and 11).
_KEY_BOUNDARY = b"PRIVATE KEY-----"
_LONGEST_NAME = 60
# Where, and in what form.
_Found = tuple[str, str]


@dataclass(frozen=True)
class Leak:
    """A secret or a key that was found, but not itself: the ``file`` within the folder, ``where`` there, and the form.

    ``where`` reads ``line 12``, ``byte 1024`` (of a file that is no text), ``cell 5, output 1, text/plain, line 2``,
    ``predicate.parameters.reason`` or ``the file's name``; lines, cells, outputs and list items are counted from 1.
    ``what`` is ``the secret of ca_passphrase`` or ``a private key``; ``form`` is ``as it is``, ``in base64``,
    ``in hexadecimal``, ``JSON-escaped``, ``HTML-escaped``, ``URL-escaped``, ``in quoted-printable``, ``escaped by
    backslashes`` (of Python, C or a shell) or ``escaped in several ways``.
    """

    file: str
    where: str
    what: str
    form: str


def find_leaks(folder: Path, secrets: Mapping[str, Secret], *, known_text: bytes = b"") -> tuple[Leak, ...]:
    """As ``leaks_by_file``, without the files' own names."""
    return tuple(leak for leaks in leaks_by_file(folder, secrets, known_text=known_text).values() for leak in leaks)


def leaks_by_file(
    folder: Path, secrets: Mapping[str, Secret], *, known_text: bytes = b""
) -> dict[Path, tuple[Leak, ...]]:
    """Search every file below ``folder``, hidden ones and their names too; links to directories are not followed.

    The keys are the files themselves: their names may hold a secret, and are not to be shown. Arguments and rules are
    those of ``find_leaks_in``. Raises FileAccessFailed for what cannot be read: a file that was not searched must not
    be sealed.
    """
    needles = _needles(secrets, known_text)
    found: dict[Path, tuple[Leak, ...]] = {}
    for path in _files_below(folder):
        try:
            data = path.read_bytes() if S_ISREG(path.stat().st_mode) else b""
        except OSError as error:
            raise _unreadable(path, error) from error
        if leaks := tuple(_leaks_in(str(path.relative_to(folder)), data, needles)):
            found[path] = leaks
    return found


def find_leaks_in(
    name: str, data: bytes, secrets: Mapping[str, Secret], *, known_text: bytes = b""
) -> tuple[Leak, ...]:
    """Search one file's bytes and its ``name`` (a path within the folder).

    ``secrets`` are the values by the parameter that they were given for; an empty one is nothing. They are found as
    they are; in base64 of either alphabet, at any alignment and with line ends inside; in hexadecimal of either case
    with colons, blanks or 0x between; escaped for JSON, Python, C, a shell, HTML, a URL or a mail's quoted-printable,
    also several times over. Private keys are found by the lines that begin and end them in PEM, in the same forms.

    ``known_text`` is what was public before the run, the runbook's own source (never the executed notebook): values
    that stand there are ordinary text. Short and ordinary values count where they stand as values only; the rule is
    said in ``mailtls_nb.audit.leaks.needle``. Not found are: values put together from pieces (but pieces of one stream
    are), with markup inside, compressed, or in a hexadecimal dump with addresses; the base64 of a value shorter than
    eight bytes, or an ordinary one, as a part of a longer text's (as in ``user:secret``).
    """
    return tuple(_leaks_in(name, data, _needles(secrets, known_text)))


def _needles(secrets: Mapping[str, Secret], known_text: bytes) -> tuple[Needle, ...]:
    values = (
        Needle(f"the secret of {parameter}", secret.reveal(), parameter=parameter, known_text=known_text)
        for parameter, secret in secrets.items()
        if secret.reveal()
    )
    return (*values, Needle("a private key", _KEY_BOUNDARY))


def _leaks_in(name: str, data: bytes, needles: Sequence[Needle]) -> Iterator[Leak]:
    shown = _Shown(needles)
    file = "/".join(shown.name(part, os.fsencode(part)) for part in name.split("/"))
    find = _finder(name, data, shown.member)
    for needle in needles:
        in_name = (("the file's name", hit.form) for hit in needle.find(os.fsencode(name), stands_alone_counts=False))
        found = itertools.islice(_once(itertools.chain(in_name, find(needle))), MOST_TOLD)
        yield from (Leak(file, where, needle.what, form) for where, form in found)


class _Shown:
    """How names of files and members are shown: without what is searched for, in one line, and not too long."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        self._needles = needles
        self._members: dict[str, str] = {}

    def name(self, text: str, held: bytes) -> str:
        if any(True for needle in self._needles for _ in needle.find(held, stands_alone_counts=False)):
            return "[secret]"
        return printable(text).replace("\n", "\\n")[:_LONGEST_NAME]

    def member(self, text: str) -> str:
        if text not in self._members:
            self._members[text] = self.name(text, text.encode("utf-8", "surrogatepass"))
        return self._members[text]


def _finder(name: str, data: bytes, name_of: NameOf) -> Callable[[Needle], Iterator[_Found]]:
    """What finds a needle in the file, by what kind of file it is."""
    kind = Path(name).suffix
    if kind == ".jsonl":
        return lambda needle: _in_lines(data, needle, name_of)
    if kind in {".ipynb", ".json"}:
        with suppress(ValueError):
            content = parsed(data)
            places = list(notebook_places(content, name_of) if kind == ".ipynb" else json_places(content, "", name_of))
            return lambda needle: _in_places(places, data, needle)
    return lambda needle: _in_text(data, needle)


def _in_places(places: Iterable[Place], data: bytes, needle: Needle, before: str = "") -> Iterator[_Found]:
    """Where it is in the texts of parsed ``data``, and where that found nothing, in the data as it stands."""
    seen: list[str] = []
    for place in places:
        if place.joined_of and any(where.startswith(place.joined_of) for where in seen):
            continue
        lines = _Lines(place.text)
        has_lines = b"\n" in place.text.strip()
        for hit in needle.find(place.text, stands_alone_counts=place.has_values):
            seen.append(place.where)
            line = f", line {lines.number(hit.start)}" if has_lines else ""
            yield f"{before}{place.where}{line}" or "the whole of it", hit.form
    # A number, a member that stands twice. Ordinary values need the text that they stand in.
    if not seen and needle.rule != "value":
        yield from ((before.removesuffix(", ") or where, form) for where, form in _in_text(data, needle))


def _in_lines(data: bytes, needle: Needle, name_of: NameOf) -> Iterator[_Found]:
    """Where it is in lines of JSON; a line that is none is looked at as it stands, and so is what goes over several."""
    missed = False
    for number, line in needle.lines_to_look_at(data):
        found: Iterable[_Found]
        try:
            found = _in_places(json_places(parsed(line), "", name_of), line, needle, f"line {number}, ")
        except ValueError:
            found = ((f"line {number}", hit.form) for hit in needle.find(line))
        seen = False
        for each in found:
            seen = True
            yield each
        missed = missed or not seen
    if missed and needle.rule == "anywhere":
        yield from _in_text(data, needle)


def _in_text(data: bytes, needle: Needle) -> Iterator[_Found]:
    lines = _Lines(data)
    is_text = b"\0" not in data
    for hit in needle.find(data):
        yield f"line {lines.number(hit.start)}" if is_text else f"byte {hit.start}", hit.form


class _Lines:
    """Numbers of lines from 1, quick for places that come in their order."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._number, self._counted = 1, 0

    def number(self, start: int) -> int:
        if start < self._counted:
            self._number, self._counted = 1, 0
        self._number += self._text.count(b"\n", self._counted, start)
        self._counted = start
        return self._number


def _once(found: Iterable[_Found]) -> Iterator[_Found]:
    seen: set[_Found] = set()
    for each in found:
        if each not in seen:
            seen.add(each)
            yield each


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(Path(str(error.filename)), error) from error

    for directory, names, files in os.walk(folder, onerror=refuse):
        links = [name for name in names if Path(directory, name).is_symlink()]
        names.sort()
        yield from (Path(directory, name) for name in sorted(files + links))


def _unreadable(path: Path, error: OSError) -> FileAccessFailed:
    return FileAccessFailed(
        f"{path} cannot be searched for secrets: {error.strerror}",
        left="the run is not sealed",
        do="see to it that it can be read",
    )
