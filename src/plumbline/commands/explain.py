"""`plumbline explain`: print what a code in a report means, its usual causes, and what to do."""

import argparse
import difflib
import re
import shutil
from collections.abc import Iterator
from itertools import groupby

from plumbline.commands.base import CommandError
from plumbline.commands.output import say
from plumbline.project import EXIT_PASS, EXIT_USAGE, nox_command
from plumbline.reporting.reasons import Page, code_of, pages, wrapped

EXAMPLE = "plumbline explain count_grown"
_WIDEST = 100
_SEE = re.compile(r"\bSee\s+`(\w+)`")  # a page that another one sends to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "code", nargs="*", metavar="CODE", help="code of a reason, a verdict or an exit (default: list all codes)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the pages of the codes, or the list of all codes; raises CommandError if there is no such code."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    name = " ".join(options.code)
    if not name:
        say("\n".join(_listed(width)))
        return EXIT_PASS
    if not (found := _found(name)):
        near = difflib.get_close_matches(code_of(name), pages(), n=3)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise CommandError(f"there is no code {name!r}: {guess}`plumbline explain` lists all codes", EXIT_USAGE)
    found += [
        page for code in _SEE.findall("".join(page.text for page in found)) if (page := pages()[code]) not in found
    ]
    texts = (page.text.replace("nox -s", f"{nox_command()} -s") for page in found)
    titles = (f"{page.code} ({page.group.lower()})" for page in found)
    say("\n\n\n".join(f"{title}\n\n{wrapped(text, width)}" for title, text in zip(titles, texts, strict=True)))
    return EXIT_PASS


def _found(name: str) -> list[Page]:
    """Return the page of one code, or those of several with spaces or commas between them; [] if one is unknown."""
    one = pages().get(code_of(name))
    several = [pages().get(code_of(part)) for part in name.replace(",", " ").split()]
    found = [page for page in ([one] if one else several) if page]
    return found if one or len(found) == len(several) else []


def _listed(width: int) -> Iterator[str]:
    yield "`plumbline explain CODE` prints what a code means and what to do."
    indent = " " * (4 + max(map(len, pages())))
    for group, some in groupby(pages().values(), key=lambda page: page.group):
        yield f"\n{group}"
        for page in some:
            yield wrapped(f"  {page.code}".ljust(len(indent)) + page.summary, width, indent)
