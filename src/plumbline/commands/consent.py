"""Ask before something is written."""

import contextlib
import sys

from plumbline.commands.base import CommandError
from plumbline.commands.output import say
from plumbline.project import EXIT_USAGE


def may_write(question: str, command: str, *, yes: bool) -> bool:
    """Return whether the user agrees. `command` writes without a question. Raises CommandError without a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError(f"nothing was written: run this in a terminal, or run `{command}`", EXIT_USAGE)
    if says_yes(question):
        return True
    say("nothing was written")
    return False


def says_yes(question: str) -> bool:
    """Return whether the answer is yes. The end of the input is a no."""
    with contextlib.suppress(EOFError):
        return input(f"\n{question} [y/N] ").strip().lower() in ("y", "yes")
    return False
