"""Results with known values for the tests of the reports."""

from typing import Any

from msgspec.structs import replace

from plumbline.judging.decide import run_verdict
from plumbline.results.schema import Benchmark, BudgetResult, Environment, Reason, Results, TestOutcome, Verdict

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
        "schema": 1,
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
    return replace(run, verdict=verdict, exit_code=code, reasons=reasons)


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
