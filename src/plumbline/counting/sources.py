"""The interface of a source of counts."""

from typing import Protocol

Numbers = dict[str, float]


class CannotCount(Exception):
    """Something cannot be counted here; str() says why."""


class Source(Protocol):
    """Something that counts. Each method may raise CannotCount; the source is then left out of the rest of a pass."""

    families: list[str]

    def begin(self) -> None:
        """Get ready for some rounds."""

    def enter(self) -> None:
        """Begin the window of one round."""

    def leave(self) -> None:
        """End it."""

    def end(self) -> list[Numbers]:
        """Return the counts since `begin`, by round; called even if the source was left out, to clean up."""
