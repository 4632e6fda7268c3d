"use strict";
// Draws the plots when they come into view, and filters the benchmarks. Colours are variables of report.css: the plots
// follow the colour scheme.

const ROWS_AT_ONCE = 100;
const SHAPES = { bad: "triangle-right", unsure: "diamond", good: "circle", neutral: "square" };
const narrow = matchMedia("(max-width: 640px)");
const runs = JSON.parse(document.getElementById("runs").textContent);
const benchmarks = [...document.querySelectorAll("details[data-verdict]")];

const CONFIG = {
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    domainColor: "var(--line)", gridColor: "var(--line)", gridOpacity: 0.6, tickColor: "var(--line)", labelFontSize: 12,
    labelColor: "var(--quiet)", titleColor: "var(--quiet)", titleFontSize: 12, titleFontWeight: "normal",
  },
  text: { fill: "var(--text)", fontSize: 12 },
};

// Specifications of plots: data in, Vega-Lite out

const layer = (type, mark, encoding, more) => ({ mark: { type, ...mark }, encoding, ...more });
const number = (field, title, scale = {}, axis = {}) => ({
  field, title, type: "quantitative",
  axis: { tickCount: narrow.matches ? 4 : 9, ...axis }, scale: { zero: false, ...scale },
});
const change = (field, scale, axis) => number(field, "change (%)", scale, axis);
const category = (field, names, looks) => ({
  field, type: "nominal", legend: null, scale: { domain: names, range: names.map(looks) },
});

function forest(rows) {
  const wide = !narrow.matches;
  const shown = rows.flatMap((row) => [row.change, row.low, row.high, 0, row.effect]).filter(Number.isFinite);
  const ordered = shown.map((value) => Math.max(-60, Math.min(60, value))).sort((a, b) => a - b);
  const [least, most] = [ordered[0] - 2, ordered.at(-1) + 2];
  const inside = (value, otherwise) => Math.max(least, Math.min(most, value ?? otherwise));
  const values = rows.map((row, index) => ({
    ...row, index, tolerance: row.tolerance ?? 0, effect: row.effect ?? 0,
    at: inside(row.change), from: inside(row.low, least), to: inside(row.high, most),
    name: shortened(row.name, wide ? 52 : 38),
    label: row.tone === "good" ? row.text : `${row.text} ${row.verdict}`,
  }));
  const labels = (of, orient) => (wide ? {
    orient, labelExpr: `${of}[datum.value]`, labelLimit: 420, labelPadding: 8, labelColor: "var(--text)",
    labelOverlap: false, title: null, ticks: false, domain: false, grid: false,
  } : null);
  const y = (axis) => ({ field: "index", type: "ordinal", axis, scale: { padding: 0 } });
  const x = (field) => change(field, { domain: [least, most], nice: false });
  const tones = Object.keys(SHAPES);
  const color = category("tone", tones, (tone) => `var(--${tone})`);
  const shape = category("tone", tones, (tone) => SHAPES[tone]);
  const tooltip = [{ field: "key", title: "benchmark" }, { field: "interval" }, { field: "verdict" }];
  const yOffset = wide ? 0 : 8;
  return {
    params: ["name", "label"].map((field) => ({ name: `${field}s`, value: values.map((row) => row[field]) })),
    data: { values },
    height: rows.length * (wide ? 22 : 40),
    resolve: { axis: { y: "independent" } },
    layer: [
      layer("bar", { height: { band: 1 }, color: "var(--band)", clip: true },
        { y: y(labels("names", "left")), x: x("tolerance"), x2: { field: "effect" } }),
      layer("rule", { color: "var(--quiet)" }, { x: { datum: 0, type: "quantitative" } }),
      layer("rule", { strokeWidth: 2, yOffset },
        { y: y(labels("labels", "right")), x: x("from"), x2: { field: "to" }, color }),
      layer("point", { filled: true, opacity: 1, size: 80, yOffset, cursor: "pointer" },
        { y: y(null), x: x("at"), color, shape, tooltip }),
      ...(wide ? [] : [layer("text", { align: "left", dy: -9 },
        { y: y(null), x: { value: 0 }, text: { field: "line" } },
        { transform: [{ calculate: "datum.name + '  ' + datum.label", as: "line" }] })]),
    ],
  };
}

function distribution({ rows, limit }) {
  const [factor, unit] = unitOf(limit);
  const values = Object.entries(rows).flatMap(([row, times]) => times.map((time) => ({ row, value: time * factor })));
  const names = Object.keys(rows);
  const axis = { labelColor: "var(--text)", ticks: false, domain: false };
  const scale = { domainMax: limit * factor, nice: false };
  const x = (aggregate) => ({ ...number("value", `time per operation (${unit})`, scale), aggregate });
  const tooltip = [{ field: "value", aggregate: "median", format: ".4", title: `median (${unit})` }];
  return {
    data: { values },
    height: names.length * 44,
    encoding: {
      y: { field: "row", type: "nominal", sort: null, title: null, axis },
      color: category("row", names, (name) => `var(--${name.replace(" ", "-")})`),
    },
    layer: [
      layer("tick", { size: 18, thickness: 1.5, opacity: 0.4, yOffset: -4, clip: true }, { x: x() }),
      layer("rule", { strokeWidth: 5, yOffset: 11, clip: true },
        { x: x("q1"), x2: { field: "value", aggregate: "q3" } }),
      layer("tick", { size: 34, thickness: 3, yOffset: 1, clip: true }, { x: x("median"), tooltip }),
    ],
  };
}

function pairs({ differences, bounds, limits }) {
  const [middle, low, high] = bounds;
  const y = (field) => change(field, {}, { tickCount: 5 });
  const rule = (value, mark) => (value === null ? [] : [
    layer("rule", mark, { y: y("value") }, { data: { values: [{ value }] } }),
  ]);
  const area = (from, to, color) => (from === null || to === null ? [] : [
    layer("rect", { color }, { y: y("from"), y2: { field: "to" } }, { data: { values: [{ from, to }] } }),
  ]);
  const x = { field: "pair", type: "ordinal", title: "pair", axis: { labelAngle: 0, labelOverlap: true } };
  const tooltip = [{ field: "pair" }, { field: "value", format: "+.2f", title: "change (%)" }];
  const values = differences.map((value, index) => ({ pair: index + 1, value }));
  return {
    height: 170,
    layer: [
      ...area(limits[0], limits[1], "var(--band)"),
      ...area(low, high, "var(--interval)"),
      ...rule(0, { color: "var(--quiet)" }),
      ...rule(middle, { color: "var(--head)", strokeWidth: 2 }),
      layer("point", { filled: true, opacity: 1, size: 70, color: "var(--text)" },
        { x, y: y("value"), tooltip }, { data: { values } }),
    ],
  };
}

function history({ medians, p95, limit }) {
  const [factor, unit] = unitOf(limit);
  const oneDay = new Set(runs.map((run) => run[0].slice(0, 10))).size === 1;
  const recorded = new Set(runs.map((run) => run[3]).filter(Boolean));
  const scaled = (time) => (time === null ? null : time * factor);
  const values = medians.map((median, index) => {
    const [created, commit, verdict, baseline] = runs[index];
    return {
      index, created, verdict, commit: commit.slice(0, 10), median: scaled(median), p95: scaled(p95[index]),
      changed: Boolean(index && baseline && runs[index - 1][3] !== baseline), ring: recorded.has(commit),
      label: `baseline ${baseline.slice(0, 7)}`, last: index === medians.length - 1,
    };
  });
  const x = number("index", null, { nice: false, domain: [0, Math.max(1, medians.length - 1)] }, {
    labelExpr: "days[datum.value] || ''", labelOverlap: "greedy", labelSeparation: 12, tickMinStep: 1,
  });
  const y = (field) => number(field, `time per operation (${unit})`, { domainMax: limit * factor }, { tickCount: 5 });
  const only = (filter) => ({ transform: [{ filter: `datum.${filter}` }] });
  const opacity = { condition: { test: "datum.last", value: 1 }, value: 0 };
  const tooltip = [
    ...["created", "commit", "verdict"].map((field) => ({ field })),
    ...["median", "p95"].map((field) => ({ field, format: ".4", title: `${field} (${unit})` })),
  ];
  return {
    params: [{ name: "days", value: runs.map((run) => (oneDay ? run[0].slice(11, 16) : run[0].slice(0, 10))) }],
    data: { values },
    height: 200,
    encoding: { x },
    layer: [
      layer("rule", { strokeDash: [4, 3], color: "var(--quiet)" }, {}, only("changed")),
      layer("text", { align: "right", dx: -4, dy: 8 }, { y: { value: 0 }, text: { field: "label" } }, only("changed")),
      layer("line", { strokeWidth: 1, strokeDash: [2, 2], color: "var(--baseline)", clip: true }, { y: y("p95") }),
      layer("line", { strokeWidth: 2, color: "var(--this-run)", clip: true }, { y: y("median") }),
      ...(values.some((value) => value.ring) ? [layer("point",
        { size: 110, strokeWidth: 2, opacity: 1, color: "var(--text)" }, { y: y("median") }, only("ring"))] : []),
      layer("point", { filled: true, size: 60, color: "var(--this-run)" }, { y: y("median"), opacity, tooltip }),
    ],
  };
}

function unitOf(time_us) {
  return time_us < 1 ? [1000, "ns"] : time_us < 1e3 ? [1, "µs"] : time_us < 1e6 ? [1e-3, "ms"] : [1e-6, "s"];
}

/** Cut in the middle: names begin with their subject and end with the parameters. */
function shortened(name, most) {
  const letters = [...name];
  const end = Math.floor((most - 1) / 2);
  if (letters.length <= most) return name;
  return [...letters.slice(0, most - 1 - end), "…", ...letters.slice(-end)].join("");
}

// Drawing

const element = (name, properties) => Object.assign(document.createElement(name), properties);

const KINDS = { distribution, pairs, history };
const OPTIONS = {
  actions: false, defaultStyle: false, renderer: "svg", config: CONFIG, tooltip: { disableDefaultStyle: true },
  ast: true, // expressions are interpreted: the page's policy forbids eval
};

async function draw(plot) {
  const data = plot.rows ?? JSON.parse(plot.dataset.plot);
  const spec = plot.rows ? forest(data) : KINDS[data.kind](data);
  try {
    const canvas = element("div", { ariaHidden: "true" });
    plot.replaceChildren(canvas);
    const { view } = await vegaEmbed(canvas, { width: "container", background: null, ...spec }, OPTIONS);
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

// The forest plot of the benchmarks that are shown, in parts, of which only the first is unfolded

function drawForest() {
  const rows = benchmarks.filter((each) => !each.hidden && each.dataset.change).map((each) => {
    const [change, low, high, tolerance, effect] = JSON.parse(each.dataset.change);
    const text = (selector) => each.querySelector(selector).textContent;
    return {
      change, low, high, tolerance, effect, verdict: each.dataset.verdict, tone: each.dataset.tone, anchor: each.id,
      name: text("bdi").replace(/^test_/, ""), key: each.dataset.key, text: each.dataset.percent,
      interval: `${low?.toFixed(1) ?? ""}…${high?.toFixed(1) ?? ""} %`,
    };
  });
  const parts = [];
  for (let start = 0; start < rows.length; start += ROWS_AT_ONCE) {
    const shown = rows.slice(start, start + ROWS_AT_ONCE);
    const ariaLabel = `Changes of ${shown.length} benchmarks; the list below has the figures.`;
    const plot = element("div", { rows: shown, className: "plot", role: "img", ariaLabel });
    plot.style.minHeight = `${shown.length * (narrow.matches ? 40 : 22) + 40}px`;
    const summary = element("summary", { textContent: `${start + 1} to ${start + shown.length}` });
    parts.push(element(start ? "details" : "div", {}));
    parts.at(-1).append(...(start ? [summary, plot] : [plot]));
    inView.observe(plot);
  }
  const place = document.getElementById("forest");
  place.replaceChildren(...parts);
  if (!rows.length) place.textContent = "None of these has a change to show.";
}

// Search, filter and links

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
  let waiting;
  document.getElementById("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 150);
  });
  document.getElementById("verdict").addEventListener("change", filter);
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("unfold").addEventListener("click", () => {
    for (const each of benchmarks) if (!each.hidden) each.open = true;
  });
  narrow.addEventListener("change", drawForest);
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  filter();
  show(location.hash.slice(1));
}
for (const plot of document.querySelectorAll("[data-plot]")) inView.observe(plot);
