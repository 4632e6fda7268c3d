"use strict";
// Sorts the table, filters the benchmarks, and draws the plots of those that are open. Colours are variables of
// report.css: the plots follow the colour scheme.

const narrow = matchMedia("(max-width: 640px)");
const runs = JSON.parse(document.getElementById("runs").textContent);
const benchmarks = [...document.querySelectorAll("details[data-benchmark]")];
const rows = [...document.querySelectorAll("#overview tbody tr")];
const element = (name, properties) => Object.assign(document.createElement(name), properties);

const CONFIG = {
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    domainColor: "var(--line)", gridColor: "var(--line)", gridOpacity: 0.6, tickColor: "var(--line)", labelFontSize: 12,
    labelColor: "var(--quiet)", titleColor: "var(--quiet)", titleFontSize: 12, titleFontWeight: "normal",
  },
  text: { fill: "var(--text)", fontSize: 12 },
  point: { filled: true, opacity: 1, color: "var(--text)" },
};

const layer = (type, mark, encoding, more) => ({ mark: { type, ...mark }, encoding, ...more });
const number = (field, title, scale = {}, axis = {}) => ({
  field, title, type: "quantitative", scale: { zero: false, ...scale },
  axis: { tickCount: narrow.matches ? 4 : 9, ...axis },
});
const COLOR = { field: "color", type: "nominal", scale: null };
const unitOf = (s) => (s < 1e-6 ? [1e9, "ns"] : s < 1e-3 ? [1e6, "µs"] : s < 1 ? [1e3, "ms"] : [1, "s"]);

function distribution({ rows, limit }) {
  const [factor, unit] = unitOf(limit);
  const values = Object.entries(rows).flatMap(([row, times]) => times.map((time) => ({
    row, value: time * factor, color: `var(--${row.replace(" ", "-")})`,
  })));
  const axis = { labelColor: "var(--text)", ticks: false, domain: false };
  const scale = { domainMax: limit * factor, nice: false };
  const x = (aggregate) => ({ ...number("value", `time per operation (${unit})`, scale), aggregate });
  const y = { field: "row", type: "nominal", sort: null, title: null, axis };
  const tooltip = [{ field: "value", aggregate: "median", format: ".4", title: `median (${unit})` }];
  return {
    data: { values },
    height: Object.keys(rows).length * 44,
    encoding: { y, color: COLOR },
    layer: [
      layer("tick", { size: 18, thickness: 1.5, opacity: 0.4, yOffset: -4, clip: true }, { x: x() }),
      layer("rule", { strokeWidth: 5, yOffset: 11, clip: true },
        { x: x("q1"), x2: { field: "value", aggregate: "q3" } }),
      layer("tick", { size: 34, thickness: 3, yOffset: 1, clip: true }, { x: x("median"), tooltip }),
    ],
  };
}

function pairs({ differences, change, low, high, tolerance, effect }) {
  const at = (datum) => ({ datum, type: "quantitative" });
  const bands = [[tolerance, effect, "var(--band)"], [low, high, "var(--interval)"]]
    .filter(([from, to]) => from !== null && to !== null)
    .map(([from, to, color]) => layer("rect", { color }, { y: at(from), y2: at(to) }));
  const x = { field: "pair", type: "ordinal", title: "pair", axis: { labelAngle: 0, labelOverlap: true } };
  const tooltip = [{ field: "pair" }, { field: "value", format: "+.2f", title: "change (%)" }];
  const values = differences.map((value, index) => ({ pair: index + 1, value }));
  return {
    data: { values: [{}] }, // one row for what is drawn once
    height: 170,
    layer: [
      ...bands,
      layer("rule", { color: "var(--quiet)" }, { y: at(0) }),
      layer("rule", { color: "var(--head)", strokeWidth: 2 }, { y: at(change) }),
      layer("point", { size: 70 }, { x, y: number("value", "change (%)", {}, { tickCount: 5 }), tooltip },
        { data: { values } }),
    ],
  };
}

function history({ medians, p95, limit }) {
  const [factor, unit] = unitOf(limit);
  const scaled = (time) => (time === null ? null : time * factor);
  const values = runs.map(([created, commit, verdict, baseline], index) => ({
    created, commit: commit.slice(0, 10), verdict, median: scaled(medians[index]), p95: scaled(p95[index]),
    changed: Boolean(index && baseline && runs[index - 1][3] !== baseline), label: `baseline ${baseline.slice(0, 7)}`,
    last: index === runs.length - 1,
  }));
  const oneDay = new Set(runs.map(([created]) => created.slice(0, 10))).size === 1;
  const labelExpr = `slice(datum.label, ${oneDay ? "11, 16" : "0, 10"})`;
  const axis = {
    labelExpr, labelAngle: 0, ticks: false, labelOverlap: "greedy", labelSeparation: 9, labelFlush: true, labelBound: true,
  };
  const y = (field) => number(field, `time per operation (${unit})`, { domainMax: limit * factor }, { tickCount: 5 });
  const changed = { transform: [{ filter: "datum.changed" }] };
  const opacity = { condition: { test: "datum.last", value: 1 }, value: 0 };
  const tooltip = [
    ...["created", "commit", "verdict"].map((field) => ({ field })),
    ...["median", "p95"].map((field) => ({ field, format: ".4", title: `${field} (${unit})` })),
  ];
  return {
    data: { values },
    height: 200,
    encoding: { x: { field: "created", type: "ordinal", title: null, scale: { padding: 0 }, axis } },
    layer: [
      layer("rule", { strokeDash: [4, 3], color: "var(--quiet)" }, {}, changed),
      layer("text", { align: "right", dx: -4, dy: 8 }, { y: { value: 0 }, text: { field: "label" } }, changed),
      layer("line", { strokeWidth: 1, strokeDash: [2, 2], color: "var(--baseline)", clip: true }, { y: y("p95") }),
      layer("line", { strokeWidth: 2, color: "var(--this-run)", clip: true }, { y: y("median") }),
      layer("point", { size: 60, color: "var(--this-run)" }, { y: y("median"), opacity, tooltip }),
    ],
  };
}

async function draw(plot) {
  plot.dataset.drawn = "";
  const data = JSON.parse(plot.dataset.plot);
  try {
    const canvas = element("div", { ariaHidden: "true" });
    plot.replaceChildren(canvas);
    const spec = { distribution, pairs, history }[data.kind](data);
    const whole = { width: "container", background: null, config: CONFIG, ...spec };
    // Expressions are interpreted: the page's policy forbids eval.
    await vegaEmbed(canvas, whole, { actions: false, defaultStyle: false, renderer: "svg", ast: true });
    plot.dataset.drawn = "true";
  } catch (error) {
    plot.dataset.drawn = "false";
    plot.textContent = "This plot could not be drawn; the tables have its figures.";
    console.error(error);
  }
}

const inView = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    inView.unobserve(target);
    if (!("drawn" in target.dataset)) draw(target);
  }
}, { rootMargin: "400px" });

/** Draw the plots that will be printed; without animation frames, as the page waits for none. */
function drawOpen() {
  for (const plot of document.querySelectorAll("details[open] [data-plot]:not([data-drawn])")) draw(plot);
}

/** Sort the table by a column: by figures, or else by text; rows without a value come last. */
function sort(heading) {
  const ascending = heading.ariaSort !== "ascending";
  for (const each of heading.parentElement.children) each.removeAttribute("aria-sort");
  heading.ariaSort = ascending ? "ascending" : "descending";
  const valueOf = (row) => row.cells[heading.cellIndex].dataset.value;
  const text = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => (heading.dataset.sort === "name" ? text.compare(a, b) : a - b) * (ascending ? 1 : -1);
  const known = rows.filter((row) => valueOf(row) !== undefined).sort((a, b) => compare(valueOf(a), valueOf(b)));
  document.querySelector("#overview tbody").append(...known, ...rows.filter((row) => valueOf(row) === undefined));
}

function filter() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/);
  const verdict = document.getElementById("verdict")?.value;
  for (const row of rows) {
    const wanted = !verdict || row.dataset.verdict === verdict || (verdict === "notable" && "notable" in row.dataset);
    row.hidden = !(wanted && words.every((word) => row.dataset.text.includes(word)));
    document.getElementById(row.dataset.row).hidden = row.hidden;
  }
  const count = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = `${count} of ${rows.length} shown`;
}

function show(anchor) {
  const found = benchmarks.find((each) => each.id === anchor);
  if (!found) return;
  found.hidden = false;
  found.open = true;
  found.querySelector("summary").focus();
  found.scrollIntoView();
}

for (const heading of document.querySelectorAll("#overview th[data-sort]")) {
  const button = element("button", { type: "button", textContent: heading.textContent });
  button.addEventListener("click", () => sort(heading));
  heading.replaceChildren(button);
}
const form = document.querySelector("form");
if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
if (benchmarks.length) {
  const unfold = document.getElementById("unfold");
  unfold.hidden = false;
  unfold.addEventListener("click", () => {
    for (const each of benchmarks) if (!each.hidden) each.open = true;
  });
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  show(location.hash.slice(1));
}
for (const plot of document.querySelectorAll("[data-plot]")) inView.observe(plot);
addEventListener("beforeprint", drawOpen);
