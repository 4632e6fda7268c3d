"""The results as one HTML file that needs no network; report.js draws its plots with Vega-Lite."""

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import vl_convert

from plumbline.cache import digest, make_once, state_folder
from plumbline.reporting import content, html_benchmark, markup, wording
from plumbline.reporting import format as form
from plumbline.reporting.markup import Markup, folded, listed, section, table, tag
from plumbline.results.schema import Results

# Benchmarks that fail the run are open, but no more than this: the others are a click away.
_MOST_OPEN = 10
# Different in every run, so not marked as different from the baseline's.
_ALWAYS_DIFFERENT = {"commit", "recorded", "profile"}
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_NOTICE = "/* Vega, Vega-Lite, vega-embed: University of Washington Interactive Data Lab, BSD 3-Clause License */\n"


def render(results: Results, baseline: Results | None, history: Sequence[Results]) -> str:
    """Return the page; `history` holds earlier runs, the oldest first."""
    every = [*history, results]
    runs = [[run.created, run.environment.commit, run.verdict or "", run.baseline_commit] for run in every]
    data = markup.dumped([list(map(form.plain, run)) for run in runs]).replace("<", "\\u003c")
    failed = (
        tag("article", tag("h3", tag("bdi", test.key)), markup.verbatim(form.first_lines(test.message, 20)))
        for test in content.failed_tests(results)
    )
    sections = [
        section("Failed tests", *failed),
        section("Notes", listed(content.notes(results))),
        _benchmarks(results, baseline, history),
        _environment(results, baseline),
        _history(results, history),
    ]
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts())
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"{content.headline(results).capitalize()}: performance of {results.environment.commit[:7]}"),
        tag("style", Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        tag("a", "Skip to the benchmarks", class_="skip", href="#benchmarks"),
        _verdict(results),
        tag("main", *sections),
        Markup(f'<script type="application/json" id="runs">{data}</script>'),
        *(tag("script", Markup(script)) for script in scripts()),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


@functools.cache
def scripts() -> list[str]:
    """Return Vega and report.js, without anything that would end their elements."""
    texts = [_vega(), Path(__file__).with_name("report.js").read_text(encoding="utf-8")]
    return [text.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--") for text in texts]


def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed, from the cache if there is one: bundling takes two seconds."""

    def bundle() -> str:
        return _NOTICE + str(vl_convert.javascript_bundle(_SNIPPET))

    def write(folder: Path) -> None:
        (folder / "vega.js").write_text(bundle(), encoding="utf-8")

    try:
        made = make_once(state_folder() / "vega", digest(version("vl-convert-python"), _SNIPPET), write)
        return (made / "vega.js").read_text(encoding="utf-8")
    except OSError:
        return bundle()


def _verdict(results: Results) -> Markup:
    headline = content.headline(results)
    tone = "good" if content.all_well(results) else "bad" if results.exit_code else html_benchmark.TONES.get(headline)
    reasons = [wording.text(reason) for reason in results.reasons]
    step = content.next_step(results)
    commit = f" at {results.baseline_commit[:7]}" if results.baseline_commit else ""
    day = f" on {results.baseline_created[:10]}" if results.baseline_created else ""
    recorded = f", recorded{commit}{day}" if commit or day else ""
    compared = f"Compared with the baseline {results.baseline.rpartition('/')[2]}{recorded}."
    lines = [*reasons, f"{content.summary(results)}.", content.exit_line(results)]
    return tag(
        "header",
        tag("h1", headline.capitalize(), class_=tone or "neutral"),
        *(tag("p", line) for line in lines if line),
        tag("p", "Next: ", tag("code", step[0]), f" {step[1]}.") if step else "",
        tag("p", compared if content.compared(results) else "There is no baseline to compare with.", class_="quiet"),
        tag("p", f"Compared in pairs with {results.base}.", class_="quiet") if results.base else "",
    )


def _benchmarks(results: Results, baseline: Results | None, history: Sequence[Results]) -> Markup:
    if not results.benchmarks:
        return section("Benchmarks", tag("p", "Nothing was measured."), id="benchmarks")
    runs = [{one.key: one for one in run.benchmarks} if run else {} for run in [baseline, *history]]
    entries = []
    for number, benchmark in enumerate(content.by_urgency(results.benchmarks)):
        others = [run.get(benchmark.key) or run.get(benchmark.renamed_from) for run in runs]
        may_open = number < _MOST_OPEN
        entries.append(html_benchmark.entry(results, benchmark, others, f"b{number}", may_open=may_open))
    against = "the base, if it was compared in pairs, otherwise the baseline" if results.base else "the baseline"
    legend = (
        f"Change of the median against {against}, with its interval; right is slower. The shaded band reaches from the "
        "tolerance to the minimum effect: a regression lies right of its left edge, a pass left of its right "
        "edge. More than 60 % is drawn at the edge. The list below has the same figures."
    )
    changes = section(
        "Changes",
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


def _environment(results: Results, baseline: Results | None) -> Markup:
    packages = dict(sorted(results.environment.packages.items()))
    old = baseline.environment.packages if baseline else {}
    machine = content.environment(baseline) if baseline else {}
    return section(
        "Environment",
        listed(results.service_lines),
        listed(results.baseline_differences, "Differences from the baseline"),
        listed(results.base_differences, "Differences from the base"),
        _beside("Machine, services and commit", content.environment(results), machine),
        folded(f"Packages ({len(packages | {**old}):,})", _beside("Packages", packages, old)),
    )


def _beside(caption: str, now: Mapping[str, str], then: Mapping[str, str]) -> Markup:
    """Return a table of values in this run and, if there are any, in the baseline."""
    names = [name for name in {**now, **then} if now.get(name) or then.get(name)]
    rows = [[name, now.get(name, ""), *([then.get(name, "")] if then else [])] for name in names]
    marked = {name for name in names if then and now.get(name) != then.get(name)} - _ALWAYS_DIFFERENT
    return table(caption, ["property", "this run", *(["baseline"] if then else [])], rows, marked=marked)


def _history(results: Results, history: Sequence[Results]) -> Markup:
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
    found = folded(f"Earlier runs ({len(rows):,})", runs)
    return section("History", found or tag("p", "There are no earlier runs."))
