"""The baseline as it is in the base commit."""

import contextlib
from pathlib import Path

from plumbline.comparing.trees.git import Base, Git
from plumbline.results.files import ResultsError, decode_results
from plumbline.results.schema import Results


def baseline_at(root: Path, base: Base, file: Path) -> Results | None:
    """Return the baseline file as it is in the base commit; None if it is not there, or cannot be used."""
    git = Git(root)
    shown = git.ask("show", f"{base.commit}:{git.prefix}{file.relative_to(root).as_posix()}")
    with contextlib.suppress(ResultsError):
        return decode_results(shown.encode(), file) if shown else None
    return None


def edited_entries(base_baseline: Results | None, baseline: Results | None) -> frozenset[str]:
    """Return the keys whose entry differs between the base's baseline and this one; none if either is missing."""
    if base_baseline is None or baseline is None:
        return frozenset()
    old = {benchmark.key: benchmark.process_medians for benchmark in base_baseline.benchmarks}
    return frozenset(
        one.key for one in baseline.benchmarks if old.get(one.key, one.process_medians) != one.process_medians
    )
