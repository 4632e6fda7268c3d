"""Results with known values for the tests of the reports."""

import math
import random
from typing import Any

from msgspec.structs import replace

from plumbline.judging.decide import run_verdict
from plumbline.reporting.problems import find_problems
from plumbline.results.schema import (
    Benchmark,
    BudgetResult,
    CountChange,
    CountGrowth,
    Environment,
    FunctionTime,
    Reason,
    Results,
    TestOutcome,
    Verdict,
)

NASTY = {
    "brackets": "test_redis.py::test_publish[bold red]",
    "closing tag": "test_redis.py::test_publish[/]",
    "pipe and backticks": "test_redis.py::test_publish[a|b `c` \\|]",
    "html": "test_redis.py::test_publish[<script>alert(1)</script>&amp;]",
    "emoji": "test_redis.py::test_publish[🚀 👩‍💻 :rocket:]",
    "wide": "test_redis.py::test_发布_延迟[一千字节]",
    "right to left": "test_redis.py::test_שלום_עולם[مرحبا]",
    "markdown": "test_redis.py::test_publish[*a* _b_ [c](d) ~~e~~ $f$ @everyone]",
    "control": "test_redis.py::test_publish[\x1b[31mred\x1b[0m\x00\x07\r\n\u202eback]",
}


def benchmark(key: str, verdict: Verdict | None = "pass", **fields: Any) -> Benchmark:
    """57.1 µs before, 57.4 µs now, unless said otherwise."""
    values: dict[str, Any] = {
        "unit": "s",
        "median": 57.4e-6,
        "counts": {},
        "mean": 58.0e-6,
        "p95": 61.2e-6,
        "rate_per_s": 17_421.6,
        "samples": 100,
        "baseline_median": 57.1e-6,
        "change": 0.005,
        "change_low": -0.004,
        "change_high": 0.014,
        "minimum_detectable_effect": 0.032,
    }
    return Benchmark(key=key, verdict=verdict, **(values | _with_reasons(fields)))


def unmeasured(key: str, verdict: Verdict = "missing", **fields: Any) -> Benchmark:
    nothing = dict.fromkeys(("change", "change_low", "change_high", "minimum_detectable_effect"))
    return benchmark(key, verdict, **({"median": 0.0, "samples": 0, "rate_per_s": 0.0} | nothing | fields))


def results(*benchmarks: Benchmark, **fields: Any) -> Results:
    environment = Environment(
        machine="build-1",
        system="Linux",
        architecture="x86_64",
        cpu="Xeon",
        cpu_count=2,
        kernel="6.12",
        python="3.11.9",
        services={"redis": "embedded"},
        versions={"redis": "9.1.0"},
        pin=1,
        commit="0f1e2d3",
        dirty=False,
        packages={"redis": "8.1.0"},
    )
    values: dict[str, Any] = {
        "schema": 2,
        "verdict": "pass",
        "environment": environment,
        "benchmarks": list(benchmarks),
        "profile": "ci",
        "exit_code": 0,
        "baseline": "baselines/linux.json",
        "tests": [
            TestOutcome(each.key, "passed", 0.25, benchmark=True) for each in benchmarks if each.verdict != "missing"
        ],
    }
    return Results(**(values | _with_reasons(fields)))


def judged(run: Results) -> Results:
    """The run with the verdict that its benchmarks and tests ask for."""
    verdict, code, reasons = run_verdict(run, fail_on=[])
    run = replace(run, verdict=verdict, exit_code=code, reasons=reasons)
    return replace(run, problems=find_problems(run))


def _with_reasons(fields: dict[str, Any]) -> dict[str, Any]:
    """Plain texts become reasons of the kind that is shown as it is."""
    said = [Reason("ended", one) if isinstance(one, str) else one for one in fields.get("reasons", [])]
    return fields | {"reasons": said}


def small() -> Results:
    """One of each kind that a reader has to tell apart."""
    redis, postgres = "test_redis.py::test_", "test_postgres.py::test_"
    run = results(
        benchmark(
            f"{redis}publish_latency",
            "regression",
            median=61.7e-6,
            change=0.081,
            change_low=0.069,
            change_high=0.094,
            reasons=[Reason("slower_in_processes", number=5)],
        ),
        benchmark(f"{redis}get[100 B]", budgets=[BudgetResult("p95_ms", 2.0, 2.434, kept=False)]),
        benchmark(f"{redis}get[10 kB]", warnings=["12 samples are too short for the clock"]),
        benchmark(
            f"{redis}500_messages_at_once_over_a_bounded_pool", "improvement", change=-0.14, change_low=-0.16, samples=9
        ),
        unmeasured(f"{postgres}select_1", reasons=[Reason("test_skipped", "no time today")]),
        benchmark(f"{postgres}copy", "new", baseline_median=None, change=None, change_low=None, change_high=None),
        service_lines=["redis  embedded  Valkey 9.1.0  core 1  (no Docker engine answers)"],
    )
    tests = [
        *run.tests,
        TestOutcome("test_readiness.py::test_login", "failed", 0.5, "assert 'OK' == 'NOAUTH'\n  - NOAUTH"),
        TestOutcome("test_recovery.py::test_pause", "skipped", 0.0, "redis is not ours"),
    ]
    return judged(replace(run, tests=tests))


def many(count: int = 40, runs: int = 200, samples: int = 100) -> tuple[Results, Results, list[Results]]:
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
                FunctionTime(
                    "serialise", "sample_service/items.py", 41, median_s * 0.1, median_s * 0.19, 1, 51, "app", own=True
                ),
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
