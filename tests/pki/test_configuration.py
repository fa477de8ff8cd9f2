"""openssl.cnf: read as openssl reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.configuration import configured_layout, openssl_cnf, parse, yes_or_no


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("x = plain value  # comment", "plain value"),
        ("x = $a/b", "A/b"),
        ("x = ${a}b$(a)", "AbA"),
        ("x = $other::c", "C"),
        ("x = $ENV::HOME/ca", "/root/ca"),
        ("x = $fallback", "F"),
        (r"x = a\#b\$c\\d\te", "a#b$c\\d\te"),
        ('x = "quoted # $a" and \'single "q"\'', 'quoted # $a and single "q"'),
        ("x = one \\\n  two", "one   two"),
        ("s::x = $a", "A"),
        ("x =", ""),
    ],
)
def test_values(line: str, value: str) -> None:
    text = f"fallback = F\n.include nothing\n[other]\nc = C\n[ s ]\na = A\n{line}\n"
    assert parse(text, {"HOME": "/root"})["s"]["x"] == value


def test_errors_name_the_line() -> None:
    for text in ("[a]\nb \\\n = 1\nc = $absent\n", "[a]\n\n\nno equals sign\n"):
        with pytest.raises(CADirectoryError, match="line 4"):
            parse(text, {})


def test_what_describes_no_ca_is_refused(tmp_path: Path) -> None:
    for text, words in (
        ("[req]\n", "describes no CA"),
        ("[ca]\ndefault_ca = absent\n", "describes no CA"),
        ("[ca]\ndefault_ca = c\n[c]\ndatabase = x\n", "new_certs_dir missing"),
    ):
        with pytest.raises(CADirectoryError, match=words):
            configured_layout(tmp_path, parse(text, {}))


def test_our_own_names_the_directory_whatever_its_name() -> None:
    path = Path('/srv/a # "b" $x \\ \' \u00fc')
    text = openssl_cnf(path, unique_subject=True, random_serials=False, digest="sha256")
    (layout,) = configured_layout(path, parse(text, {}))
    assert layout.certificate == path / "cacert.pem"
    assert layout.unique_subject


def test_yes_and_no_by_the_first_letter() -> None:
    assert [yes_or_no(word) for word in ("yes", "true", "1", "?")] == [True] * 4
    assert [yes_or_no(word) for word in ("no", "False", "0", "n")] == [False] * 4
