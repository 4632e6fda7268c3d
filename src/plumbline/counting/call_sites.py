"""Call sites of counts: the lines of the project's own code that led to statements and commands."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from plumbline.counting.families import BLOCKING, Numbers
from plumbline.counting.probes import TEST
from plumbline.counting.statements import normalised
from plumbline.results.schema import CallSite

OF_STATEMENTS = ("postgres.statement", "postgres.parse")


class CallSites:
    """A reader of the probe `sites`. It counts nothing itself."""

    families: Sequence[str] = ()
    by_process = False

    def numbers(self, found: Sequence[tuple[str, Any]]) -> Numbers:  # noqa: ARG002
        return {}

    def sites(self, found: Sequence[tuple[str, Any]]) -> dict[str, list[CallSite]]:
        """Return the lines by the name of the count, as its source names it, the most frequent first."""
        numbers: dict[str, dict[tuple[str, int, str, str], float]] = defaultdict(lambda: defaultdict(float))
        for process, noted in found:
            for kind, text, file, line, function, number in noted:
                if not file:
                    continue  # it is not certain
                name = f"{kind} {normalised(text) if kind in OF_STATEMENTS else text}".strip()
                numbers[name][file, line, function, "" if process == TEST else process] += number
        return {
            name: [
                CallSite(file, line, function, number, process)
                for (file, line, function, process), number in sorted(sites.items(), key=lambda item: -item[1])
            ]
            for name, sites in numbers.items()
        }

    def uncounted(self, found: Sequence[tuple[str, Any]]) -> list[str]:  # noqa: ARG002
        return []


class BlockingCalls(CallSites):
    """A reader of the probe `blocking`."""

    families: Sequence[str] = (BLOCKING,)

    def numbers(self, found: Sequence[tuple[str, Any]]) -> Numbers:
        numbers: Numbers = defaultdict(float)
        for kind, text, *_, number in (row for _, noted in found for row in noted):
            numbers[f"{kind} {text}"] += number
        return dict(numbers)
