"""Pictures for notebooks: SVG on a transparent ground, with a text that says the same to whoever does not see them.

matplotlib is imported only when a picture is drawn: it takes a second, and most runs draw none.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mailtls_nb.sendmail.impact import Impact, PeerImpact

# Legible on white and on black, with at least 4.5:1 for the text; and told apart without seeing colours by their
# lightness and a hatching.
_TEXT = "#767676"
_SERIES = (("accepted", "#3d8f6d", ""), ("cannot be told", "#c9a227", ""), ("refused", "#b3352e", "/"))
_BAR_HEIGHT_INCHES = 0.38
_WIDTH_INCHES = 7.5
_LONGEST_LABEL = 46


@dataclass(frozen=True)
class Picture:
    """An SVG document, and what it shows in words."""

    svg: str
    alternative: str


def impact_chart(impact: Impact, *, most: int = 12) -> Picture | None:
    """A bar for each peer concerned, of its messages that would be accepted, refused, or cannot be told.

    Beyond ``most`` peers those with fewest refused are left out, which the text says. None where no peer is concerned.
    The same numbers give the same bytes.
    """
    peers = tuple(peer for peer in impact.concerned if peer.messages)
    shown = peers[:most]
    if not shown:
        return None
    title = "Messages by peer, had the rule been in force"
    rows = [f"{_label(peer)}: " + ", ".join(f"{count} {word}" for word, count in _counts(peer)) for peer in shown]
    if len(peers) > most:
        rows.append(f"{len(peers) - most} more peers are not shown")
    alternative = f"{title}. " + "; ".join(rows) + "."
    return Picture(_with_title(_draw(shown, title), title, alternative), alternative)


def _counts(peer: PeerImpact) -> tuple[tuple[str, int], ...]:
    return tuple(zip((name for name, _, _ in _SERIES), (peer.accepted, peer.undecided, peer.refused), strict=True))


def _label(peer: PeerImpact) -> str:
    words = {"server": "from", "client": "to", "recipient": "for"}
    return f"{words[peer.direction]} {peer.name}"


def _draw(peers: Sequence[PeerImpact], title: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context():
        # A person's own settings would change the bytes, as would the random names of the SVG's parts without a salt.
        matplotlib.rcdefaults()
        # Text stays text. A name may hold a dollar sign.
        matplotlib.rcParams.update({"svg.hashsalt": "mailtls-nb", "svg.fonttype": "none", "text.parse_math": False})
        height = _BAR_HEIGHT_INCHES * len(peers) + 1.3
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        axes = figure.add_subplot()
        labels = [_shortened(_label(peer)) for peer in peers]
        positions = range(len(peers))
        ends = [0] * len(peers)
        for number, (name, colour, hatch) in enumerate(_SERIES):
            counts = [_counts(peer)[number][1] for peer in peers]
            axes.barh(
                positions, counts, left=ends, height=0.7, label=name, color=colour, hatch=hatch, edgecolor="#ffffff80"
            )
            ends = [end + count for end, count in zip(ends, counts, strict=True)]
        for position, end in zip(positions, ends, strict=True):
            axes.annotate(
                f"{end:,}", (end, position), (3, 0), textcoords="offset points", va="center", color=_TEXT, fontsize=9
            )
        axes.set_yticks(positions, labels)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("messages", color=_TEXT)
        axes.set_title(title, color=_TEXT, loc="left", fontsize=11)
        axes.tick_params(colors=_TEXT, labelcolor=_TEXT)
        axes.patch.set_alpha(0)
        for side in axes.spines.values():
            side.set_visible(False)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, labelcolor=_TEXT)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _with_title(svg: str, title: str, alternative: str) -> str:
    """The document from its root element on, which says to screen readers what it shows (SVG 2, 5.7 and SVG-AAM)."""
    root = re.search(r"<svg [^>]*>", svg)
    assert root is not None  # noqa: S101 - matplotlib wrote it
    opening = f'{root[0][:-1]} role="img" aria-label="{escape(alternative)}">\n <title>{escape(title)}</title>'
    return opening + svg[root.end() :]


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
