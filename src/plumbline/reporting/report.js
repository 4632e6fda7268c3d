"use strict";
// Draws the plots when they come into view, and filters the benchmarks. Colours are variables of report.css: the plots
// follow the colour scheme.

const ROWS_AT_ONCE = 100;
const SHAPES = { bad: "triangle-right", unsure: "diamond", good: "circle", neutral: "square" };
const narrow = matchMedia("(max-width: 640px)");
const runs = JSON.parse(document.getElementById("runs").textContent);
const benchmarks = [...document.querySelectorAll("details[data-verdict]")];
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

function forest({ rows }) {
  const ends = rows.flatMap((row) => [row.change, row.low, row.high, row.effect]);
  const domain = [Math.max(-60, Math.min(0, ...ends)) - 2, Math.min(60, Math.max(0, ...ends)) + 2];
  const values = rows.map((row, index) => ({
    ...row, index, low: row.low ?? domain[0], high: row.high ?? domain[1],
    color: `var(--${row.tone})`, shape: SHAPES[row.tone],
  }));
  const y = (field, orient, labelLimit) => ({
    field: "index", type: "ordinal", scale: { padding: 0 },
    axis: field ? {
      orient, labelLimit, labelExpr: `data('rows')[datum.value].${field}`, labelPadding: 8, labelColor: "var(--text)",
      labelOverlap: false, title: null, ticks: false, domain: false, grid: false,
    } : null,
  });
  const x = (field) => number(field, "change (%)", { domain, nice: false, clamp: true });
  const tooltip = [{ field: "key", title: "benchmark" }, { field: "interval" }, { field: "verdict" }];
  return {
    data: { name: "rows", values },
    height: rows.length * 22,
    resolve: { axis: { y: "independent" } },
    layer: [
      layer("bar", { height: { band: 1 }, color: "var(--band)", clip: true },
        { y: y("name", "left", narrow.matches ? 120 : 420), x: x("tolerance"), x2: { field: "effect" } }),
      layer("rule", { color: "var(--quiet)" }, { x: { datum: 0, type: "quantitative" } }),
      layer("rule", { strokeWidth: 2 },
        { y: y("label", "right", narrow.matches ? 50 : 420), x: x("low"), x2: { field: "high" }, color: COLOR }),
      layer("point", { size: 80, cursor: "pointer" },
        { y: y(), x: x("change"), color: COLOR, shape: { ...COLOR, field: "shape" }, tooltip }),
    ],
  };
}

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
  const data = plot.data ?? JSON.parse(plot.dataset.plot);
  try {
    const canvas = element("div", { ariaHidden: "true" });
    plot.replaceChildren(canvas);
    const spec = { forest, distribution, pairs, history }[data.kind](data);
    const whole = { width: "container", background: null, config: CONFIG, ...spec };
    // Expressions are interpreted: the page's policy forbids eval.
    const { view } = await vegaEmbed(canvas, whole, { actions: false, defaultStyle: false, renderer: "svg", ast: true });
    view.addEventListener("click", (_, item) => item?.datum?.anchor && show(item.datum.anchor));
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
    draw(target);
  }
}, { rootMargin: "400px" });

/** Plot the changes of the benchmarks that are shown, in parts, of which only the first is unfolded. */
function drawForest() {
  const rows = benchmarks.filter((each) => !each.hidden && each.dataset.row)
    .map((each) => ({ anchor: each.id, ...JSON.parse(each.dataset.row) }));
  const place = document.getElementById("forest");
  place.replaceChildren(rows.length ? "" : "None of these has a change to show.");
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    const shown = rows.slice(start, start + ROWS_AT_ONCE);
    const ariaLabel = `Changes of ${shown.length} benchmarks; the list below has the figures.`;
    const data = { kind: "forest", rows: shown };
    const plot = element("div", { data, className: "plot", role: "img", ariaLabel });
    plot.style.minHeight = `${shown.length * 22 + 40}px`;
    const part = element(start ? "details" : "div");
    if (start) part.append(element("summary", { textContent: `${start + 1} to ${start + shown.length}` }));
    part.append(plot);
    place.append(part);
    inView.observe(plot);
  }
}

function filter() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/);
  const verdict = document.getElementById("verdict").value;
  for (const each of benchmarks) {
    const wanted = !verdict || each.dataset.verdict === verdict || (verdict === "notable" && "notable" in each.dataset);
    each.hidden = !(wanted && words.every((word) => each.dataset.text.includes(word)));
  }
  const count = benchmarks.filter((each) => !each.hidden).length;
  document.getElementById("shown").textContent = `${count} of ${benchmarks.length} shown`;
  drawForest();
}

function show(anchor) {
  const found = benchmarks.find((each) => each.id === anchor);
  if (!found) return;
  found.open = true;
  found.querySelector("summary").focus();
  found.scrollIntoView();
}

if (benchmarks.length) {
  document.querySelector("form").addEventListener("input", filter);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("unfold").addEventListener("click", () => {
    for (const each of benchmarks) if (!each.hidden) each.open = true;
  });
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  filter();
  show(location.hash.slice(1));
}
for (const plot of document.querySelectorAll("[data-plot]")) inView.observe(plot);
