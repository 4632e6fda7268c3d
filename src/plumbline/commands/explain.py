"""`plumbline explain`: print what a code in a report means, its usual causes, and what to do."""

import argparse
import difflib
import shutil
from collections.abc import Iterator
from itertools import groupby

from plumbline.commands.base import CommandError
from plumbline.commands.output import say
from plumbline.project import EXIT_PASS, EXIT_USAGE, nox_command
from plumbline.reporting.reasons import code_of, pages, wrapped

EXAMPLE = "plumbline explain count_grown"
_WIDEST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "code", nargs="*", metavar="CODE", help="code of a reason, verdict or exit; without one, all codes are listed"
    )


def run(options: argparse.Namespace) -> int:
    """Print one page, or the list of all codes; raises CommandError if there is no such code."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    name = " ".join(options.code)
    if not name:
        say("\n".join(_listed(width)))
        return EXIT_PASS
    if (page := pages().get(code_of(name))) is None:
        near = difflib.get_close_matches(code_of(name), pages(), n=3)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise CommandError(f"there is no code {name!r}: {guess}`plumbline explain` lists all codes", EXIT_USAGE)
    text = page.text.replace("nox -s", f"{nox_command()} -s")
    say(f"{page.code} ({page.group.lower()})\n\n{wrapped(text, width)}")
    return EXIT_PASS


def _listed(width: int) -> Iterator[str]:
    yield "`plumbline explain CODE` prints what a code means and what to do."
    indent = " " * (4 + max(map(len, pages())))
    for group, some in groupby(pages().values(), key=lambda page: page.group):
        yield f"\n{group}"
        for page in some:
            yield wrapped(f"  {page.code}".ljust(len(indent)) + page.summary, width, indent)
