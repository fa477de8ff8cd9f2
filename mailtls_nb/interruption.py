"""SIGTERM and a lost terminal end a run the way Ctrl-C does: the cell is interrupted and can put things back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's."""


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise Terminated; a signal that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    former = {number: signal.signal(number, _raise) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(f"ended by {signal.Signals(number).name}")
