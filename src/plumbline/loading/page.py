"""load.html: the results of a load test as a page."""

from plumbline.loading.results import DECIDING, HEADINGS, LoadResults, judged, remarks, summary
from plumbline.reporting import content
from plumbline.reporting import format as form
from plumbline.reporting.html.document import document
from plumbline.reporting.html.elements import facts, listed, section, table, tag, tone


def as_page(results: LoadResults) -> str:
    title = f"Load test: {results.verdict}"
    found = [(one.verdict, one.text) for one in judged(results)]
    run = [
        ("application", results.target),
        ("base", results.base),
        ("date", form.date(results.created)),
        ("Plumbline", results.plumbline),
    ]
    header = tag(
        "header",
        facts(run),
        tag("h1", title, class_=tone(results.verdict)),
        *(tag("p", text, class_="reason") for verdict, text in found if verdict in DECIDING),
        tag("p", content.exit_text(results.exit_code), class_="quiet"),
    )
    figures = table("Times are from when a request was due", HEADINGS, summary(results), figures=HEADINGS[2:])
    checked = table("What was judged", ["verdict", "figure"], found, marked=DECIDING)
    return document(
        title,
        header,
        tag(
            "main",
            section("Figures", figures),
            section("Checks", checked),
            section("Notes", listed([*remarks(results)])),
        ),
    )
