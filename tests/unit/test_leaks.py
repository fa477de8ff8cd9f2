"""Secrets and private keys are found wherever they stand in a run's folder, in every form, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import os
import shlex
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailtls_nb.audit.leaks.needle import Needle
from mailtls_nb.audit.leaks.search import MOST_TOLD, Leak, find_leaks, find_leaks_in
from mailtls_nb.errors import FileAccessFailed
from mailtls_nb.secret import Secret

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
SECRET = 'Näht\'s "7" mal & <so\\gut> 😀?'
# Split, so that this file itself holds no line that begins a key.
KEY_LINE = "-----BEGIN ENCRYPTED " + "PRIVATE KEY-----"


def leaks_in(name: str, data: bytes | str, *values: bytes | str, known_text: bytes = b"") -> tuple[Leak, ...]:
    secrets = {
        f"p{number}" if number else "ca_passphrase": Secret(value if isinstance(value, bytes) else value.encode())
        for number, value in enumerate(values)
    }
    return find_leaks_in(name, data if isinstance(data, bytes) else data.encode(), secrets, known_text=known_text)


def told(leaks: tuple[Leak, ...]) -> list[tuple[str, str]]:
    return [(leak.where, leak.form) for leak in leaks]


def nested(times: int, *, ensure_ascii: bool) -> Callable[[str], str]:
    def escape(text: str) -> str:
        for _ in range(times):
            text = json.dumps(text, ensure_ascii=ensure_ascii)
        return text

    return escape


def in_lines_of(width: int, text: str) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


# Each takes a text with the secret in it, all of it to be written in that form.
TEXT_FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": nested(1, ensure_ascii=True),
    "JSON in UTF-8": nested(1, ensure_ascii=False),
    "JSON in JSON": nested(2, ensure_ascii=True),
    "JSON four times": nested(4, ensure_ascii=True),
    "JSON four times in UTF-8": nested(4, ensure_ascii=False),
    "Python": repr,
    "Python in ASCII": ascii,
    "Python's bytes": lambda text: repr(text.encode()),
    "Python in Python": lambda text: repr(repr(text.encode())),
    "Python in JSON": lambda text: json.dumps({"x": [repr(text.encode())]}),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML twice": lambda text: html.escape(html.escape(text)),
    "HTML in ASCII": lambda text: html.escape(text).encode("ascii", "xmlcharrefreplace").decode(),
    "HTML, every character in decimal": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "HTML, every character in hexadecimal": lambda text: "".join(f"&#x{ord(char):X};" for char in text),
    "JSON in HTML": lambda text: html.escape(json.dumps(text)),
    "HTML in JSON": lambda text: json.dumps(html.escape(text)),
    "JSON for a script in a page": lambda text: (
        json.dumps(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("'", "\\u0027")
    ),
    "URL": lambda text: urllib.parse.quote(text, safe=""),
    "URL, but not its path": urllib.parse.quote,
    "URL, + for blanks": urllib.parse.quote_plus,
    "URL, little escaped": lambda text: urllib.parse.quote(text, safe="!\"#$&'()*+,-./:;<=>?@[]^_`{|}~"),
    "URL, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "URL twice": lambda text: urllib.parse.quote(urllib.parse.quote(text)),
    "JSON in a URL": lambda text: urllib.parse.quote_plus(json.dumps(text)),
    "URL in JSON in HTML": lambda text: html.escape(json.dumps(urllib.parse.quote(text))),
    "a shell's": shlex.quote,
    "a shell's in JSON": lambda text: json.dumps(shlex.quote(text)),
    "every byte in C": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "every byte in octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
}
BYTE_FORMS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "base64 for URLs": lambda data: base64.urlsafe_b64encode(data).decode(),
    "base64 in a URL": lambda data: urllib.parse.quote(base64.b64encode(data).decode(), safe=""),
    "base64 in lines": lambda data: base64.encodebytes(data).decode(),
    "base64 in short lines": lambda data: in_lines_of(5, base64.b64encode(data).decode()),
    "base64 in lines in JSON": lambda data: json.dumps(in_lines_of(16, base64.b64encode(data).decode())),
    "hexadecimal": bytes.hex,
    "hexadecimal, capitals": lambda data: data.hex().upper(),
    "hexadecimal with colons": lambda data: data.hex(":"),
    "hexadecimal with blanks": lambda data: data.hex(" ").upper(),
    "hexadecimal in pairs": lambda data: data.hex(" ", 2),
    "hexadecimal in lines": lambda data: in_lines_of(60, data.hex()),
    "hexadecimal in C": lambda data: ", ".join(f"0x{byte:02x}" for byte in data),
}


def notebook(*cells: dict[str, Any], **metadata: Any) -> str:
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def cell(source: str | list[str] = "run.apply()", *outputs: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"cell_type": "code", "id": "c1", "metadata": metadata, "source": source, "outputs": list(outputs)}


def stream(text: str | list[str], name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(mime_type: str, text: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {mime_type: text}}


def as_lines(text: str) -> list[str]:
    return text.splitlines(keepends=True) or [""]


WIDGETS = "application/vnd.jupyter.widget-state+json"
# Each puts a text into a file; with the file's name, and the beginning of the place to be told.
CONTAINERS: dict[str, tuple[str, Callable[[str], str], str | tuple[str, ...]]] = {
    "text": ("note.txt", str, ("line ", "byte ")),
    "page": ("notebook.html", lambda text: f"<html>\n<pre>\n{text}</pre>", ("line ", "byte ")),
    "text/plain": (
        "notebook.ipynb",
        lambda text: notebook(cell(), cell("x", display("text/plain", as_lines(text)))),
        "cell 2, output 1, text/plain",
    ),
    "text/html": (
        "notebook.ipynb",
        lambda text: notebook(cell("x", display("text/html", text))),
        "cell 1, output 1, text/html",
    ),
    "application/json": (
        "notebook.ipynb",
        lambda text: notebook(cell("x", display("application/json", {"a": [1, text]}))),
        "cell 1, output 1, application/json.a[2]",
    ),
    "stream": (
        "notebook.ipynb",
        lambda text: notebook(cell("x", stream("fine\n", "stderr"), stream(as_lines(text)))),
        "cell 1, output 2, stdout",
    ),
    "error": (
        "notebook.ipynb",
        lambda text: notebook(
            cell("x", {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["", text]})
        ),
        "cell 1, output 1, traceback",
    ),
    "source": ("notebook.ipynb", lambda text: notebook(cell(), cell(as_lines(text))), "cell 2, source"),
    "cell metadata": ("notebook.ipynb", lambda text: notebook(cell(note={"of": text})), "cell 1, metadata.note.of"),
    "widgets": (
        "notebook.ipynb",
        lambda text: notebook(cell(), widgets={WIDGETS: {"state": {"a1": {"state": {"value": text}}}}}),
        f"metadata.widgets.{WIDGETS}.state.a1.state.value",
    ),
    "commands": (
        "commands.jsonl",
        lambda text: (
            "\n".join(json.dumps(line) for line in ({"what": "read"}, {"stdout": text, "status": 0}, {})) + "\n"
        ),
        "line 2, stdout",
    ),
    "record": (
        "record.json",
        lambda text: json.dumps({"predicate": {"parameters": {"reason": text}}}, indent=2),
        "predicate.parameters.reason",
    ),
    "name of a member": ("record.json", lambda text: json.dumps({"a": {text: 1}}), "a, the name of a member"),
    "JSON that is none": ("record.json", lambda text: f'{{"a": 1,\n{text}', ("line ", "byte ")),
    "lines that are no JSON": ("commands.jsonl", lambda text: f'{{}}\n{{"a": 1, {text}', ("line ", "byte ")),
}

characters = st.characters(codec="utf-8", exclude_characters="\r") | st.sampled_from("\"'\\ \n\t%&<>+/=;:$`{}é😀aZ09")
secrets = st.text(characters, min_size=4, max_size=64).filter(
    lambda text: 8 <= len(text.encode()) <= 64 and Needle("", text.encode()).rule == "anywhere"
)
# No backslash at the end of what stands before a form without any of its own.
surroundings = st.text(characters, max_size=20)


@settings(max_examples=300, deadline=None)
@given(secrets, surroundings, surroundings, st.sampled_from([*TEXT_FORMS]), st.sampled_from([*CONTAINERS]))
def test_a_secret_is_found_in_every_text_form_in_every_place(
    secret: str, before: str, after: str, form: str, container: str
) -> None:
    name, contain, where = CONTAINERS[container]
    assume(not leaks_in(name, contain(""), secret))  # "cell_type" is in every notebook
    found = leaks_in(name, contain(TEXT_FORMS[form](before + secret + after)), secret)
    assert found
    assert found[0].what == "the secret of ca_passphrase"
    assert found[0].where.startswith(where)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(min_size=8, max_size=64).filter(lambda value: Needle("", value).rule == "anywhere"),
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.sampled_from([*BYTE_FORMS]),
    st.sampled_from([*CONTAINERS]),
)
def test_a_secret_of_any_bytes_is_found_encoded(
    secret: bytes, before: bytes, after: bytes, form: str, container: str
) -> None:
    name, contain, where = CONTAINERS[container]
    found = leaks_in(name, contain(BYTE_FORMS[form](before + secret + after)), secret)
    assert found
    assert found[0].where.startswith(where)


@settings(max_examples=200, deadline=None)
@given(secrets, surroundings, st.sampled_from([*TEXT_FORMS]), st.sampled_from([*CONTAINERS]), st.data())
def test_another_value_is_no_leak(secret: str, before: str, form: str, container: str, data: st.DataObject) -> None:
    """One character differs, and is one that appears nowhere else."""
    at = data.draw(st.integers(1, len(secret) - 2))  # not an end, which an escape's last digit or semicolon may be
    other = secret[:at] + "\N{SNOWMAN}" + secret[at + 1 :]
    name, contain, _ = CONTAINERS[container]
    text = (before + other).replace(secret, "")
    assume(not leaks_in(name, contain(""), secret))
    assert leaks_in(name, contain(TEXT_FORMS[form](text)), secret.replace("\N{SNOWMAN}", "x")) == ()


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=64), st.binary(max_size=20), st.sampled_from([*BYTE_FORMS]))
def test_another_value_encoded_is_no_leak(secret: bytes, before: bytes, form: str) -> None:
    other = bytes(byte ^ 0x24 for byte in secret)
    assert leaks_in("note.txt", BYTE_FORMS[form](before + other), secret + b"\x01\x02") == ()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", [*TEXT_FORMS, *BYTE_FORMS])
def test_each_form_in_each_place(form: str, container: str) -> None:
    """The grid that the random tests draw from, whole."""
    write = TEXT_FORMS.get(form) or (lambda text: BYTE_FORMS[form](text.encode()))
    name, contain, where = CONTAINERS[container]
    found = leaks_in(name, contain(write(f"it is {SECRET}, it is")), SECRET)
    assert found
    assert all(leak.where.startswith(where) for leak in found)
    assert leaks_in(name, contain(write(f"it is {SECRET[:-1]}!, it is")), SECRET) == ()


def test_what_is_told(tmp_path: Path) -> None:
    """The file, the place and the form, as a person counts; never the secret."""
    (tmp_path / "partner-pack").mkdir()
    (tmp_path / "partner-pack" / ".hidden.txt").write_bytes(b"one\ntwo\nit is hunter2-hunter2\n")
    (tmp_path / "der.bin").write_bytes(b"\0\1hunter2-hunter2")
    (tmp_path / "commands.jsonl").write_text(
        '{"what": "read"}\n{"what": "run", "argv": ["echo", "x"], "stdout": "a\\nhunter2-hunter2\\n"}\n'
    )
    (tmp_path / "notebook.ipynb").write_text(
        notebook(
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "hunter2-hunter2"]},
            cell('p = "hunter2-hunter2"'),
            cell("x", stream("fine"), display("text/plain", "a\nb\n hunter2-hunter2")),
            papermill={"parameters": {"reason": "hunter2-hunter2"}},
        )
    )
    (tmp_path / "record.json").write_text(json.dumps({"predicate": {"parameters": {"reason": "aHVudGVyMi1odW50ZXIy"}}}))
    (tmp_path / "note.hunter2-hunter2.txt").write_text("")
    what = "the secret of ca_passphrase"
    found = find_leaks(tmp_path, {"ca_passphrase": Secret(b"hunter2-hunter2")})
    assert set(found) == {
        Leak("partner-pack/.hidden.txt", "line 3", what, "as it is"),
        Leak("der.bin", "byte 2", what, "as it is"),
        Leak("commands.jsonl", "line 2, stdout, line 2", what, "as it is"),
        Leak("notebook.ipynb", "cell 1, source, line 2", what, "as it is"),
        Leak("notebook.ipynb", "cell 2, source", what, "as it is"),
        Leak("notebook.ipynb", "cell 3, output 2, text/plain, line 3", what, "as it is"),
        Leak("notebook.ipynb", "metadata.papermill.parameters.reason", what, "as it is"),
        Leak("record.json", "predicate.parameters.reason", what, "in base64"),
        Leak("[secret]", "the file's name", what, "as it is"),
    }
    assert len(found) == 9


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (SECRET, "as it is"),
        (json.dumps(SECRET), "JSON-escaped"),
        (json.dumps(json.dumps(SECRET)), "JSON-escaped 2 times over"),
        (html.escape(SECRET), "HTML-escaped"),
        (urllib.parse.quote(SECRET), "URL-escaped"),
        (urllib.parse.quote_plus(SECRET), "URL-escaped"),
        (repr(SECRET), "escaped by backslashes"),
        (html.escape(json.dumps(SECRET)), "escaped in several ways"),
        (TEXT_FORMS["quoted-printable"](SECRET), "in quoted-printable"),
        (base64.b64encode(SECRET.encode()).decode(), "in base64"),
        (SECRET.encode().hex(":"), "in hexadecimal"),
    ],
)
def test_the_form_that_is_told(text: str, form: str) -> None:
    assert told(leaks_in("note.txt", f"\n: {text}", SECRET)) == [("line 2", form)]


@pytest.mark.parametrize("write", [lambda value: value, repr, TEXT_FORMS["URL, every byte"], BYTE_FORMS["base64"]])
def test_a_secret_that_is_no_utf_8(write: Callable[[Any], Any]) -> None:
    secret = b"caf\xe9 \xff\\x\x80y"
    quoted = urllib.parse.quote_from_bytes(secret) if write is TEXT_FORMS["URL, every byte"] else write(secret)
    data = quoted if isinstance(quoted, bytes) else quoted.encode()
    assert leaks_in("note.txt", b"x" + data, secret)
    assert leaks_in("note.txt", b"x" + data[:-4], secret) == ()


def test_a_secret_whose_output_came_in_pieces() -> None:
    """A stream is cut where its buffer ends; told once, also where a whole one stands in a piece."""
    pieces = [stream("it is hunter2-h"), stream("warning", "stderr"), stream("unter2")]
    assert told(leaks_in("notebook.ipynb", notebook(cell("x", *pieces)), "hunter2-hunter2")) == [
        ("cell 1, outputs to stdout together", "as it is")
    ]
    whole = [stream("it is hunter2-hunter2"), stream("and more")]
    assert told(leaks_in("notebook.ipynb", notebook(cell("x", *whole)), "hunter2-hunter2")) == [
        ("cell 1, output 1, stdout", "as it is")
    ]


def test_what_json_hides_from_a_walk_is_found_in_the_file() -> None:
    """A member that stands twice, and what is nested deeper than can be parsed."""
    twice = '{\n"a": "hunter2-hunter2",\n"a": ""}'
    assert told(leaks_in("record.json", twice, "hunter2-hunter2")) == [("line 2", "as it is")]
    deep = "[" * 100_000 + '"hunter2-hunter2"' + "]" * 100_000
    assert told(leaks_in("record.json", deep, "hunter2-hunter2")) == [("line 1", "as it is")]


@pytest.mark.parametrize("content", ["[]", '"x"', '{"cells": 1}', '{"cells": [1, {"outputs": [2, {"data": 3}]}]}', "{"])
def test_a_notebook_that_is_none_is_searched_all_the_same(content: str) -> None:
    assert leaks_in("notebook.ipynb", content, "hunter2-hunter2") == ()
    assert leaks_in("notebook.ipynb", content.replace("1", '"hunter2-hunter2"') + " hunter2-hunter2", "hunter2-hunter2")


def test_names_of_members_and_files_do_not_tell_it() -> None:
    found = leaks_in(
        "hunter2-hunter2/record.json", json.dumps({"hunter2-hunter2": {"a": "hunter2-hunter2"}}), "hunter2-hunter2"
    )
    assert {leak.where for leak in found} == {"the file's name", "the name of a member", "[secret].a"}
    assert "hunter2-hunter2" not in repr(found)


def test_nothing_holds_the_secret() -> None:
    """Neither what is told nor what searches for it."""
    needle = Needle("the secret of p", b"hunter2-hunter2", parameter="p")
    assert "hunter2" not in repr(needle) + repr(list(needle.find(b"hunter2-hunter2")))


def test_no_more_is_told_than_a_person_reads() -> None:
    found = leaks_in("note.txt", "hunter2-hunter2\n" * 1000, "hunter2-hunter2")
    assert [leak.where for leak in found] == [f"line {number}" for number in range(1, MOST_TOLD + 1)]


def test_several_secrets_are_told_apart() -> None:
    found = leaks_in("note.txt", "x7 Kq tyU8 and hunter2-hunter2", "hunter2-hunter2", "x7 Kq tyU8", "", "unseen value")
    assert {leak.what for leak in found} == {"the secret of ca_passphrase", "the secret of p1"}


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("relay", "passphrase: relay"),
        ("relay", 'openssl -passin "pass:relay"'),
        ("relay", "CA_PASSPHRASE='relay'"),
        ("relay", 'the log: {"ca_passphrase": "relay"}'),
        ("relay", "  ca_passphrase   relay"),
        ("relay", "Enter pass phrase for private/cakey.pem: relay"),
        ("relay", "the password is relay."),
        ("relay", "<th>ca_passphrase</th><td>relay</td>"),
        ("relay", "password = &quot;relay&quot;"),
        ("relay", "https://user:relay@mail.example.test/"),
        ("relay", "first\nrelay\nlast"),
        ("relay", "'relay'"),
        ("relay", "it is cmVsYXk= there"),
        ("relay", "cmVsYXkK"),
        ("relay", "of 72:65:6c:61:79 bytes"),
        ("relay", "0x72656c61790a"),
        ("relay", "%72%65%6c%61%79"),
        ("x7Kq", "mail x7Kq was"),
        ("x7Kq", "x7Kq, then"),
        ("x7Kq", "https://user:x7Kq@mail.example.test/"),
        ("x7Kq", '{"a": "b\\nx7Kq\\n"}'),
        ("x7Kq", "?word=%3Dx7Kq%20"),
        ('a"7', 'pwd=a\\"7'),
        ("2468", "password=2468"),
        ("2468", "2468\n"),
        ("--------", "passphrase: --------"),
        ("correcthorsebattery", "astorecorrecthorsebatterystaple"),
    ],
)
def test_a_short_or_ordinary_secret_is_found_where_it_is_a_value(secret: str, text: str) -> None:
    assert leaks_in("note.txt", text, secret)


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("relay", "mail goes to the relay, by relay.example.test and test-relay: relay=root@relay"),
        ("relay", "the passphrase of the relay"),
        ("relay", "relays\nrelayed\nmy-relay\nrelay.example.test\nrelay_1\n/etc/relay/x"),
        ("relay", base64.b64encode(b"mail to relay.example.test").decode()),
        ("relay", b"the relay".hex()),
        ("test", "if test -n x; then test -e /etc/mail; fi"),
        ("secret", "the master secret: none [secret]"),
        ("x7Kq", "ax7Kq x7Kq9 x7Kq-1 x7Kq_ mx.x7Kq.example x7Kq.example"),
        ("2468", "pid 2468, port 2468"),
        ("pw", "pw\n"),
        ("--------", "a\n--------x\n| -------- | -------- |"),
    ],
)
def test_a_short_or_ordinary_secret_is_no_alarm_in_ordinary_text(secret: str, text: str) -> None:
    assert leaks_in("note.txt", text, secret) == ()


def test_words_of_the_program_tell_no_secret() -> None:
    """An outcome and a login are one word each, and were not typed as a value; what stands in a reason was."""
    record = {
        "predicate": {"outcome": "changed", "operator": {"login": "changed"}, "parameters": {"reason": "changed"}}
    }
    assert told(leaks_in("record.json", json.dumps(record), "changed")) == [("predicate.parameters.reason", "as it is")]


def test_what_stands_in_the_runbook_itself_is_ordinary() -> None:
    """A default value shows in every record; the same value after the label of a secret would not be told by it."""
    source = b'roles: str = "both"  # both, server, client\nhostname: str = "relay7.example.test"\n'
    record = json.dumps({"predicate": {"parameters": {"roles": "both", "hostname": "relay7.example.test"}}})
    assert len(leaks_in("record.json", record, "both", "relay7.example.test")) == 2
    assert leaks_in("record.json", record, "both", "relay7.example.test", known_text=source) == ()
    printed = "passphrase: both, password=relay7.example.test"
    assert len(leaks_in("note.txt", printed, "both", "relay7.example.test", known_text=source)) == 2


@pytest.mark.parametrize("secret", ["test", "secret", "changeme", "password", "relay", "both", "correct horse battery"])
def test_no_false_alarm_in_executed_runbooks(secret: str) -> None:
    """They are committed with their outputs from the testbed."""
    for path in sorted(RUNBOOKS.glob("*.ipynb")):
        assert leaks_in(path.name, path.read_bytes(), secret) == ()
        assert leaks_in(path.with_suffix(".html").name, path.read_bytes(), secret) == ()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", ["as it is", "JSON", "JSON in JSON", "HTML", "JSON in HTML", "URL", *BYTE_FORMS])
@pytest.mark.parametrize("line", [KEY_LINE, KEY_LINE.replace("ENCRYPTED ", ""), KEY_LINE.replace("BEGIN", "END")])
def test_a_private_key_is_found(line: str, form: str, container: str) -> None:
    write = TEXT_FORMS.get(form) or (lambda text: BYTE_FORMS[form](text.encode()))
    name, contain, where = CONTAINERS[container]
    found = leaks_in(name, contain(write(f"a\n{line}\nMIIE\n")))
    assert found
    assert all(leak.what == "a private key" and leak.where.startswith(where) for leak in found)
    certificate = line.replace("ENCRYPTED ", "").replace("PRIVATE KEY", "CERTIFICATE")
    assert leaks_in(name, contain(write(f"a\n{certificate}\nMIIE PRIVATE KEY\n"))) == ()


def test_a_real_key_is_found(tmp_path: Path) -> None:
    key = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        capture_output=True,
        check=True,
    )
    (tmp_path / "key.pem").write_bytes(key.stdout)
    assert [leak.where for leak in find_leaks(tmp_path, {})] == ["line 1", f"line {key.stdout.count(10)}"]


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    """A link to a file is read, one to a directory is not gone into, and a named pipe holds nobody up."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "note.txt").write_text("hunter2-hunter2")
    (folder / "file").symlink_to(elsewhere / "note.txt")
    (folder / "directory").symlink_to(elsewhere)
    os.mkfifo(folder / "pipe")
    assert [leak.file for leak in find_leaks(folder, {"p": Secret(b"hunter2-hunter2")})] == ["file"]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    with pytest.raises(FileAccessFailed, match="cannot be searched"):
        find_leaks(tmp_path, {})
    with pytest.raises(FileAccessFailed, match="cannot be searched"):
        find_leaks(tmp_path / "none", {})


@pytest.mark.parametrize("secret", ["correct horse battery", "x7Kq!\\tyU8", "\\u0041bcdefg", "relay", "x7Kq"])
@pytest.mark.parametrize(
    "unit", ["\\", "%25", "&amp;", "relay ", "x7Kq!", "correct ", '"', "d ", "63 ", "{", "\n", " "]
)
def test_the_time_grows_with_the_length_only(secret: str, unit: str) -> None:
    """No text that a host prints makes the search take long: half a megabyte of what patterns begin with."""
    text = unit * (500_000 // len(unit))
    started = time.process_time()
    leaks_in("note.txt", text, secret)
    leaks_in("commands.jsonl", json.dumps({"stdout": text}), secret)
    assert time.process_time() - started < 10
