"""The rehearsal before the first pair: what its traces say of the copies, and of the benchmarks that need pairs."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from plumbline.comparing.statistics.inference import ComparisonInvalid
from plumbline.comparing.statistics.plan import CONTROLS
from plumbline.comparing.trees import ignored
from plumbline.comparing.trees.affected import (
    PREPARE,
    Changed,
    affected,
    changed_paths,
    may_make,
    open_traces,
    unjudged_paths,
)
from plumbline.comparing.trees.at_start.sitecustomize import TESTS
from plumbline.comparing.trees.environment import installed_copies
from plumbline.comparing.trees.git import NoBase
from plumbline.comparing.trees.ignored import CopyFailed
from plumbline.comparing.trees.sides import LEVELS, MOST_SHOWN, Sides
from plumbline.comparing.trees.trace import mark_unread, paths_read, read_since
from plumbline.comparing.workers.process import pytest_configuration
from plumbline.comparing.workers.protocol import Collected
from plumbline.settings import Settings

ALSO_COPY = "name that in also_copy under [compare] in settings.toml"


class Rehearsal:
    """Findings of a rehearsal, whose workers write their traces into `folder`."""

    def __init__(self, settings: Settings, sides: Sides, folder: Path) -> None:
        self.unaffected: set[str] = set()  # keys of the benchmarks that need no pairs
        self.unjudged: dict[str, list[str]] = defaultdict(list)  # by key, packages that it runs and no pair can judge
        self.brought_along: list[str] = []  # what git ignores, and head's copy got and read
        self.failures: dict[str, str] = {}  # why benchmarks did not run, by key
        self.failed_in_head: set[str] = set()  # keys of those that the copy of the working tree could not run, ever
        self.lacking = ""  # advice on what that copy lacks
        self._sides = sides
        self._folder = folder
        self._changed = changed_paths(sides)
        self._places = unjudged_paths(sides)
        # Processes beside the tests': those that each benchmark depends on, and those behind a served application.
        always = [PREPARE] if settings.prepare else []
        self._always, self._serving = always, [*always, *(["app"] if settings.app else []), *settings.processes]
        self._users: list[tuple[list[str], set[str]]] = []  # benchmarks that depend on these processes
        self._rehearsed: set[str] = set()
        for side, paths in self._changed.items():
            packages = {path: what for one in self._places.values() for path, what in (one[side] or {}).items()}
            open_traces(folder / side, {**packages, **(paths or {})})

    @property
    def advice(self) -> str:
        """What to do if the copy of the working tree can't be run."""
        outside = ", ".join(ignored.env_files_above(self._sides.top, LEVELS)) or "something outside of the repository"
        return self.lacking or f"If it reads {outside}, {ALSO_COPY}."

    @contextlib.contextmanager
    def noting_reads(self) -> Iterator[None]:
        """Note what the workers read meanwhile.

        Raises ComparisonInvalid if base read head's files, and CopyFailed if head's copy goes on without a file that
        the working tree reads from outside of the repository.
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
            self.brought_along = ignored.read_extras(sides.extras, paths, copy)
            if missing := ignored.missing_in_copy(paths, copy, sides.top, LEVELS):
                self.lacking = f"It lacks {', '.join(missing)}: {ALSO_COPY}."
        outside = [name for name in missing if name.startswith("../")]
        if outside and not self.failed_in_head:
            raise CopyFailed(
                f"the copy of the working tree lacks {', '.join(outside)}, which it looks for, and goes on without:"
                f" {ALSO_COPY}"
            )
        of_base = paths_read(self._folder / "base")
        if strange := ignored.changed_in_working_tree(of_base, sides.files, sides.top):
            raise ComparisonInvalid(
                f"base reads {', '.join(strange)} from the working tree and not from its own copy: find such files"
                " from the path of a module, or from the working directory"
            )
        self._check_code(paths | of_base)

    def _check_code(self, paths: Set[Path]) -> None:
        """Raise NoBase if both sides read code that is made from what differs, and that base has from the working tree.

        `paths` are what both sides read.
        """
        sides = self._sides
        trees = (sides.base.tree, sides.head.tree)
        unread = [name for name in sides.files if not any(tree / name in paths for tree in trees)]
        code, sources = ignored.made_from_changes(self.brought_along, unread, sides.base.tree, sides.top)
        if code:
            names, of = (", ".join(some[:MOST_SHOWN]) for some in (code, sources))
            raise NoBase(
                f"base has {names} from the working tree, as git ignores that, although it may be made from {of}, which"
                " differs: let `prepare` in settings.toml make it in each copy"
            )
        for name, (folder, files) in installed_copies(sides.top).items():
            if not files.isdisjoint(paths) and any(Path(one).is_relative_to(folder) for one in sides.files):
                raise NoBase(
                    f"{name} is imported from the environment, where it was installed from {folder}, and not from the"
                    f" copies: ask for it as `-e ./{folder}`"
                )

    def order(self, keys: set[str], base: Collected, head: Collected, *, whole: bool) -> list[str]:
        """Return which of these benchmarks run, and in which order: twice if functions decide whether they must.

        All of them run for a `whole` rehearsal, or if git ignores files, else those that the change may not affect.
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
        # What git ignores is named in the report if a benchmark reads it.
        all_run = whole or bool(self._sides.extras.copied or self._sides.extras.linked)
        order = [key for key in base.keys if key in (keys if all_run else self._rehearsed)]
        if again:  # pytest leaves set up what the next test needs, so no test may follow itself
            order += [next(iter(CONTROLS)), *(key for key in order if key in again)]
        return order

    def conclude(self) -> None:
        """Find the benchmarks that the change does not affect, and the packages that no pair can judge."""
        for names, users in self._users:
            if (found := self._affected(names, self._changed)) is not None:
                self.unaffected |= (users & self._rehearsed) - self.failures.keys() - found
            for package, places in self._places.items():
                reached = self._affected(names, places)
                for key in users if reached is None else users & (reached | self.failures.keys()):
                    self.unjudged[key].append(package)

    def _affected(self, processes: Sequence[str], changed: Mapping[str, Changed | None]) -> set[str] | None:
        """Return the benchmarks that the change affects in the tests or these processes; None for all."""
        # Both sides use head's configuration of pytest: it is no difference between their tests.
        configuration = pytest_configuration(self._sides.head.root)
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
