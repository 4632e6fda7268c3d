"""load.html: the results of a load test as a page, and as a section of report.html."""

from plumbline.loading.results import DECIDING, HEADINGS, LoadResults, heading, judged, remarks, summary
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.document import document
from plumbline.reporting.html.elements import Markup, facts, listed, section, table, tag, tone


def as_page(results: LoadResults) -> str:
    header = tag(
        "header",
        _facts(results),
        tag("h1", heading(results), class_=tone(results.verdict)),
        *_reasons(results),
        tag("p", content.exit_text(results.exit_code), class_="quiet"),
    )
    figures, checked = _tables(results)
    return document(
        heading(results),
        header,
        tag(
            "main",
            section("Figures", figures),
            section("Checks", checked),
            section("Notes", listed([*remarks(results)])),
        ),
    )


def as_section(results: LoadResults) -> Markup:
    """Return a section for the page of another run."""
    return section(
        heading(results), *_reasons(results), *_tables(results), listed([*remarks(results)]), _facts(results), id="load"
    )


def _facts(results: LoadResults) -> Markup:
    run = [
        ("application", results.target),
        ("base", results.base),
        ("date", form.date(results.created)),
        ("repeat with", results.command),
        ("Plumbline", results.plumbline),
    ]
    return facts(run)


def _reasons(results: LoadResults) -> list[Markup]:
    return [tag("p", one.text, class_="reason") for one in judged(results) if one.verdict in DECIDING]


def _tables(results: LoadResults) -> tuple[Markup, Markup]:
    found = [(one.verdict, one.text) for one in judged(results)]
    figures = table("Times are from when a request was due", HEADINGS, summary(results), figures=HEADINGS[2:])
    return figures, table("What was judged", ["verdict", "figure"], found, marked=DECIDING)
