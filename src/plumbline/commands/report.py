"""`plumbline report`: show the last results again, or export them for another tool."""

import argparse
import sys
from pathlib import Path

from plumbline.commands.base import CommandError, Project
from plumbline.commands.output import last_results, report
from plumbline.project import EXIT_PASS, EXIT_USAGE
from plumbline.reporting import exports, llm
from plumbline.results.files import redacted, write_whole

EXAMPLE = "plumbline report --format llm"
_FORMATS = {"llm": llm.render, **exports.FORMATS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    others = ", ".join(exports.FORMATS)
    parser.add_argument("--format", metavar="NAME", help=f"llm: text for a language model; for other tools: {others}")
    parser.add_argument("--output", type=Path, metavar="PATH", help="file for --format; printed by default")


def run(project: Project, options: argparse.Namespace) -> int:
    if options.format is None:
        if options.output:
            raise CommandError("--output goes with --format", EXIT_USAGE)
        return report(project, last_results(project.results), html=True, keep=False)
    if options.format not in _FORMATS:
        raise CommandError(f"there is no format {options.format!r}: {', '.join(_FORMATS)}", EXIT_USAGE)
    text = _FORMATS[options.format](redacted(last_results(project.results), project.scrub))
    if options.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(
            f"{text.rstrip(chr(10))}\n".encode(errors="replace")
        )  # whatever the locale, as in a file
    else:
        write_whole(options.output, text)
    return EXIT_PASS
