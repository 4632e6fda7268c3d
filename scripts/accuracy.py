"""Measure the error rates of whole gates on changes of the sample service: `python -m scripts.accuracy --help`.

`plumbline selfcheck` compares two copies of one tree. This script changes the code of a clone instead. It prints shares
with their exact 95 % confidence intervals.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping

from plumbline.reporting.content import reason_text
from plumbline.results.schema import Benchmark, Results
from plumbline.selfcheck.record import Share
from scripts.clones import APP, PASS, REGRESSION, cloned, run_sections

SLOW_DOWN = 0.1
# An estimate is good if it is this close to the deliberate slow-down; both are shares.
GOOD_ESTIMATE = 0.015
# Timings of another host of the same kind, relative to those of this host.
SCALES = (0.8, 1.25)
API = "test_api_benchmarks.py::"
# Handlers of the sample service, and the benchmark of each.
HANDLERS = {
    "list_items": f"{API}test_list",
    "create_item": f"{API}test_create",
    "health": f"{API}test_health",
    "read_cached_item": f"{API}test_cached_read",
}
MOST_COUNTS = 3


class Tally:
    """Counts right and wrong verdicts of gates with known slow-downs.

    Benchmarks that the change does not affect are not counted.
    """

    def __init__(self) -> None:
        self._gates: list[tuple[Results, Mapping[str, float]]] = []

    def add(self, results: Results, slower: Mapping[str, float] = {}) -> None:
        """`slower`: the slow-down of each slower benchmark by its key, as a share."""
        self._gates.append((results, slower))

    def shares(self) -> dict[str, Share]:
        valid = [(results, slower) for results, slower in self._gates if results.exit_code in (PASS, REGRESSION)]
        pairs = [(one, slower.get(one.key)) for results, slower in valid for one in results.benchmarks]
        slowed = [(one, size) for one, size in pairs if size is not None]
        others = [one for one, size in pairs if size is None and not is_unaffected(one)]
        false_positives = [any(key not in slower for key in failed(results)) for results, slower in valid]
        found = {
            "invalid gates": Share(len(self._gates) - len(valid), len(self._gates)),
            "gates with a false positive": Share(sum(false_positives), len(valid)),
            "false positives by benchmark": Share(sum(one.verdict == "regression" for one in others), len(others)),
            "inconclusive without a change": Share(sum(one.verdict == "inconclusive" for one in others), len(others)),
        }
        if slowed:
            caught = sum(one.verdict == "regression" for one, _ in slowed)
            close = sum(abs((one.change or 0.0) - size) <= GOOD_ESTIMATE for one, size in slowed)
            found["slow-downs caught"] = Share(caught, len(slowed))
            found[f"slow-downs read within {GOOD_ESTIMATE * 100:g} points"] = Share(close, len(slowed))
        return found

    def show(self, title: str) -> None:
        print(f"{title}:")
        for name, share in self.shares().items():
            if share.of:
                print(f"  {name}: {share}")
        for results, slower in self._gates:
            for key, one in failed(results).items():
                if key not in slower:
                    print(f"  false positive: {described(one)}")
            for one in results.benchmarks:
                if one.key in slower and one.verdict != "regression":
                    print(f"  not caught: {described(one)}, {one.verdict}")
            if results.exit_code not in (PASS, REGRESSION):
                print(f"  invalid: {'; '.join(map(reason_text, results.reasons))}")


def is_unaffected(one: Benchmark) -> bool:
    return any(reason.kind == "unaffected" for reason in one.reasons)


def failed(results: Results) -> dict[str, Benchmark]:
    return {one.key: one for one in results.benchmarks if one.verdict == "regression"}


def described(one: Benchmark) -> str:
    """Return a benchmark's key and the changes of its timings and counts."""
    counts = [f"{change.name} {change.old:g} → {change.new:g}" for change in one.count_changes if change.gated]
    change = "not timed" if one.change is None else f"{one.change:+.1%}"
    return f"{one.key}: {'; '.join([change, *counts[:MOST_COUNTS]])}"


def hosted(options: argparse.Namespace) -> None:
    """A baseline with 0.8 and 1.25 times the timings of this host: an unused constant, then one handler 10 % slower."""
    with cloned() as clone:
        recorded = clone.record_baseline()
        medians_s = {one.key: one.median for one in recorded.benchmarks}
        for scale in SCALES:
            clone.pretend_another_host(recorded, scale)
            unchanged, slower = Tally(), Tally()
            for run in range(options.runs):
                clone.touch()
                unchanged.add(clone.gate())
                clone.restore()
                handler, key = list(HANDLERS.items())[run % len(HANDLERS)]
                clone.slow_down(handler, SLOW_DOWN * medians_s[key])
                slower.add(clone.gate(), {key: SLOW_DOWN})
                clone.restore()
            unchanged.show(f"baseline of another host, times {scale:g}, an unused constant added")
            slower.show(f"baseline of another host, times {scale:g}, one handler {SLOW_DOWN:.0%} slower")


def service(options: argparse.Namespace) -> None:
    """Three regressions of GET /items, gated with the whole suite on the machine of the baseline."""
    fetch_all = 'await fetch(request, "SELECT id, name, price_cents FROM items ORDER BY id LIMIT $1", int(limit))'
    one_by_one = (
        '[(await fetch(request, "SELECT id, name, price_cents FROM items WHERE id = $1", row["id"]))[0]'
        ' for row in await fetch(request, "SELECT id FROM items ORDER BY id LIMIT $1", int(limit))]'
    )
    respond, copy_and_respond = 'JSONResponse({"items": items})', 'JSONResponse(copy.deepcopy({"items": items}))'
    imports = ("import json\n", "import copy\nimport json\n")
    with cloned() as clone:
        recorded = clone.record_baseline()
        key = HANDLERS["list_items"]
        median_s = next(one.median for one in recorded.benchmarks if one.key == key)
        changes: dict[str, Callable[[], None]] = {
            f"{SLOW_DOWN:.0%} more work in GET /items": lambda: clone.slow_down("list_items", SLOW_DOWN * median_s),
            "GET /items copies its items": lambda: clone.edit(APP, imports, (respond, copy_and_respond)),
            "GET /items makes a query for each item": lambda: clone.edit(APP, (fetch_all, one_by_one)),
        }
        for title, change in changes.items():
            caught, others = 0, 0
            print(f"{title}:")
            for _ in range(options.runs):
                change()
                results = clone.gate()
                clone.restore()
                found = failed(results)
                caught += key in found
                others += len(found.keys() - {key})
                verdicts = Counter(str(one.verdict) for one in results.benchmarks)
                print(f"  exit code {results.exit_code}, {dict(verdicts)}")
                shown = [one for one in results.benchmarks if one.key == key or one.key in found]
                print("\n".join(f"    {one.verdict}: {described(one)}" for one in shown))
            print(f"  caught: {Share(caught, options.runs)}; others failed: {others}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.accuracy",
        description="Measure the error rates of whole gates on changes of the sample service.",
        epilog="example: python -m scripts.accuracy service --runs 5",
    )
    parser.add_argument("--runs", type=int, default=3, help="gates for each change (default: 3)")
    run_sections(parser, {"service": service, "hosted": hosted})
