"""Counts of one benchmark, as the counting pass hands them over."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """Counts per operation, by name."""

    same: dict[str, float] = field(default_factory=dict)
    """Equal in all rounds of the pass; bytes within what may differ."""
    varying: dict[str, list[float]] = field(default_factory=dict)  # by round; shown, never judged
    families: list[str] = field(default_factory=list)
    """Families that could be counted: a name of one of these that is absent counts 0."""
