import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from plumbline.reporting.html import page
from plumbline.results.schema import Results
from tests.support.chromium import Chromium
from tests.support.report_samples import NASTY, benchmark, results, unmeasured

DRAW_ALL = """(async () => {
  const until = async (so) => { for (let n = 0; n < 500 && !so(); n++) await new Promise(r => setTimeout(r, 10)); };
  document.getElementById("unfold")?.click();
  for (const each of document.querySelectorAll("details")) each.open = true;
  for (const plot of document.querySelectorAll(".plot")) {
    plot.scrollIntoView();
    await until(() => plot.dataset.drawn);
  }
  scrollTo(0, 0);
  return [...document.querySelectorAll(".plot")].map(plot => ({
    drawn: plot.dataset.drawn === "true",
    width: plot.querySelector("svg")?.getBoundingClientRect().width,
    marks: plot.querySelectorAll("svg [class*='role-mark'] :is(path, line, text)").length,
    odd: /NaN|undefined|null/.test(plot.innerHTML),
    said: plot.getAttribute("aria-label"),
  }));
})()"""

LOW_CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => rgb(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (rgb(color)[3]) return color;
    }
    return "white";
  };
  const found = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, .skip")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.add(`${contrast.toFixed(2)} ${element.tagName} ${texts.currentNode.data.slice(0, 40)}`);
  }
  return [...found];
})()"""

SHOWN = """[...document.querySelectorAll("#overview tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.dataset.text)"""
SETTLED = "new Promise(done => setTimeout(done, 300))"


def odd_figures() -> Results:
    names = ["median", "mean", "p95", "p99", "minimum", "maximum", "rate_per_s", "change", "change_low", "change_high"]
    entries = [
        benchmark(
            f"a.py::test_{value}",
            **dict.fromkeys(names, value),  # type: ignore[arg-type]
            samples_s=[value] * 3,
            base_samples_s=[value],
            differences=[value],
            tolerance=value,
        )
        for value in (0.0, 9.0)
    ]
    return results(*entries, minimum_effect=0.0)


COLLIDING = """[...document.querySelectorAll("svg")].flatMap((svg) => {
  const labels = [...svg.querySelectorAll("text")].filter((each) => getComputedStyle(each).opacity !== "0")
    .map((each) => ({ text: each.textContent, box: each.getBoundingClientRect() })).filter(({ box }) => box.width);
  const apart = (a, b) => a.right < b.left + 1 || a.bottom < b.top + 1;
  const collide = (a, b) => !apart(a.box, b.box) && !apart(b.box, a.box);
  return labels.flatMap((a, n) => labels.slice(n + 1).filter((b) => collide(a, b)).map((b) => [a.text, b.text]));
})"""


def test_all_plots_are_drawn_without_a_complaint_and_can_be_read_in_both_schemes(
    chromium: Chromium, report: Path
) -> None:
    chromium.open(report)
    plots = chromium.run(DRAW_ALL)

    assert len(plots) > 40
    assert [plot for plot in plots if not (plot["drawn"] and plot["marks"] and plot["width"] > 300)] == []
    assert not any(plot["odd"] for plot in plots)
    pairs = "[...document.querySelectorAll('[aria-label^=Pairs]')]"
    assert set(chromium.run(f"{pairs}.map(each => each.querySelectorAll('.mark-rect path').length)")) == {2}
    assert all(re.match("Pairs|Distribution|History", plot["said"]) for plot in plots)
    assert chromium.run(COLLIDING) == []
    assert chromium.run(LOW_CONTRAST) == []
    light = chromium.run("getComputedStyle(document.querySelector('svg text')).fill")
    chromium.scheme("dark")
    assert chromium.run("getComputedStyle(document.querySelector('svg text')).fill") != light
    assert chromium.run(LOW_CONTRAST) == []
    assert chromium.run("performance.getEntriesByType('resource').length") == 0
    assert chromium.complaints == []


def test_nothing_is_wider_than_a_narrow_page(chromium: Chromium, report: Path) -> None:
    chromium.open(report, width=400)
    plots = chromium.run(DRAW_ALL)

    assert all(plot["drawn"] and plot["width"] <= 400 for plot in plots)
    assert chromium.run(COLLIDING) == []
    assert chromium.run("document.documentElement.scrollWidth") == 400
    assert chromium.complaints == []


def test_search_and_filter_are_reached_and_worked_by_keyboard(chromium: Chromium, report: Path) -> None:
    chromium.open(report)
    focused = "document.activeElement.id || document.activeElement.className"
    order: list[str] = []
    while "verdict" not in order and len(order) < 30:
        chromium.press("Tab")
        order.append(chromium.run(focused))
    assert order[0] == "skip"
    assert order[-2:] == ["search", "verdict"]
    assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    chromium.run("document.getElementById('search').focus()")
    chromium.call("Input.insertText", text="POSTGRES login")
    chromium.run(SETTLED)
    found = chromium.run(SHOWN)
    assert found
    assert all("postgres" in key and "login" in key for key in found)
    assert chromium.run("document.getElementById('shown').textContent") == f"{len(found)} of 20 shown"
    unfolded = "[...document.querySelectorAll('details[data-benchmark]')].filter((each) => !each.hidden).length"
    assert chromium.run(unfolded) == len(found)

    chromium.run("document.getElementById('search').value = ''; document.getElementById('verdict').focus()")
    chromium.press("ArrowDown")
    chromium.run(SETTLED)
    assert chromium.run("document.getElementById('verdict').value") == "notable"
    assert len(chromium.run(SHOWN)) == 4

    summary = "[...document.querySelectorAll('details[data-benchmark] > summary')][0]"
    chromium.run(f"{summary}.focus()")
    chromium.press("Enter")
    assert chromium.run(f"{summary}.parentElement.open") is False


def test_a_link_opens_its_benchmark(chromium: Chromium, report: Path) -> None:
    chromium.open(report, fragment="#b15")

    assert chromium.run("document.getElementById('b15').open")


def test_names_of_any_kind_do_no_harm(chromium: Chromium, tmp_path: Path) -> None:
    entries = [
        benchmark(key, "regression", differences=[0.1, 0.2], samples_s=[1e-6, 2e-6], change_low=None, source=key)
        for key in NASTY.values()
    ]
    odd = benchmark("a.py::test_odd", change=500.0, change_low=400.0, change_high=None, samples_s=[3.0])
    run = results(*entries, odd, benchmark("b.py::test_b", "new", change=None, change_low=None, change_high=None))
    path = tmp_path / "report.html"
    path.write_text(page.render(run, run, [run]), encoding="utf-8")

    chromium.open(path, width=400)
    plots = chromium.run(DRAW_ALL)

    assert all(plot["drawn"] and plot["marks"] for plot in plots)
    assert chromium.run("document.scripts.length") == 2
    assert chromium.run("document.documentElement.scrollWidth") == 400
    assert chromium.complaints == []


def test_odd_figures_are_drawn_as_far_as_they_go(chromium: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page.render(odd_figures(), odd_figures(), [odd_figures()]), encoding="utf-8")

    chromium.open(path)

    assert all(plot["drawn"] and not plot["odd"] for plot in chromium.run(DRAW_ALL))
    assert chromium.complaints == []


@pytest.mark.slow
def test_of_2000_benchmarks_only_the_plots_in_view_are_drawn(chromium: Chromium, large_report: Path) -> None:
    chromium.open(large_report)
    chromium.run("document.getElementById('unfold').click()")
    chromium.run("document.getElementById('b1000').scrollIntoView()")
    while not chromium.run("document.querySelector('#b1000 svg') !== null"):
        pass

    assert chromium.run("document.querySelectorAll('#overview tbody tr').length") == 2000
    assert (
        chromium.run("new Set([...document.querySelectorAll('[data-benchmark]')].map((each) => each.id)).size") == 2000
    )
    assert 0 < chromium.run("document.querySelectorAll('figure svg').length") < 50
    assert chromium.complaints == []


def column(chromium: Chromium, name: str) -> list[str]:
    """The texts of a column from top to bottom, without the buttons."""
    index = f"[...document.querySelectorAll('#overview thead th')].findIndex((th) => th.dataset.sort === '{name}')"
    cells = f"[...document.querySelectorAll('#overview tbody tr')].map((row) => row.cells[{index}])"
    return list(chromium.run(f"{cells}.map((cell) => (cell.querySelector('a') ?? cell).firstChild?.textContent ?? '')"))


def sort_by(chromium: Chromium, name: str) -> str:
    """Press the button of a column and return the order that is announced."""
    heading = f"document.querySelector('#overview th[data-sort={name}]')"
    chromium.run(f"{heading}.querySelector('button').focus()")
    chromium.press("Enter")
    assert chromium.run("document.querySelectorAll('[aria-sort]').length") == 1
    return str(chromium.run(f"{heading}.getAttribute('aria-sort')"))


def test_the_table_is_sorted_by_each_column(chromium: Chromium, tmp_path: Path) -> None:
    """By the figure, not by its text; what is not known stays last."""
    medians = {"test_9": 2e-6, "test_10": 1.5e-3, "test_1": 900e-9}
    entries = [benchmark(f"a.py::{name}", median=median, mean=2 * median) for name, median in medians.items()]
    path = tmp_path / "report.html"
    path.write_text(page.render(results(*entries, unmeasured("a.py::test_2")), None, []), encoding="utf-8")
    chromium.open(path)

    assert column(chromium, "name")[0] == "2"  # missing
    assert sort_by(chromium, "name") == "ascending"
    assert column(chromium, "name") == ["1", "2", "9", "10"]
    assert sort_by(chromium, "name") == "descending"
    assert column(chromium, "name") == ["10", "9", "2", "1"]
    assert sort_by(chromium, "median") == "ascending"
    assert column(chromium, "median") == ["900 ns", "2.00 µs", "1.50 ms", ""]
    assert sort_by(chromium, "mean") == "ascending"
    assert sort_by(chromium, "mean") == "descending"
    assert column(chromium, "median") == ["1.50 ms", "2.00 µs", "900 ns", ""]
    assert sort_by(chromium, "verdict") == "ascending"
    assert column(chromium, "name")[0] == "2"
    assert chromium.complaints == []


def test_without_javascript_all_figures_are_in_plain_tables(chromium: Chromium, report: Path) -> None:
    chromium.open(report, javascript=False)

    assert chromium.run("document.querySelectorAll('#overview tbody tr').length") == 20
    shown = "[...document.querySelectorAll('form, button, noscript p')].filter((each) => each.checkVisibility())"
    assert chromium.run(f"{shown}.map((each) => each.tagName)") == ["P"]


def test_the_printed_page_has_its_plots_and_fits_the_paper(chromium: Chromium, report: Path) -> None:
    """The dark scheme too is printed dark on white."""
    chromium.open(report, scheme="dark")
    chromium.call("Page.printToPDF")

    opened = "[...document.querySelectorAll('details[data-benchmark][open] .plot')]"
    assert chromium.run(f"{opened}.length") > 5
    assert chromium.run(f"{opened}.filter((plot) => plot.dataset.drawn !== 'true')") == []
    chromium.call("Emulation.setEmulatedMedia", media="print")
    chromium.width(700)
    assert chromium.run("document.documentElement.scrollWidth") == 700
    assert chromium.run("getComputedStyle(document.querySelector('form')).display") == "none"
    assert chromium.run("getComputedStyle(document.querySelector('svg text')).fill") == "rgb(87, 96, 106)"
    assert chromium.complaints == []


def test_long_names_wrap_on_paper(chromium: Chromium, tmp_path: Path) -> None:
    """As in a verdict's heading, or in a table's cell."""
    run = results(*(benchmark(f"test_{'a_long_name_' * 4}.py::test_{'of_words_' * 9}{n}", "regression") for n in "ab"))
    path = tmp_path / "report.html"
    path.write_text(page.render(replace(run, baseline_differences=["a " * 200]), None, []), encoding="utf-8")

    chromium.open(path)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    chromium.width(700)

    assert chromium.run("document.documentElement.scrollWidth") == 700
    texts = "[...document.querySelectorAll('.verdict, .figures, thead th')]"
    assert set(chromium.run(f"{texts}.map((each) => getComputedStyle(each).whiteSpace)")) == {"normal"}


def test_a_page_without_benchmarks_opens_without_a_complaint(chromium: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(
        page.render(results(verdict="invalid", exit_code=3, reasons=["not ready"]), None, []), encoding="utf-8"
    )

    chromium.open(path)

    assert chromium.run("document.querySelector('h1').textContent") == "Invalid"
    assert chromium.run("getComputedStyle(document.querySelector('h1'), '::before').content") == '"✕"'
    assert chromium.complaints == []
