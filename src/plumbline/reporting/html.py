"""The results as one HTML file that needs no network; report.js draws its plots."""

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from plumbline.reporting import content, html_benchmark, markup, wording
from plumbline.reporting import format as form
from plumbline.reporting.markup import Content, Markup, capitalised, folded, listed, section, sign, table, tag, titled
from plumbline.reporting.vega import library
from plumbline.results.schema import Results

# Benchmarks that fail the run are open, but no more than this: the others are a click away.
_MOST_OPEN = 10
# Different in every run, so not marked as different from the baseline's.
_ALWAYS_DIFFERENT = {"commit", "recorded", "profile"}


def render(results: Results, baseline: Results | None, history: Sequence[Results]) -> str:
    """Return the page; `history` holds earlier runs, the oldest first."""
    title = f"{capitalised(content.headline(results))}: performance of {results.environment.commit[:7]}"
    sections = [
        _failed_tests(results),
        section("Notes", listed(content.notes(results))),
        _benchmarks(results, _entries(results, baseline, history)),
        _environment(results, baseline),
        _history(results, history),
    ]
    return _document(title, [_verdict(results), tag("main", *sections), _runs(results, history)])


def _document(title: str, body: Iterable[Content]) -> str:
    scripts = [_inert(library()), _inert(_file("report.js"))]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Markup(_file("report.css"))),
    )
    skip = tag("a", "Skip to the benchmarks", class_="skip", href="#benchmarks")
    page = tag("body", skip, *body, *(tag("script", Markup(script)) for script in scripts))
    return f"<!doctype html>\n{tag('html', head, page, lang='en')}\n"


@functools.cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _inert(script: str) -> str:
    """Return a script without anything that would end its element."""
    return script.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _verdict(results: Results) -> Markup:
    headline = content.headline(results)
    tone, mark = html_benchmark.tone(headline)
    if content.all_well(results):
        tone, mark = "good", "✓"
    elif results.exit_code:
        tone, mark = "bad", "✕"
    step = content.next_step(results)
    first, *others = [wording.text(reason) for reason in results.reasons] or [""]
    compared = f"Compared with the baseline {results.baseline.rpartition('/')[2]}{_recorded(results)}."
    return tag(
        "header",
        tag("h1", sign(mark), capitalised(headline), class_=tone),
        tag("p", first, class_="reason") if first else None,
        *(tag("p", reason) for reason in others),
        tag("p", f"{content.summary(results)}."),
        tag("p", content.exit_line(results)) if content.exit_line(results) else None,
        tag("p", "Next: ", tag("code", step[0]), f" {step[1]}.") if step else None,
        tag("p", compared if content.compared(results) else "There is no baseline to compare with.", class_="quiet"),
        tag("p", f"Compared in pairs with {results.base}.", class_="quiet") if results.base else None,
    )


def _recorded(results: Results) -> str:
    commit = f" at {results.baseline_commit[:7]}" if results.baseline_commit else ""
    day = f" on {results.baseline_created[:10]}" if results.baseline_created else ""
    return f", recorded{commit}{day}" if commit or day else ""


def _failed_tests(results: Results) -> Content:
    articles = (
        tag("article", tag("h3", markup.name(test.key)), markup.verbatim(form.first_lines(test.message, 20)))
        for test in content.failed_tests(results)
    )
    return section("Failed tests", *articles)


def _entries(results: Results, baseline: Results | None, history: Sequence[Results]) -> list[Markup]:
    recorded = {entry.key: entry for entry in baseline.benchmarks} if baseline else {}
    earlier = [{entry.key: entry for entry in run.benchmarks} for run in history]
    entries = []
    for number, benchmark in enumerate(content.by_urgency(results.benchmarks)):
        keys = [key for key in (benchmark.key, benchmark.renamed_from) if key]
        others = [next((run[key] for key in keys if key in run), None) for run in [recorded, *earlier]]
        may_open = number < _MOST_OPEN
        entries.append(html_benchmark.entry(results, benchmark, others, f"b{number}", may_open=may_open))
    return entries


def _benchmarks(results: Results, entries: list[Markup]) -> Content:
    if not entries:
        return section("Benchmarks", tag("p", "Nothing was measured."), id="benchmarks")
    against = "the base, if it was compared in pairs, otherwise the baseline" if results.base else "the baseline"
    legend = (
        f"Change of the median against {against}, with its interval; right is slower. The shaded band reaches from the "
        "tolerance to the minimum effect: a regression lies right of its left edge, a pass left of its right "
        "edge. More than 60 % is drawn at the edge. The list below has the same figures."
    )
    changes = tag(
        "section",
        tag("h2", "Changes"),
        _filter(results),
        tag("p", legend, class_="quiet"),
        tag("div", id="forest"),
        tag("noscript", tag("p", "Plots, search and filter need JavaScript; all figures are in the tables.")),
    )
    found = tag("section", tag("h2", "Benchmarks"), *entries, id="benchmarks", tabindex="-1", aria_label="Benchmarks")
    return Markup(changes + found)


def _filter(results: Results) -> Markup:
    counts = Counter(content.verdict(benchmark) or "not judged" for benchmark in results.benchmarks)
    options = [
        ("", "all", len(results.benchmarks)),
        ("notable", "needs attention", sum(map(content.is_notable, results.benchmarks))),
        *((verdict, verdict, count) for verdict, count in counts.most_common()),
    ]
    choices = (tag("option", f"{text} ({count:,})", value=value) for value, text, count in options if count)
    search = tag("input", type="search", id="search", autocomplete="off", placeholder="name, file or description")
    return tag(
        "form",
        tag("label", "Search ", search),
        tag("label", "Verdict ", tag("select", *choices, id="verdict")),
        tag("button", "Open all", type="button", id="unfold"),
        tag("output", id="shown", role="status"),
        role="search",
    )


def _environment(results: Results, baseline: Results | None) -> Content:
    packages = dict(sorted(results.environment.packages.items()))
    old = baseline.environment.packages if baseline else {}
    return section(
        "Environment",
        listed(results.service_lines),
        titled("Differences from the baseline", listed(results.baseline_differences)),
        titled("Differences from the base", listed(results.base_differences)),
        _beside(
            "Machine, services and commit",
            content.environment(results),
            content.environment(baseline) if baseline else {},
        ),
        folded(f"Packages ({len(packages | {**old}):,})", _beside("Packages", packages, old)),
    )


def _beside(caption: str, now: Mapping[str, str], then: Mapping[str, str]) -> Content:
    """Return a table of values in this run and, if there are any, in the baseline."""
    names = [name for name in {**now, **then} if now.get(name) or then.get(name)]
    rows = [[name, now.get(name, ""), *([then.get(name, "")] if then else [])] for name in names]
    marked = {name for name in names if then and now.get(name) != then.get(name)} - _ALWAYS_DIFFERENT
    return table(caption, ["property", "this run", *(["baseline"] if then else [])], rows, marked=marked)


def _history(results: Results, history: Sequence[Results]) -> Content:
    if not history:
        return section("History", tag("p", "There are no earlier runs."))
    recorded_at = {run.baseline_commit for run in [*history, results]} - {""}
    rows = [
        [
            run.created,
            run.environment.commit[:7] + (", a baseline's" if run.environment.commit in recorded_at else ""),
            run.verdict or "",
            run.baseline_commit[:7],
            f"{len(run.benchmarks):,}",
        ]
        for run in reversed(history)
    ]
    columns = ["run", "commit", "verdict", "baseline recorded at", "benchmarks"]
    runs = table("Earlier runs, newest first", columns, rows)
    return section("History", folded(f"Earlier runs ({len(rows):,})", runs))


def _runs(results: Results, history: Sequence[Results]) -> Markup:
    """Created, commit, verdict and the baseline's commit of each run, this one last."""
    fields = ((run.created, run.environment.commit, run.verdict or "", run.baseline_commit) for run in history)
    own = (results.created, results.environment.commit, results.verdict or "", results.baseline_commit)
    return markup.data("runs", [[form.plain(text) for text in run] for run in [*fields, own]])
