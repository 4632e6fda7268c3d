import fcntl
import json
import math
import os
import random
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from plumbline.reporting import format as form
from plumbline.reporting import html as page
from plumbline.results.files import ResultsError
from plumbline.results.schema import (
    Benchmark,
    BudgetResult,
    CountChange,
    CountGrowth,
    FunctionTime,
    Reason,
    Results,
    TestOutcome,
)
from tests.support.report_samples import NASTY, benchmark, judged, results, small, unmeasured

LIMIT_BYTES = 6_000_000
ANSWER_LIMIT_S = 30


# Samples


def sample(count: int = 40, runs: int = 200, samples: int = 100) -> tuple[Results, Results, list[Results]]:
    """A run with its baseline and earlier runs: two regressions, one by counts, among benchmarks that pass."""
    chance = random.Random(4)
    groups = ["redis", "postgres", "api", "worker"]
    names = ["publish_latency", "get", "insert_one_row", "page_of_items", "login", "pipeline", "select_by_key", "copy"]
    medians_s = [10 ** chance.uniform(-4.6, -2.2) for _ in range(count)]
    keys = [
        f"test_{groups[n % 4]}_benchmarks.py::test_{names[n // 4 % 8]}[{['100 B', '10 kB', 'cold'][n // 32 % 3]}-{n}]"
        for n in range(count)
    ]

    def around(median_s: float, count: int) -> list[float]:
        drawn = (median_s * chance.lognormvariate(0, 0.03) for _ in range(count))
        return [s * chance.uniform(1.3, 4) if chance.random() < 0.03 else s for s in drawn]

    run = results(created="2026-11-24T08:00:00+00:00", tolerance=0.02, minimum_effect=0.05)
    entries, recorded = [], []
    for n, (key, median_s) in enumerate(zip(keys, medians_s, strict=True)):
        slower = {0: 0.11, 6: 0.062}.get(n, 0.0)
        change = slower + chance.gauss(0, 0.006)
        half = chance.uniform(0.008, 0.03)
        samples_s = around(median_s * (1 + slower), samples)
        entry = benchmark(
            key,
            "regression" if slower else "inconclusive" if n == 9 else "improvement" if n == 12 else "pass",
            median=median_s * (1 + slower),
            mean=median_s * 1.02,
            p95=median_s * 1.1,
            minimum=min(samples_s),
            maximum=max(samples_s),
            samples=samples,
            samples_s=samples_s,
            baseline_median=median_s,
            change=change if n != 12 else -0.18,
            change_low=(change if n != 12 else -0.18) - half,
            change_high=(change if n != 12 else -0.18) + half * (3 if n == 9 else 1),
            description="Reads one item over a kept connection and checks what comes back.",
            source=f"async def test_{n}(redis_client, measure):\n    async for timer in measure():\n"
            "        with timer:\n"
            "            await redis_client.publish('a', '<b>')\n",
            counts={"redis.messages": 1.0, "redis.bytes_sent": 31.0},
            counted=["messages"],
            budgets=[BudgetResult("p95_ms", 20.0, median_s * 1100, kept=True)] if n % 5 == 0 else [],
        )
        if slower or n % 8 == 1:
            entry = replace(
                entry,
                differences=[math.log1p(slower) + chance.gauss(0, 0.012) for _ in range(9)],
                base_samples_s=around(median_s, samples),
                head_samples_s=around(median_s * (1 + slower), samples),
                reasons=[Reason("compared", number=9)],
            )
        if slower:
            functions = [
                FunctionTime("serialise", "sample_service/items.py", 41, median_s * 0.1, median_s * 0.19, 1, 51, "app"),
                FunctionTime("Decimal.quantize", "", 0, median_s * 0.05, median_s * 0.07, 3, 4),
            ]
            entry = replace(entry, functions=functions)
        entries.append(entry)
        recorded.append(
            benchmark(
                key, None, median=median_s, p95=median_s * 1.1, minimum=median_s * 0.9, maximum=median_s * 3,
                process_medians=[median_s * chance.lognormvariate(0, 0.01) for _ in range(5)], samples=500,
                counts={"redis.messages": 1.0, "redis.bytes_sent": 31.0}, counted=["messages"],
            )
        )  # fmt: skip
    statement = "postgres.statement SELECT … FROM item WHERE id = $1"
    entries[2] = replace(
        entries[2],
        verdict="regression",
        counts={statement: 51.0},
        count_changes=[CountChange(statement, 1, 51, gated=True)],
        reasons=[Reason("count_grown", counts=[CountGrowth(statement, 1, 51)])],
    )
    run = judged(
        replace(
            run,
            benchmarks=entries,
            baseline_commit="beef000" + "0" * 33,
            baseline_created="2026-08-01T10:00:00+00:00",
            baseline_differences=["redis 9.0.3, was 9.1.0"],
            base="beef000, the merge base with main",
            base_differences=["src/sample_service/items.py"],
        )
    )

    history = []
    level = [1.0] * count
    for number in range(runs):
        level = [max(0.8, min(1.2, each * chance.lognormvariate(0, 0.01))) for each in level]
        old = [
            Benchmark(key, "s", "pass", median_s * factor, {}, p95=median_s * factor * chance.uniform(1.05, 1.3))
            for key, median_s, factor in zip(keys, medians_s, level, strict=True)
        ]
        earlier = results(
            *old,
            created=f"2026-{4 + number // 28:02}-{1 + number % 28:02}T08:00:00+00:00",
            baseline_commit=("cafe000" if number < runs * 2 // 3 else "beef000") + "0" * 33,
            verdict="regression" if number % 37 == 5 else "pass",
        )
        commit = {0: "cafe000", runs * 2 // 3: "beef000"}.get(number, f"{number:07x}") + "0" * 33
        history.append(replace(earlier, environment=replace(earlier.environment, commit=commit)))
    environment = replace(results().environment, packages={"redis": "8.0.0", "starlette": "1.0.1"})
    return run, results(*recorded, environment=environment, created=run.baseline_created), history


# What stands in a page

KNOWN_TAGS = re.compile(
    "a|article|bdi|body|button|caption|code|details|div|figcaption|figure|form|h[123]|head|header|html|input|label|li|main|"
    "meta|noscript|option|output|p|pre|script|section|select|span|strong|style|summary|table|tbody|td|th|thead|title|tr|ul"
)


class Reader(HTMLParser):
    """Tags with their attributes, texts, and the rows of tables; fails if elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._marks: list[bool] = []
        self.data: dict[str, Any] = {}
        self._open: list[str] = []
        self._id = ""
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") or ""
        if tag not in {"meta", "input"}:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self._marks.append(dict(attrs).get("class") == "marked")
        elif tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            if self._id:
                self.data[self._id] = json.loads(data)
        elif self._open[-1:] != ["style"]:
            self.texts.append(data)
            if self.rows and {"th", "td"} & set(self._open):
                self.rows[-1][-1] += data

    @property
    def marked(self) -> list[str]:
        return [row[0] for row, marked in zip(self.rows, self._marks, strict=True) if marked]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]

    def plots(self, kind: str) -> list[dict[str, Any]]:
        return [plot for plot in map(json.loads, self.attributes("data-plot")) if plot["kind"] == kind]


def test_the_verdict_stands_first_and_failing_benchmarks_are_open() -> None:
    seen = Reader(page.render(small(), None, []))

    headings = [tag for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert ("h1", {"class": "bad"}) in seen.tags
    assert "Invalid in the baseline, but not measured: test_postgres.py::test_select_1" in seen.text
    assert "Exit code 3: invalid: something was not measured or compared, or not reliably." in seen.text
    assert 'Next: nox -s ci -- -k "test_get or test_login or test_publish_latency"' in seen.text
    assert "assert 'OK' == 'NOAUTH'" in seen.text
    entries = [attributes for tag, attributes in seen.tags if tag == "details" and "data-verdict" in attributes]
    assert [("open" in each) for each in entries] == [True] * 3 + [False] * 3
    assert {each["data-verdict"] for each in entries[:3]} == {"regression", "over budget", "missing"}


def test_a_benchmark_is_shown_with_all_that_is_known() -> None:
    entry = benchmark(
        "a.py::test_a",
        "regression",
        samples_s=[100e-6, 102e-6, 104e-6],
        base_samples_s=[90e-6, 92e-6],
        head_samples_s=[99e-6, 101e-6],
        differences=[math.log(1.1), math.log(1.08)],
        functions=[FunctionTime("slow", "app.py", 7, 1e-6, 3e-6, 1, 51, "app")],
        counts={"redis.messages": 2.0},
        counts_varying={"redis.bytes_sent": [31.0, 33.0]},
        count_changes=[CountChange("redis.messages", 1, 2, gated=True)],
        budgets=[BudgetResult("p95_ms", 2.0, 2.434, kept=False), BudgetResult("mean_ms", 0.1, 0.0574, kept=True)],
        source="def test_a(measure):\n\tassert 1 < 2",
        description="What it does.",
        change=0.09,
        change_low=0.07,
        change_high=None,
        tolerance=0.03,
    )
    before = benchmark("a.py::test_a", None, process_medians=[95e-6, 97e-6], minimum=90e-6, maximum=0.2, samples=40)
    earlier = [
        results(benchmark("a.py::test_a", median=50e-6, p95=60e-6), baseline_commit=commit, created=f"2026-01-0{day}")
        for day, commit in enumerate(["aaaaaaaa", "bbbbbbbb"], 1)
    ]
    run = results(entry, tolerance=0.02, minimum_effect=0.05, baseline_commit="bbbbbbbb", created="2026-01-03")

    seen = Reader(page.render(run, results(before), earlier))

    assert ["baseline", "40", "90.0 µs", "57.4 µs", "58.0 µs", "61.2 µs", "", "200 ms", "17,400/s"] in seen.rows
    assert ["base", "2", "90.0 µs", "91.0 µs", "91.0 µs", "91.9 µs", "", "92.0 µs", "11,000/s"] in seen.rows
    assert "in app: app.py:7 slow +2.00 µs per operation (1.00 µs → 3.00 µs, 1 → 51 calls)" in seen.text
    assert ["redis.messages", "1", "2", "counts against it"] in seen.rows
    assert ["redis.bytes_sent", "", "31 to 33", "varies: not judged"] in seen.rows
    assert "budget broken: p95 2.43 ms > 2 ms" in seen.text
    assert "budget kept: mean 0.0574 ms < 0.1 ms" in seen.text
    assert "assert 1 < 2" in seen.text
    assert "What it does." in seen.text
    assert seen.marked == ["redis.messages"]
    changes = {"change": 9.0, "low": 7.0, "high": None, "tolerance": 3.0, "effect": 5.0}
    assert list(map(json.loads, seen.attributes("data-row"))) == [
        {
            "key": "a.py::test_a",
            "name": "a",
            "label": "+9.0 % regression",
            "interval": "+7.0…",
            "verdict": "regression",
            "tone": "bad",
            **changes,
        }
    ]
    assert seen.plots("pairs") == [{"kind": "pairs", "differences": [10.0, 8.0], **changes}]
    (plot,) = seen.plots("distribution")
    assert plot["rows"] == {
        "baseline": [95e-6, 97e-6], "base": [90e-6, 92e-6], "head": [99e-6, 101e-6],
        "this run": [100e-6, 102e-6, 104e-6],
    }  # fmt: skip
    assert seen.plots("history") == [
        {"kind": "history", "medians": [50e-6, 50e-6, 57.4e-6], "p95": [60e-6, 60e-6, 61.2e-6], "limit": 61.2e-6}
    ]
    assert seen.data["runs"] == [
        ["2026-01-01", "0f1e2d3", "pass", "aaaaaaaa"],
        ["2026-01-02", "0f1e2d3", "pass", "bbbbbbbb"],
        ["2026-01-03", "0f1e2d3", "pass", "bbbbbbbb"],
    ]
    labels = [attributes.get("aria-label") for _, attributes in seen.tags if attributes.get("role") == "img"]
    assert any(
        "Pairs. The pairs of the comparison, head against base: +10 %, +8.0 %. " in str(label) for label in labels
    )


def test_the_environment_and_its_differences_from_the_baseline_are_shown() -> None:
    run = results(benchmark("a.py::test_a"), baseline_differences=["Python was 3.12.1, is 3.11.9", "httpx 0.28 → none"])

    seen = Reader(page.render(run, None, []))

    assert "Python was 3.12.1, is 3.11.9" in seen.texts
    assert "httpx 0.28 → none" in seen.texts
    assert ["Python", "3.11.9"] in seen.rows
    assert ["machine", "build-1, 2 cores, Xeon"] in seen.rows
    assert ["redis", "8.1.0"] in seen.rows


def test_a_run_without_benchmarks_says_why() -> None:
    run = results(verdict="invalid", exit_code=3, reasons=["redis never became ready"], baseline="")

    seen = Reader(page.render(run, None, []))

    assert "Invalid redis never became ready 0 benchmarks; 0 tests." in seen.text
    assert "Nothing was measured." in seen.text
    assert "There is no baseline to compare with." in seen.text
    assert "There are no earlier runs." in seen.text
    assert not seen.attributes("data-plot")
    assert "#benchmarks" in seen.attributes("href")
    assert "benchmarks" in seen.attributes("id")


def test_unknown_figures_are_left_out() -> None:
    new = benchmark("a.py::test_a", "new", baseline_median=None, change=None, change_low=None, change_high=None)

    seen = Reader(page.render(results(new, unmeasured("a.py::test_b")), None, [results(benchmark("c.py::test_c"))]))

    assert not seen.attributes("data-row")
    assert not seen.attributes("data-plot")
    assert [row[0] for row in seen.rows if row[0] == "this run"] == ["this run"]
    assert "None" not in seen.text


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_refused(value: float) -> None:
    """The files of a run are written before the page, and have refused them before."""
    run = results(benchmark("a.py::test_a", change=value))

    with pytest.raises(ResultsError, match="a figure is"):
        page.render(run, None, [])


@pytest.mark.parametrize("key", NASTY.values(), ids=list(NASTY))
def test_names_of_any_kind_are_shown_as_they_are(key: str) -> None:
    hostile = benchmark(
        key, "regression", reasons=[f"slow: {key}"], description=key, source=f"</pre>{key}\n</script><script>x",
        warnings=[key], functions=[FunctionTime(key, key, 1, 1e-6, 2e-6, 1, 1, key)], counts={key: 1.0},
        differences=[0.1], samples_s=[1e-6], budgets=[BudgetResult("p95_ms", 1.0, 2.0, kept=False, note=key)],
    )  # fmt: skip
    run = results(
        hostile, tests=[TestOutcome(key, "failed", 0.1, f"</pre><script>{key}")], reasons=[key], notes=[key],
        service_lines=[key], baseline=key, baseline_commit=key, created=key, base=key, baseline_differences=[key],
    )  # fmt: skip
    environment = replace(run.environment, commit=key, machine=key, packages={key: key}, services={key: key})
    run = replace(run, environment=environment)

    text = page.render(run, run, [run])
    seen = Reader(text)

    assert text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text.replace(page.script(), ""))
    assert all(KNOWN_TAGS.fullmatch(tag) for tag, _ in seen.tags)
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert " ".join(form.plain(form.file_and_name(key)[1]).split()) in seen.text
    assert seen.data["runs"][0][1] == form.plain(key)


def test_the_page_loads_nothing() -> None:
    text = page.render(*sample(count=14, runs=2))

    own = text.replace(page.script(), "")
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', own)
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert "unsafe-eval" not in policy[0]
    assert not re.search(r"https?://|url\(|@import|<link|<img|<iframe| src=", own)


def test_40_benchmarks_with_200_earlier_runs_stay_below_the_limit() -> None:
    assert len(page.render(*sample()).encode()) < LIMIT_BYTES


def test_2000_benchmarks_are_all_there(large_report: Path) -> None:
    seen = Reader(large_report.read_text(encoding="utf-8"))

    assert len(seen.attributes("data-row")) == 2000
    assert len(seen.plots("distribution")) == 2000
    assert len(set(seen.attributes("id"))) == len(seen.attributes("id"))


def test_many_samples_are_thinned_to_those_that_a_reader_can_distinguish() -> None:
    entry = benchmark("a.py::test_a", samples_s=[1e-6 * (1 + n / 1000) for n in range(1000)])

    (plot,) = Reader(page.render(results(entry), None, [])).plots("distribution")

    assert 100 < len(plot["rows"]["this run"]) <= 200
    assert plot["rows"]["this run"][0] == 1e-6
    assert plot["rows"]["this run"][-1] == 1.999e-6


def test_far_outliers_are_counted_and_do_not_squeeze_the_plot() -> None:
    entry = benchmark("a.py::test_a", samples_s=[1e-3 + n * 1e-6 for n in range(100)] + [0.5])

    text = page.render(results(entry), None, [])

    assert Reader(text).plots("distribution")[0]["limit"] < 1.5e-3
    assert "1 beyond the right edge, up to 500 ms." in Reader(text).text


# In a browser


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, neither of them with a number that Chromium uses itself."""
    ends = os.pipe()
    higher = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return higher[0], higher[1]


class Chromium:
    """A headless Chromium, driven through the pipes of its DevTools protocol."""

    def __init__(self, binary: str, profile: Path) -> None:
        commands, self._commands = _pipe()
        self._answers, answers = _pipe()
        as_it_wants = (
            f"import os, sys; os.dup2({commands}, 3); os.dup2({answers}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        )
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", as_it_wants, binary, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, answers),
        )
        os.close(commands)
        os.close(answers)
        self._read = b""
        self._sent = 0
        self.complaints: list[str] = []
        self._session: dict[str, str] = {}

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and wait for its answer; what the page complains of meanwhile is kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters} | self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return dict(answer["result"])
            if answer.get("method") in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
                said = answer["params"].get("args") or answer["params"]
                self.complaints.append(json.dumps(said)[:500])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], ANSWER_LIMIT_S)[0], "Chromium doesn't answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "Chromium has ended"
            self._read += chunk
        message, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(message))

    def open(self, path: Path, *, width: int = 1400, scheme: str = "light", fragment: str = "") -> None:
        """Show a file in a new page."""
        self._session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.complaints.clear()
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.scheme(scheme)
        self.width(width)
        self.call("Page.navigate", url=path.as_uri() + fragment)
        self.run("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")

    def scheme(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def width(self, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key)
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        fields: dict[str, Any] = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": codes[key],
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    binary = next(filter(None, found), None)
    if binary is None:
        if "CI" in os.environ:
            pytest.fail("there is no Chromium to look at the report with")
        pytest.skip("there is no Chromium to look at the report with")
    browser = Chromium(binary, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stop()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(*sample(count=20)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(*sample(count=2000, runs=5, samples=20)), encoding="utf-8")
    return path


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
    assert all(re.match("Changes of|Pairs|Distribution|History", plot["said"]) for plot in plots)
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
    assert chromium.run("document.documentElement.scrollWidth") == 400
    assert chromium.complaints == []


SHOWN = (
    "[...document.querySelectorAll('details[data-verdict]')].filter(each => !each.hidden)"
    ".map(each => JSON.parse(each.dataset.row).key)"
)
SETTLED = "new Promise(done => setTimeout(done, 300))"


def test_search_and_filter_are_reached_and_worked_by_keyboard(chromium: Chromium, report: Path) -> None:
    chromium.open(report)
    focused = "document.activeElement.id || document.activeElement.className"
    order = []
    for _ in range(6):
        chromium.press("Tab")
        order.append(chromium.run(focused))
    assert order[0] == "skip"
    assert {"search", "verdict", "unfold"} <= set(order)
    assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    chromium.run("document.getElementById('search').focus()")
    chromium.call("Input.insertText", text="POSTGRES login")
    chromium.run(SETTLED)
    found = chromium.run(SHOWN)
    assert found
    assert all("postgres" in key and "login" in key for key in found)
    assert chromium.run("document.getElementById('shown').textContent") == f"{len(found)} of 20 shown"
    assert chromium.run("document.querySelectorAll('#forest svg .mark-symbol path').length") == len(found)

    chromium.run("document.getElementById('search').value = ''; document.getElementById('verdict').focus()")
    chromium.press("ArrowDown")
    chromium.run(SETTLED)
    assert chromium.run("document.getElementById('verdict').value") == "notable"
    assert len(chromium.run(SHOWN)) == 4

    summary = "[...document.querySelectorAll('details[data-verdict] > summary')][0]"
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


def test_2000_benchmarks_are_drawn_in_parts(chromium: Chromium, large_report: Path) -> None:
    chromium.open(large_report)
    chromium.run(
        "(async () => { for (let n = 0; n < 500 && !document.querySelector('#forest svg'); n++) "
        "await new Promise(r => setTimeout(r, 10)); })()"
    )

    assert chromium.run("document.querySelectorAll('#forest .plot').length") == 20
    assert chromium.run("document.querySelectorAll('#forest svg .mark-symbol path').length") == 100
    assert chromium.run("document.querySelectorAll('figure svg').length") < 50
    assert chromium.complaints == []


def test_a_page_without_benchmarks_opens_without_a_complaint(chromium: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(
        page.render(results(verdict="invalid", exit_code=3, reasons=["not ready"]), None, []), encoding="utf-8"
    )

    chromium.open(path)

    assert chromium.run("document.querySelector('h1').textContent") == "Invalid"
    assert chromium.run("getComputedStyle(document.querySelector('h1'), '::before').content") == '"✕"'
    assert chromium.complaints == []
