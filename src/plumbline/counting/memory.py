"""Allocations and peak memory of a block, by process."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from plumbline.counting.families import ALLOCATIONS, PEAK_BYTES, Numbers
from plumbline.counting.probes import TEST
from plumbline.results.schema import CallSite


class MemoryReader:
    """Reads what the probe `memory` has found. Processes of one name, such as workers of a server, are added up."""

    families: Sequence[str] = (ALLOCATIONS,)
    by_process = True

    def numbers(self, found: Sequence[tuple[str, Any]]) -> Numbers:
        numbers = Counter[str]()
        for process, block in found:
            for kind in (ALLOCATIONS, PEAK_BYTES):
                numbers[f"{process}.{kind}"] += block[kind]
        return dict(numbers)

    def sites(self, found: Sequence[tuple[str, Any]]) -> dict[str, list[CallSite]]:
        sites: dict[str, list[CallSite]] = {}
        for process, block in found:
            where = "" if process == TEST else process
            for file, line, function, *counts in block["lines"]:
                for kind, count in zip((ALLOCATIONS, PEAK_BYTES), counts, strict=True):
                    if count:
                        sites.setdefault(f"{process}.{kind}", []).append(CallSite(file, line, function, count, where))
        return {name: sorted(lines, key=lambda site: -site.count) for name, lines in sites.items()}

    def uncounted(self, found: Sequence[tuple[str, Any]]) -> list[str]:
        return [f"{what} (in {process})" for process, block in found for what in block["uncounted"]]
