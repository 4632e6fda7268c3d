"""The two sides of a paired comparison: a copy of the base commit and one of the working tree, and their Pythons."""

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from plumbline import cache as kept
from plumbline.comparing.trees.copies import CODE, Copy, base_copy, head_copy, is_in, listed, module_path, twin_copy
from plumbline.comparing.trees.environment import local_packages, wanted_changes
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.installer import base_python
from plumbline.processes import without_secrets
from plumbline.results.environment import installed_packages, origins

MOST_PACKAGES_SHOWN = 5
USUAL_FOLDERS = (".", "src")


@dataclass(frozen=True)
class Side:
    """A side of the comparison."""

    name: str
    """base or head."""
    root: Path
    """The project's root inside its copy."""
    python: Path
    tree: Path
    """The whole copy; `root` may be a folder in it."""


@dataclass(frozen=True)
class Sides:
    """Both sides, and what differs between them."""

    base: Side
    head: Side
    files: list[str]
    """Paths that differ, below the repository's root."""
    packages: list[tuple[str, str, str]]
    """Packages that differ: name, version in base and in head, empty if a side doesn't have it."""
    modules: list[str]
    """Top-level modules in both copies that differ, or contain a difference."""
    import_from: list[str]
    """Folders to import from below the project's root, the first one first."""

    @property
    def differ(self) -> bool:
        """Whether the sides run different code, or on different packages."""
        return bool(self.files or self.packages)


def make_sides(
    root: Path,
    commit: str,
    *,
    recorded_packages: Mapping[str, str],
    directories: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
) -> Sides:
    """Make copies of a commit and of the working tree in `root`, with an environment for each, in the folder `cache`.

    `recorded_packages` are the baseline's, version by name. `directories` are further folders of the project to import
    from. `say` reports steps that take time or could surprise. Raises NoBase.
    """
    git = Git(root)
    with _making(cache):
        head = head_copy(git, cache / "trees", say)
        base = base_copy(git, commit, head, cache / "trees")
        changes = wanted_changes(base.tree, head.tree, git.prefix, recorded_packages, say)
        python = base_python(changes, cache / "environments", root, say)
    names = base.files.keys() | head.files.keys()
    files = sorted(name for name in names if base.files.get(name) != head.files.get(name))
    import_from = _import_folders(git, root, head, directories)
    modules = _modules_with_changes(git, files, base, head, import_from)
    installed = installed_packages()
    packages = [(name, without_secrets(pin), installed.get(name, "")) for name, pin in changes.items()]
    base_side = Side("base", base.tree / git.prefix, python, base.tree)
    head_side = Side("head", head.tree / git.prefix, Path(sys.executable), head.tree)
    return Sides(base_side, head_side, files, packages, modules, import_from)


def make_twins(root: Path, *, directories: Sequence[str], cache: Path) -> Sides:
    """Make two copies of the working tree, in the folder `cache`: sides that do not differ. Raises NoBase."""
    git = Git(root)
    with _making(cache):
        head = head_copy(git, cache / "trees", lambda _: None)
        base = twin_copy(head, cache / "trees")
    base_side, head_side = (
        Side(name, copy.tree / git.prefix, Path(sys.executable), copy.tree)
        for name, copy in (("base", base), ("head", head))
    )
    return Sides(base_side, head_side, [], [], [], _import_folders(git, root, head, directories))


@contextlib.contextmanager
def _making(cache: Path) -> Iterator[None]:
    try:
        with kept.locked(cache):
            kept.sweep(cache / "trees")
            kept.sweep(cache / "environments")
            yield
    except OSError as error:
        raise NoBase(f"the sides of the comparison can't be made in {cache}: {kept.first_failure(error)}") from None


def describe(sides: Sides) -> list[str]:
    """Return what differs between the sides, in at most some ten lines."""
    packages, count = sides.packages, len(sides.files)
    lines = [f"{name} {base or '(none)'} → {head or '(none)'}" for name, base, head in packages[:MOST_PACKAGES_SHOWN]]
    if len(packages) > MOST_PACKAGES_SHOWN:
        lines.append(f"and {len(packages) - MOST_PACKAGES_SHOWN} more packages")
    if count:
        lines.append(f"{'1 file differs' if count == 1 else f'{count} files differ'}: {listed(sides.files)}")
    return lines or ["nothing differs: the same files and the same packages"]


def python_path(side: Side, sides: Sides) -> str:
    """Return PYTHONPATH of a side, whose working directory is its root."""
    return os.pathsep.join(os.path.normpath(side.root / folder) for folder in sides.import_from)


def foreign(origins: Mapping[str, str], tree: Path) -> list[str]:
    """Return the modules that were not imported from a side's own copy: they make a comparison invalid."""
    return [name for name, origin in origins.items() if not is_in(origin, os.path.realpath(tree))]


def _import_folders(git: Git, root: Path, head: Copy, directories: Sequence[str]) -> list[str]:
    """Return the folders to import from, below the project's root: the usual, the given, and those of this process."""
    top, environment = os.path.realpath(git.top), os.path.realpath(sys.prefix)
    used = [os.path.realpath(entry) for entry in sys.path]
    ours = [path for path in used if is_in(path, top) and not is_in(path, environment)]
    wanted = [*USUAL_FOLDERS, *directories, *(os.path.relpath(path, os.path.realpath(root)) for path in ours)]
    folders = dict.fromkeys(os.path.normpath(folder) for folder in wanted)
    return [folder for folder in folders if (head.tree / git.prefix / folder).is_dir()]


def _modules_with_changes(git: Git, files: Sequence[str], base: Copy, head: Copy, import_from: list[str]) -> list[str]:
    """Return the top-level modules in both copies that contain one of these files.

    If one is installed from a folder of the repository that is not in `import_from`, the folder is added there.
    """
    found: set[str] = set()
    for path in {module_path(name, head.files) for name in files}:
        name = path.name.partition(".")[0]
        marker = str(path if path.suffix in CODE else path / "__init__.py")
        if not name.isidentifier() or marker not in base.files or marker not in head.files:
            continue
        folder = os.path.relpath(path.parent, git.prefix or ".")
        if folder not in import_from and _is_installed_from(git, name):
            import_from.append(folder)
        if folder in import_from:
            found.add(name)
    return sorted(found)


def _is_installed_from(git: Git, module: str) -> bool:
    """Return whether this process imports a module from the repository, or from an installed copy of a folder."""
    origin = origins([module])[module]
    if is_in(origin, os.path.realpath(git.top)) and not is_in(origin, os.path.realpath(sys.prefix)):
        return True
    owners = importlib.metadata.packages_distributions().get(module, [])
    return not local_packages().isdisjoint(canonicalize_name(owner) for owner in owners)
