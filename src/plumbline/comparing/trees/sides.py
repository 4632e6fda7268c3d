"""The two sides of a paired comparison: copies of the base commit and the working tree, each with a Python."""

import importlib.metadata
import os
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from packaging.utils import canonicalize_name

from plumbline import cache as kept
from plumbline.comparing.trees.application import APPLICATIONS, ApplicationEnvironment, application_changes
from plumbline.comparing.trees.checkout import (
    submodules,
)
from plumbline.comparing.trees.copies import Copy, copy_of_commit, copy_of_head, copy_of_working_tree, module_path
from plumbline.comparing.trees.environment import base_python, local_packages, package_folders, packages_in
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.ignored import CODE, Extras, find_extras
from plumbline.comparing.trees.packages import PackageChanges, wanted_changes
from plumbline.comparing.trees.pythons import other_python
from plumbline.comparing.trees.resolved import resolved_packages
from plumbline.processes import without_secrets
from plumbline.project import SETTINGS, SUITE
from plumbline.results.environment import installed_packages, origins
from plumbline.results.schema import UnjudgedPackage
from plumbline.settings import InstallSettings

MOST_SHOWN = 5
SAME = "nothing differs: the same files and packages, and for both sides the working tree's suite and Plumbline"


@dataclass(frozen=True)
class Side:
    """A side of the comparison."""

    name: str  # base or head
    root: Path  # the project's root inside its copy
    python: Path
    tree: Path  # the whole copy; `root` may be a folder in it
    app: ApplicationEnvironment | None = None  # the application's environment, if it is separate


@dataclass(frozen=True)
class Sides:
    """Both sides, and the differences between them."""

    base: Side
    head: Side
    files: list[str]  # changed files, relative to the repository's root
    packages: list[tuple[str, str, str]]  # changed packages: name, version in base and in head, "" if there is none
    modules: list[str]  # changed top-level modules that both copies have
    import_from: list[str]  # folders of the import path, relative to the project's root
    extras: Extras  # further files in both copies
    top: Path  # the repository's root
    unjudged: Sequence[UnjudgedPackage] = ()  # changed packages that are the same on both sides
    working: Path | None = None  # the project's root in the copy of the working tree, if that is not head

    @property
    def differ(self) -> bool:
        return bool(self.files or self.packages or self.unjudged)

    @property
    def suite_of(self) -> Path:
        """The project's root in the copy of the working tree: both sides have its suite, and its configuration."""
        return self.working or self.head.root

    def shown(self, names: Iterable[str]) -> list[str]:
        """Return paths as reports show them: relative to the project's root instead of the repository's."""
        return [os.path.relpath(self.head.tree / name, self.head.root) for name in names]


@dataclass(frozen=True)
class _Environment:
    """The Python of a side, and how its packages differ from those of this process."""

    python: Path = Path(sys.executable)
    wanted: PackageChanges = field(default_factory=PackageChanges)
    unjudged: Sequence[UnjudgedPackage] = ()


@dataclass(frozen=True)
class _MakeEnvironment:
    """Makes the environment of a copy."""

    git: Git
    root: Path
    working: Copy
    folder: Path
    install: InstallSettings
    python_setting: str
    say: Callable[[str], None]
    has_app: bool  # the application has an environment of its own

    def __call__(self, copy: Copy, commit: str | None, recorded: Mapping[str, str]) -> _Environment:
        """Return the environment of a copy of `commit`, or this process's one for a copy of the working tree."""
        if commit is None:
            return _Environment()
        prefix, working = self.git.prefix, self.working.tree
        before = _python_setting(self.git.contents(commit, self.root / SUITE / SETTINGS))
        other = other_python(copy.tree, working, prefix, (before, self.python_setting))
        if self.has_app:  # the lock file is for the application's environment
            return _Environment(unjudged=other)
        resolved, options = resolved_packages(self.root.resolve(), copy.tree, prefix, self.install, recorded)
        wanted = wanted_changes(copy.tree, working, prefix, recorded, self.say, resolved)
        complete = wanted.complete
        python = base_python(wanted.changes, self.folder, self.root, self.say, complete=complete, options=options)
        return _Environment(python, wanted, [*wanted.unjudged, *other])


def make_sides(
    root: Path,
    commit: str | None,
    *,
    directories: Sequence[str],
    cache: Path,
    results: str = "",
    also_copy: Sequence[str] = (),
    install: InstallSettings = InstallSettings(),  # noqa: B008 - frozen
    python_setting: str = "",
    recorded_packages: Mapping[str, str] = {},
    application: Callable[[Path, Path, Path], ApplicationEnvironment | None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    head_commit: str | None = None,
    recorded_in_head: Mapping[str, str] = {},
) -> Sides:
    """Make copies of a commit and of the working tree in `root`, with their environments, in the folder `cache`.

    - `commit`: None makes the base a copy of the working tree, too.
    - `directories`: further folders of the project for the import path.
    - `results`: a folder to leave out. `also_copy`: further paths to copy.
    - `install`, `python_setting`: the packages and the Python of the environments.
    - `recorded_packages`: the packages of the baseline, versions by name.
    - `application`: returns the application's separate environment for a tree, the project's folder in this tree, and
      a folder to make the environment in.
    - `say`: prints slow or surprising steps.
    - `head_commit`: makes head a copy of this commit with the working tree's suite, as the base is. `recorded_in_head`
      are the packages of its baseline.

    Raises NoBase and CopyFailed.
    """
    git, trees, environments = Git(root), cache.resolve() / "trees", cache.resolve() / "environments"

    try:
        with kept.locked(cache):
            kept.sweep(trees)
            kept.sweep(environments)
            extras = find_extras(git, submodules(git), root.resolve() / results, also_copy)
            working = copy_of_working_tree(git, trees, extras)
            if commit is None:
                base = copy_of_head(trees, working, extras)
            else:
                base = copy_of_commit(git, commit, trees, working, extras)
            head = copy_of_commit(git, head_commit, trees, working, extras) if head_commit else working
            made = cache.resolve() / APPLICATIONS
            base_app, head_app = (application(one.tree, one.tree / git.prefix, made) for one in (base, head))
            has_app = bool(base_app and head_app)
            make = _MakeEnvironment(git, root, working, environments, install, python_setting, say, has_app)
            of_base = make(base, commit, recorded_packages)
            of_head = make(head, head_commit, recorded_in_head)
    except OSError as error:
        raise NoBase(f"the sides of the comparison can't be made in {cache}: {kept.first_failure(error)}") from None
    names = base.files.keys() | head.files.keys()
    files = sorted(name for name in names if base.files.get(name) != head.files.get(name))
    import_from = _import_folders(git, head.tree / git.prefix, root, directories)
    modules = _changed_modules(git, files, base, head, import_from)
    packages, unjudged = _packages(of_base, of_head), _only_one(of_base.unjudged, of_head.unjudged)
    if base_app and head_app:
        packages, of_apps = application_changes(base.tree, head.tree, git.prefix, base_app, head_app)
        unjudged = [*of_apps, *unjudged]
    base_side = Side("base", base.tree / git.prefix, of_base.python, base.tree, base_app)
    head_side = Side("head", head.tree / git.prefix, of_head.python, head.tree, head_app)
    copy = working.tree / git.prefix if head_commit else None
    return Sides(base_side, head_side, files, packages, modules, import_from, extras, git.top, unjudged, copy)


def _import_folders(git: Git, project: Path, root: Path, directories: Sequence[str]) -> list[str]:
    """Return the import path: the usual folders, the given ones, and those of this process, if `project` has them."""
    used = [path for entry in sys.path if _in_repository(path := os.path.realpath(entry), git)]
    usual = [".", "src", *directories, *(os.path.relpath(path, root.resolve()) for path in used)]
    folders = dict.fromkeys(os.path.normpath(folder) for folder in usual)
    return [folder for folder in folders if (project / folder).exists()]


def _python_setting(text: str) -> str:
    """Return the setting `python` of a settings.toml, "" if it is missing or cannot be read."""
    try:
        return str(tomllib.loads(text).get("python", ""))
    except ValueError:
        return ""


def _packages(base: _Environment, head: _Environment) -> list[tuple[str, str, str]]:
    """Return the changed packages: name, version in base and in head."""
    installed, (before, now) = installed_packages(), map(_versions, (base, head))
    names = sorted(before.keys() | now.keys())
    packages = [(name, *(one.get(name, installed.get(name, "")) for one in (before, now))) for name in names]
    return [(name, then, later) for name, then, later in packages if then != later]


def _versions(environment: _Environment) -> dict[str, str]:
    """Return the versions of the packages that differ from those of this process, "" if one is removed."""
    wanted = environment.wanted
    found = {name: without_secrets(pin) for name, pin in wanted.changes.items()}
    if not wanted.complete and found:  # other packages have changed with these
        has = packages_in(package_folders(environment.python))
        ours = packages_in({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})
        found |= {one: has.get(one, "") for one in has.keys() | ours.keys() if has.get(one) != ours.get(one)}
    return found


def _only_one(base: Sequence[UnjudgedPackage], head: Sequence[UnjudgedPackage]) -> list[UnjudgedPackage]:
    return [*(one for one in base if one not in head), *(one for one in head if one not in base)]


def describe(sides: Sides) -> list[str]:
    """Return the differences between the sides, in about ten lines at most."""
    packages, count = sides.packages, len(sides.files)
    lines = [f"{name} {base or '(none)'} → {head or '(none)'}" for name, base, head in packages[:MOST_SHOWN]]
    if len(packages) > MOST_SHOWN:
        lines.append(f"and {len(packages) - MOST_SHOWN} more packages")
    if count:
        lines.append(
            f"{'1 file differs' if count == 1 else f'{count} files differ'}: {listed(sides.shown(sides.files))}"
        )
    return lines or [SAME]


def python_path(side: Side, sides: Sides) -> str:
    """Return the PYTHONPATH of a side. Folders outside of the repository come last."""
    given = [os.path.realpath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    outside = [folder for folder in given if not PurePath(folder).is_relative_to(sides.top)]
    return os.pathsep.join([*(os.path.normpath(side.root / folder) for folder in sides.import_from), *outside])


def foreign(origins: Mapping[str, str], tree: Path) -> list[str]:
    """Return the modules that a side did not import from its own copy."""
    return [name for name, origin in origins.items() if not PurePath(origin).is_relative_to(tree)]


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many others there are."""
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in names[:MOST_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")


def _in_repository(path: str, git: Git) -> bool:
    """Return whether a path is in the repository, but not in an environment inside the repository."""
    found = PurePath(path)
    return found.is_relative_to(git.top) and not found.is_relative_to(os.path.realpath(sys.prefix))


def _changed_modules(git: Git, files: Sequence[str], base: Copy, head: Copy, import_from: list[str]) -> list[str]:
    """Return the changed top-level modules in both copies. Add their folders to `import_from` if necessary."""
    found: set[str] = set()
    for path in {module_path(name, head.files) for name in files}:
        name = path.name.partition(".")[0]
        marker = str(path if path.suffix in CODE else path / "__init__.py")
        if not name.isidentifier() or marker not in base.files or marker not in head.files:
            continue
        folder = os.path.relpath(path.parent, git.prefix or ".")
        if folder not in import_from:  # this process may import the module in another way, or from an installed copy
            owners = map(canonicalize_name, importlib.metadata.packages_distributions().get(name, []))
            if _in_repository(origins([name])[name], git) or not local_packages().isdisjoint(owners):
                import_from.append(folder)
        if folder in import_from:
            found.add(name)
    return sorted(found)
