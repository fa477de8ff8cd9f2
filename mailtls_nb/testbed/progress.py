"""What the set-up of the testbed says while it works: one line a stage, on standard error."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from mailtls_nb.errors import SetUpError

_LINES_KEPT = 20


def say(line: str) -> None:
    """Print one line about a stage that begins."""
    print(f"testbed: {line}", file=sys.stderr, flush=True)


def run_stage(argv: Sequence[str], stage: str, *, env: Mapping[str, str] | None = None, do: str = "") -> None:
    """Run a long command: says the stage in one line and shows, on a terminal only, that it goes on.

    Raises SetUpError with the last lines that the command printed.
    """
    say(stage)
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    with (
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        ) as process,
        tqdm(desc=f"  {argv[0]}", unit=" lines", disable=None, leave=False) as bar,
    ):
        assert process.stdout is not None  # noqa: S101 (PIPE was asked for)
        for line in process.stdout:
            last.append(line.rstrip())
            bar.update()
    if process.returncode != 0:
        raise SetUpError(
            f"{stage}: {argv[0]} ended with status {process.returncode}: " + "\n  ".join(["", *last]), do=do
        )
