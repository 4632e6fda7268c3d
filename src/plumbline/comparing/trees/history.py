"""The commits between two revisions, along the first parents."""

from dataclasses import dataclass

from plumbline.comparing.trees.git import ADVICE, Git, NoBase

SHOWN = 10  # characters of a hash


@dataclass(frozen=True)
class Commit:
    """A commit in git."""

    name: str  # the full hash
    author: str
    date: str
    subject: str
    parents: tuple[str, ...]


def history(git: Git, good: str, bad: str) -> list[str]:
    """Return the first parents of `bad`, the oldest first, beginning with the newest one that `good` has, too.

    A merge counts as one commit. Only `bad` is returned if `good` contains it. A shallow clone is deepened. Raises
    NoBase if there is no common commit.
    """

    def fork() -> str:
        if not git.commit(good):
            return ""
        oldest = next(iter(_first_parents(git, good, bad)), "")
        return git.commit(f"{oldest}^1") if oldest else bad

    if not (found := fork() or git.deepen(fork)):
        raise NoBase(
            f"{good[:SHOWN]} and {bad[:SHOWN]} have no common history here{git.attempts()}: fetch more, {ADVICE}"
        )
    return [found, *_first_parents(git, good, bad)]


def _first_parents(git: Git, good: str, bad: str) -> list[str]:
    return git.ask("rev-list", "--first-parent", "--reverse", bad, f"^{good}").split()


def describe_commit(git: Git, name: str) -> Commit:
    """Return a commit's author, the date of its author, its subject and its parents. Raises NoBase."""
    options = ("--no-patch", "--no-show-signature", "--date=iso", "--format=%an%n%ad%n%s%n%P")
    author, date, subject, parents = git.run("show", *options, name).split("\n")[:4]
    return Commit(name, author, date, subject, tuple(parents.split()))
