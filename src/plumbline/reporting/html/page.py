"""The whole page; report.js sorts its table, filters its benchmarks and draws its plots with Vega-Lite."""

import functools
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import vl_convert

from plumbline.cache import digest, make_once, state_folder
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.details import details
from plumbline.reporting.html.document import document
from plumbline.reporting.html.elements import (
    Markup,
    dumped,
    folded,
    listed,
    section,
    table,
    tag,
    verbatim,
)
from plumbline.reporting.html.overview import overview
from plumbline.reporting.html.verdict import verdict
from plumbline.results.history import Run
from plumbline.results.schema import Results

_NOTICE = "/* Vega, Vega-Lite, vega-embed: University of Washington Interactive Data Lab, BSD 3-Clause License */\n"


def render(
    results: Results,
    baseline: Results | None,
    history: Sequence[Results],
    branch: Sequence[Run] = (),
    beside: Sequence[Markup] = (),
) -> str:
    """Return the page.

    `history` holds earlier runs, and `branch` the history of the default branch, oldest first. `beside`: sections of
    other tests.
    """
    measured = f"{results.project or 'performance'} {results.environment.commit[:7]}"
    title = f"{content.title(results)}: {measured}"
    runs = [
        [run.created, run.environment.commit, run.verdict or "", run.baseline_commit] for run in [*history, results]
    ]
    data = dumped([list(map(form.plain, run)) for run in runs]).replace("<", "\\u003c")
    failed = (
        tag("article", tag("h3", tag("bdi", test.key)), verbatim(form.first_lines(test.message, 20)))
        for test in content.failed_tests(results)
    )
    sections = [
        section("Failed tests", *failed),
        *beside,
        section("Notes", listed(content.notes(results) + content.skipped_tests(results))),
        *_benchmarks(results, baseline, history, branch),
        _environment(results),
        _history(history),
    ]
    return document(
        title,
        tag("a", "Skip to the benchmarks", class_="skip", href="#benchmarks"),
        verdict(results),
        tag("main", *sections),
        Markup(f'<script type="application/json" id="runs">{data}</script>'),
        script=script(),
    )


@functools.cache
def script() -> str:
    """Return report.js with Vega, Vega-Lite and vega-embed, from the cache if there is one: it takes two seconds."""
    source = Path(__file__).with_name("report.js").read_text(encoding="utf-8")

    def bundle() -> str:
        text = _NOTICE + str(vl_convert.javascript_bundle(source))
        # Without anything that would end its element.
        return text.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")

    def write(folder: Path) -> None:
        (folder / "report.js").write_text(bundle(), encoding="utf-8")

    try:
        made = make_once(state_folder() / "vega", digest(version("vl-convert-python"), source), write)
        return (made / "report.js").read_text(encoding="utf-8")
    except OSError:
        return bundle()


def _benchmarks(
    results: Results, baseline: Results | None, history: Sequence[Results], branch: Sequence[Run]
) -> Iterable[Markup]:
    """Yield the table of all benchmarks, and each of them with its details."""
    if not results.benchmarks:
        yield section("Benchmarks", tag("p", "Nothing was measured."), id="benchmarks")
        return
    runs = [{one.key: one for one in run.benchmarks} if run else {} for run in [baseline, *history]]
    entries = []
    for number, benchmark in enumerate(content.by_urgency(results.benchmarks)):
        others = [run.get(benchmark.key) or run.get(benchmark.renamed_from) for run in runs]
        entries.append(details(results, number, benchmark, others, branch))
    without = tag("p", "Plots, search and sorting need JavaScript. All figures are in the tables.", class_="quiet")
    yield tag(
        "section",
        tag("h2", "Benchmarks"),
        overview(results),
        tag("noscript", without),
        id="benchmarks",
        tabindex="-1",
        aria_label="Benchmarks",
    )
    unfold = tag("button", "Open all", type="button", id="unfold", hidden=True)
    yield section("Details", unfold, *entries, id="details")


def _environment(results: Results) -> Markup:
    packages = sorted(results.environment.packages.items())
    known = content.environment(results) | ({"baseline": results.baseline} if content.compared(results) else {})
    return section(
        "Environment",
        listed(results.service_lines),
        listed(results.baseline_differences, "Differences from the baseline"),
        listed(results.base_differences, "Differences from the base"),
        table("Machine, services and commit", ["property", "this run"], list(known.items())),
        folded(f"Packages ({len(packages):,})", table("Packages", ["package", "version"], packages)),
    )


def _history(history: Sequence[Results]) -> Markup:
    columns = ["run", "commit", "verdict", "baseline recorded at", "benchmarks"]
    rows = []
    for run in reversed(history):
        commits = run.environment.commit[:7], run.baseline_commit[:7]
        rows.append([run.created, commits[0], run.verdict or "", commits[1], f"{len(run.benchmarks):,}"])
    found = table("Earlier runs, newest first", columns, rows, figures=columns[-1:])
    return section("History", folded(f"Earlier runs ({len(rows):,})", found))
