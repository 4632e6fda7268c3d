"""`plumbline report`: show the last results again, or export them for another tool."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from plumbline.commands.base import RESULTS, CommandError, Project
from plumbline.commands.output import last_results, load_tests, make_room, report, say
from plumbline.commands.recording import problem_lines, push_run, read_history
from plumbline.judging.shards import Part, merge_shards
from plumbline.loading.results import as_text
from plumbline.project import EXIT_INVALID, EXIT_PASS, EXIT_USAGE, SETTINGS
from plumbline.reporting import exports, llm, otava
from plumbline.results.files import ResultsError, read_results, redacted, write_whole
from plumbline.settings_file import settings_hash

EXAMPLE = "plumbline report --format llm"
OTAVA = "otava"  # exports the history, and not the last results
_FORMATS = {"llm": llm.render, **exports.FORMATS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="DIR", help="judge a whole run by the results of its shards"
    )
    parser.add_argument(
        "--push-history",
        action="store_true",
        help="add the last run to the branch of the history (default: plumbline-data)",
    )
    others = ", ".join([*exports.FORMATS, OTAVA])
    parser.add_argument("--format", metavar="NAME", help=f"llm: text for a language model; for other tools: {others}")
    parser.add_argument("--output", type=Path, metavar="PATH", help="file for --format; printed by default")


def run(project: Project, options: argparse.Namespace) -> int:
    if options.push_history:
        if options.merge or options.format or options.output:
            raise CommandError("--push-history goes without other options", EXIT_USAGE)
        say(push_run(project, redacted(last_results(project.results), project.scrub)))
        return EXIT_PASS
    if options.merge:
        if options.format or options.output:
            raise CommandError("--merge goes without --format and --output: export afterwards", EXIT_USAGE)
        return _merge(project, options.merge)
    if options.format is None:
        if options.output:
            raise CommandError("--output goes with --format", EXIT_USAGE)
        return report(project, last_results(project.results), html=True, keep=False, with_load=True)
    if options.format == OTAVA:
        history = read_history(project, most=None)
        sys.stderr.writelines(f"{line}\n" for line in problem_lines(history))
        text = otava.render(history.runs)
    elif options.format in _FORMATS:
        results = redacted(last_results(project.results), project.scrub)
        text = _FORMATS[options.format](results)
        if options.format == "llm":
            loads, problems = load_tests(project, results)
            text += "".join(f"{line}\n" for line in [*(f"\nload test\n{as_text(one)}" for one in loads), *problems])
    else:
        raise CommandError(f"there is no format {options.format!r}: {', '.join([*_FORMATS, OTAVA])}", EXIT_USAGE)
    if options.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(
            f"{text.rstrip(chr(10))}\n".encode(errors="replace")
        )  # whatever the locale, as in a file
    else:
        write_whole(options.output, text)
    return EXIT_PASS


def _merge(project: Project, folders: Sequence[Path]) -> int:
    """Judge a whole run by the results of its shards, and write its reports."""
    parts, unreadable = list[Part](), list[str]()
    for folder in folders:
        inside = (folder / RESULTS, folder / project.settings.results / RESULTS)  # as pipelines keep the folder
        path = next((path for path in inside if path.is_file()), inside[0])
        if path.resolve() == (project.results / RESULTS).resolve():
            raise CommandError(f"{folder} is where the merged report is written: move that shard's results", EXIT_USAGE)
        try:
            found = read_results(path)
        except FileNotFoundError:
            unreadable.append(f"there is no {path}")
        except ResultsError as error:
            unreadable.append(str(error))
        else:
            if found.shard is None:
                unreadable.append(f"{path} is not of a shard: run `ci` with --shard")
            else:
                parts.append(Part(str(folder), found, found.shard))
    if not parts:
        raise CommandError("\n".join(["nothing can be merged:", *unreadable]), EXIT_INVALID)
    with make_room(project.results):
        here = settings_hash(project.suite / SETTINGS)
    results = merge_shards(parts, unreadable, settings_hash=here, fail_on=project.settings.gate.fail_on)
    return report(project, results, html=True, keep=True)
