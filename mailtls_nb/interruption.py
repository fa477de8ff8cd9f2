"""Signals that ask a process to end: how they interrupt what is at work, and how they wait for what must not be."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_Handler = Callable[[int, FrameType | None], object]


# What came within interruption_deferred.
_deferred: list[list[int]] = []


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C's."""


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise Terminated, as Ctrl-C raises KeyboardInterrupt."""
    with _handled((signal.SIGTERM, signal.SIGHUP), _raise):
        yield


@contextmanager
def one_interruption() -> Iterator[None]:
    """Within, the first SIGINT, SIGTERM or SIGHUP interrupts, and later ones do nothing.

    What puts things back after an interruption is not interrupted in its turn: by an impatient person, or by a
    service manager that signals every process of a run, of which one passes the signal on.
    """
    came = False

    def once(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            _raise(number, frame)

    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), once):
        yield


@contextmanager
def interruption_deferred() -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP only wait: the last that came interrupts at the end, whatever it is about."""
    came: list[int] = []
    _deferred.append(came)
    try:
        with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, _frame: came.append(number)):
            yield
    finally:
        _deferred.remove(came)
    if came:
        _raise(came[-1], None)


def interrupt_if_asked() -> None:
    """Interrupt now, where an interruption was deferred: for what only waits, and has begun nothing yet."""
    if _deferred and _deferred[-1]:
        _raise(_deferred[-1][-1], None)


@contextmanager
def no_interruption() -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP do nothing: for what is short and has to be brought to its end."""
    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda _number, _frame: None):
        yield


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: _Handler) -> Iterator[None]:
    """Handle the signals; one that is ignored (nohup) stays ignored, and threads are not asked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # None: a handler that Python did not set, and could not put back.
    asked = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    former = {number: signal.signal(number, handler) for number in asked}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(f"ended by {signal.Signals(number).name}")
