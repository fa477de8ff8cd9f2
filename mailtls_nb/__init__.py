"""mailtls-nb: runbooks for STARTTLS with a private certificate authority on sendmail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["bind"]

if TYPE_CHECKING:
    from mailtls_nb.run import bind


def __getattr__(name: str) -> Any:
    # Notebooks import bind from here; whoever imports one module of the package need not load all of it.
    if name == "bind":
        from mailtls_nb.run import bind

        return bind
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
