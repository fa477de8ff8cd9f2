"""Secrets: values with no text form, and the references that name them.

A reference is what a parameter may hold: ``env:NAME``, ``file:PATH``, ``prompt`` or ``testbed``. A value
never stands in a parameter, because parameters are written down in notebooks, logs and process lists.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Literal, NoReturn

from mailtls_nb.errors import BadParameter

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Secret:
    """Bytes that cannot be printed, compared, copied or pickled by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself: hand it to a library call or a program's standard input, nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


@dataclass(frozen=True)
class SecretReference:
    """Where a secret is to be found. Its text form is safe to write down."""

    parameter: str
    kind: Literal["env", "file", "prompt", "testbed"]
    where: str = ""

    @classmethod
    def parse(cls, parameter: str, text: str) -> SecretReference:
        """Read a reference; raises BadParameter for a literal, without repeating it."""
        if text == "prompt":
            return cls(parameter, "prompt")
        if text == "testbed":
            return cls(parameter, "testbed")
        kind, separator, where = text.partition(":")
        if separator and kind == "env" and _ENVIRONMENT_NAME.fullmatch(where):
            return cls(parameter, "env", where)
        if separator and kind == "file" and where:
            if not Path(where).is_absolute():
                raise BadParameter(parameter, f"file:{where} is a relative path", do="give the whole path")
            return cls(parameter, "file", where)
        raise BadParameter(
            parameter,
            "is not a reference to a secret (its value is not repeated here)",
            do="give env:NAME, file:PATH or prompt; a secret itself would be written down in the notebook, "
            "the record and the process list",
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}" if self.where else self.kind

    def resolve(self, testbed_secret: Callable[[], Secret]) -> Secret:
        """Fetch the secret; raises BadParameter when there is none. A file's trailing newline is not part of it."""
        match self.kind:
            case "env":
                value = os.environ.get(self.where, "").encode()
                if not value:
                    raise BadParameter(self.parameter, f"the environment variable {self.where} is not set or is empty")
                return Secret(value)
            case "file":
                try:
                    content = Path(self.where).read_bytes()
                except OSError as error:
                    raise BadParameter(self.parameter, f"{self.where}: {error.strerror}") from error
                content = content.removesuffix(b"\n").removesuffix(b"\r")
                if not content:
                    raise BadParameter(self.parameter, f"{self.where} is empty")
                return Secret(content)
            case "prompt":
                if not sys.stdin or not (sys.stdin.isatty() or _in_interactive_notebook()):
                    raise BadParameter(
                        self.parameter, "prompt needs a person at the keyboard", do="give env:NAME or file:PATH"
                    )
                value = getpass(f"{self.parameter}: ").encode()
                if not value:
                    raise BadParameter(self.parameter, "nothing was typed")
                return Secret(value)
            case "testbed":
                return testbed_secret()


def _in_interactive_notebook() -> bool:
    # ipykernel replaces getpass by one that asks in the page; headless runs set this variable.
    return "ipykernel" in sys.modules and "MAILTLS_HEADLESS" not in os.environ
