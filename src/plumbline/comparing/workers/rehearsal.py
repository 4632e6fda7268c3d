"""The rehearsal before the first pair: it checks both copies, and finds the benchmarks that need pairs."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from plumbline.comparing.statistics.controls import CONTROLS
from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.trees import ignored
from plumbline.comparing.trees.affected import (
    Changed,
    affected,
    changed_paths,
    may_make,
    open_traces,
    other_programs,
    unjudged_paths,
)
from plumbline.comparing.trees.at_start.sitecustomize import TESTS
from plumbline.comparing.trees.environment import installed_copies
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import MOST_SHOWN, Sides
from plumbline.comparing.trees.trace import PREPARE, mark_unread, paths_read, read_since
from plumbline.comparing.workers.process import pytest_configuration
from plumbline.comparing.workers.protocol import Collected
from plumbline.services.variables import ROOT
from plumbline.settings import Settings

ALSO_COPY = "add it to also_copy under [compare] in settings.toml"


class Rehearsal:
    """The findings of a rehearsal. Its workers write their traces to `folder`."""

    def __init__(self, settings: Settings, sides: Sides, folder: Path) -> None:
        self.unaffected: set[str] = set()  # keys of benchmarks that need no pairs
        self.unjudged: dict[str, list[str]] = defaultdict(list)  # by key: packages that it runs and no pair can judge
        self.brought_along: list[str] = []  # files that git ignores, and that head read from its copy
        self.failures: dict[str, str] = {}  # by key: why a benchmark did not run
        self.failed_in_head: set[str] = set()  # keys of benchmarks that the copy of the working tree could not run
        # Processes with the programs other than Python that they ran: any change may affect those who use them.
        self.untraced: dict[str, list[str]] = {}
        self.lacking = ""  # advice about files that this copy lacks
        self._env = settings.env
        self._sides = sides
        self._folder = folder
        self._changed = changed_paths(sides)
        self._places = unjudged_paths(sides)
        # Names of processes besides the tests: those that all benchmarks depend on, and those of served benchmarks.
        always = [PREPARE] if settings.prepare else []
        self._always, self._serving = always, [*always, *(["app"] if settings.app else []), *settings.processes]
        self._users: list[tuple[list[str], set[str]]] = []  # processes, and the benchmarks that depend on them
        self._rehearsed: set[str] = set()
        for side, paths in self._changed.items():
            packages = {path: what for one in self._places.values() for path, what in (one[side] or {}).items()}
            open_traces(folder / side, {**packages, **(paths or {})})

    def _made(self, name: str) -> bool:
        return any(f"{{{ROOT}}}/{name}" in text for text in self._env.values())

    @property
    def advice(self) -> str:
        """Advice if the copy of the working tree can't be run."""
        outside = ", ".join(self._sides.shown(ignored.env_files_above(self._sides.top)))
        outside = outside or "something outside of the repository"
        return self.lacking or f"If it reads {outside}, {ALSO_COPY}."

    @contextlib.contextmanager
    def noting_reads(self) -> Iterator[None]:
        """Record the files that the workers read during the `with` block.

        Raises ComparisonInvalid if base read files of the working tree, and CopyFailed if the copy of the working tree
        lacks a file outside of the repository.
        """
        sides, copy = self._sides, self._sides.head.tree
        missing = list[str]()
        trees = {one.name: one.tree for one in (sides.base, sides.head)}
        marked = {side: mark_unread(tree / name for name in sides.files) for side, tree in trees.items()}
        try:
            yield
        finally:
            for side, files in marked.items():
                trace = self._folder / side / TESTS
                if trace.is_file():
                    with trace.open("a", encoding="utf-8", errors="surrogateescape") as file:
                        file.writelines(f"{path}\n" for path in read_since(files))
            paths = paths_read(self._folder / "head")
            read = ignored.read_extras(sides.extras, paths, copy)
            # A file that [env] names by {root} is one that runs make, as with SQLite.
            self.brought_along = [
                name for name, own in zip(read, sides.shown(read), strict=True) if not self._made(own)
            ]
            if missing := ignored.missing_in_copy(paths, copy, sides.top):
                self.lacking = f"It lacks {', '.join(sides.shown(missing))}: {ALSO_COPY}."
        outside = sides.shown(name for name in missing if name.startswith("../"))
        if outside and not self.failed_in_head:
            raise CopyFailed(
                f"the copy of the working tree tries to read {', '.join(outside)}, which it lacks, and goes on without:"
                f" {ALSO_COPY}"
            )
        of_base = paths_read(self._folder / "base")
        if strange := ignored.changed_in_working_tree(of_base, sides.files, sides.top):
            raise ComparisonInvalid(
                f"base reads {', '.join(sides.shown(strange))} from the working tree instead of its own copy: in"
                " your code, locate such files relative to a module's `__file__` or to the working directory"
            )
        self._check_code(paths | of_base)

    def _check_code(self, paths: Set[Path]) -> None:
        """Raise NoBase if base read code of the working tree that may be generated from changed files.

        `paths`: the files that both sides read.
        """
        sides = self._sides
        trees = (sides.base.tree, sides.head.tree)
        unread = [name for name in sides.files if not any(tree / name in paths for tree in trees)]
        code, sources = ignored.made_from_changes(self.brought_along, unread, sides.base.tree, sides.top)
        if code:
            names, of = (", ".join(sides.shown(some[:MOST_SHOWN])) for some in (code, sources))
            raise NoBase(
                f"git ignores {names}, so base has it from the working tree. It may be generated from {of}, which"
                " differs: generate it in each copy by `prepare` in settings.toml"
            )
        for name, (folder, files) in installed_copies(sides.top).items():
            if not files.isdisjoint(paths) and any(Path(one).is_relative_to(folder) for one in sides.files):
                [place] = sides.shown([folder])
                raise NoBase(
                    f"{name} was installed from {place} without -e, so both sides import it from the environment and"
                    f" not from their copies: require it as `-e ./{place}`"
                )

    def order(self, keys: set[str], base: Collected, head: Collected, *, whole: bool) -> list[str]:
        """Return the benchmarks to run in the rehearsal, in their order.

        All run if the rehearsal is `whole` or if the copies have files that git ignores; otherwise only those that may
        turn out to be unaffected. A benchmark runs twice if its calls of functions are recorded.
        """
        keys = keys.intersection(base.keys, head.keys) - CONTROLS.keys()
        served = keys.intersection(base.served, head.served)
        self._users = [(self._always, keys - served), (self._serving, served)]
        again = set[str]()
        for names, users in self._users:
            several = (self._changed, *self._places.values())
            if self._sides.differ and any(self._affected(names, one) is not None for one in several):
                self._rehearsed |= users
                changed = self._changed.items()
                if any(may_make([TESTS, *names], self._folder / side, paths or {}) for side, paths in changed):
                    again |= users
        # The report names the ignored files that benchmarks read.
        all_run = whole or bool(self._sides.extras.copied or self._sides.extras.linked)
        order = [key for key in base.keys if key in (keys if all_run else self._rehearsed)]
        if again:  # another test in between, because pytest keeps fixtures set up for the next test
            order += [next(iter(CONTROLS)), *(key for key in order if key in again)]
        return order

    def conclude(self) -> None:
        """Find the benchmarks that the change does not affect, and the packages that no pair can judge."""
        used = {name for names, users in self._users if users for name in names}
        if self._sides.differ and used:
            others = {name: other_programs(self._folder / "head" / name) for name in self._serving if name in used}
            self.untraced = {name: programs for name, programs in others.items() if programs}
        for names, users in self._users:
            if (found := self._affected(names, self._changed)) is not None:
                self.unaffected |= (users & self._rehearsed) - self.failures.keys() - found
            for package, places in self._places.items():
                running = self._affected(names, places)
                for key in users if running is None else users & (running | self.failures.keys()):
                    self.unjudged[key].append(package)

    def _affected(self, processes: Sequence[str], changed: Mapping[str, Changed | None]) -> set[str] | None:
        """Return the benchmarks that a change affects in the tests or these processes, or None for all."""
        # Both sides use head's pytest configuration, so it is no difference between them.
        configuration = pytest_configuration(self._sides.suite_of)
        found = set[str]()
        for side, paths in changed.items():
            if paths is None:
                return None
            of_tests = {path: functions for path, functions in paths.items() if path != configuration}
            for names, differing in ([TESTS], of_tests), (processes, paths):
                keys = affected(names, self._folder / side, differing)
                if keys is None:
                    return None
                found |= keys
        return found
