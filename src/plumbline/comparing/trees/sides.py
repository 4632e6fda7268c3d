"""The two sides of a paired comparison: copies of the base commit and of the working tree, and their Pythons."""

import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from packaging.utils import canonicalize_name

import plumbline
from plumbline import cache as kept
from plumbline.comparing.trees.environment import base_python, local_packages, wanted_changes
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.comparing.trees.ignored import Extras, find_extras
from plumbline.comparing.trees.trace import COMPILED_FOLDER
from plumbline.processes import without_secrets
from plumbline.project import SUITE
from plumbline.results.environment import installed_packages, origins

OVERLAY = (SUITE, "tests/__init__.py", "conftest.py")  # both sides have the working tree's, below the project's root
CODE = (".py", ".so", ".pyd")
LEAST_FREE_BYTES = 1 << 20
SUBMODULE = "160000"
MANIFEST = "manifest.json"
# Three folders down: those above it hold what `also_copy` names outside of the repository.
TREE, LEVELS = "above/above/above/tree", 3
MOST_SHOWN = 5


@dataclass(frozen=True)
class Side:
    """A side of the comparison."""

    name: str  # base or head
    root: Path  # the project's root inside its copy
    python: Path
    tree: Path  # the whole copy; `root` may be a folder in it


@dataclass(frozen=True)
class Sides:
    """Both sides, and what differs between them."""

    base: Side
    head: Side
    files: list[str]  # that differ: paths below the repository's root
    packages: list[tuple[str, str, str]]  # that differ: name, version in base and in head, empty if a side has none
    modules: list[str]  # top-level modules in both copies that differ, or contain a difference
    import_from: list[str]  # folders to import from below the project's root, the first one first
    extras: Extras  # that git ignores, or that are not in the repository, and that both copies got
    top: Path  # the repository's root

    @property
    def differ(self) -> bool:
        return bool(self.files or self.packages)


@dataclass(frozen=True)
class _Copy:
    name: str
    tree: Path
    files: dict[str, str]  # by path with slashes: a file's hash and whether it is executable, or a link's target


def make_sides(
    root: Path,
    commit: str | None,
    *,
    directories: Sequence[str],
    cache: Path,
    results: str = "",
    also_copy: Sequence[str] = (),
    recorded_packages: Mapping[str, str] = {},
    say: Callable[[str], None] = lambda _: None,
) -> Sides:
    """Make copies of a commit and of the working tree in `root`, with an environment for each, in the folder `cache`.

    Without a commit, the base is the working tree as well. `directories` are further folders of the project to import
    from. The folder `results` is not copied; `also_copy` are further paths to copy from outside of git.
    `recorded_packages` are the baseline's, version by name. `say` reports steps that take time or could surprise.
    Raises NoBase and CopyFailed.
    """
    git, trees, environments = Git(root), cache.resolve() / "trees", cache.resolve() / "environments"
    changes: dict[str, str] = {}
    try:
        with kept.locked(cache):
            kept.sweep(trees)
            kept.sweep(environments)
            extras = find_extras(git, _submodules(git), root / results, also_copy, LEVELS)
            head = _copy_of_working_tree(git, trees, extras)
            if commit is None:
                base = _copy_of_head(trees, head, extras)
            else:
                base = _copy_of_commit(git, commit, trees, head, extras)
                changes = wanted_changes(base.tree, head.tree, git.prefix, recorded_packages, say)
            python = base_python(changes, environments, root, say)
    except OSError as error:
        raise NoBase(f"the sides of the comparison can't be made in {cache}: {kept.first_failure(error)}") from None
    names = base.files.keys() | head.files.keys()
    files = sorted(name for name in names if base.files.get(name) != head.files.get(name))
    # The usual folders, the given ones, and those of this process.
    used = [path for entry in sys.path if _in_repository(path := os.path.realpath(entry), git)]
    wanted = [".", "src", *directories, *(os.path.relpath(path, root.resolve()) for path in used)]
    folders = dict.fromkeys(os.path.normpath(folder) for folder in wanted)
    import_from = [folder for folder in folders if (head.tree / git.prefix / folder).is_dir()]
    modules = _changed_modules(git, files, base, head, import_from)
    installed = installed_packages()
    packages = [(name, without_secrets(pin), installed.get(name, "")) for name, pin in changes.items()]
    base_side = Side("base", base.tree / git.prefix, python, base.tree)
    head_side = Side("head", head.tree / git.prefix, Path(sys.executable), head.tree)
    return Sides(base_side, head_side, files, packages, modules, import_from, extras, git.top)


def describe(sides: Sides) -> list[str]:
    """Return what differs between the sides, in at most some ten lines."""
    packages, count = sides.packages, len(sides.files)
    lines = [f"{name} {base or '(none)'} → {head or '(none)'}" for name, base, head in packages[:MOST_SHOWN]]
    if len(packages) > MOST_SHOWN:
        lines.append(f"and {len(packages) - MOST_SHOWN} more packages")
    if count:
        lines.append(f"{'1 file differs' if count == 1 else f'{count} files differ'}: {_listed(sides.files)}")
    return lines or ["nothing differs: the same files and the same packages"]


def python_path(side: Side, sides: Sides) -> str:
    """Return PYTHONPATH of a side, whose working directory is its root: folders outside of the repository come last."""
    given = [os.path.realpath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    outside = [folder for folder in given if not PurePath(folder).is_relative_to(sides.top)]
    return os.pathsep.join([*(os.path.normpath(side.root / folder) for folder in sides.import_from), *outside])


def foreign(origins: Mapping[str, str], tree: Path) -> list[str]:
    """Return the modules that were not imported from a side's own copy: they make a comparison invalid."""
    return [name for name, origin in origins.items() if not PurePath(origin).is_relative_to(tree)]


def _copy_of_working_tree(git: Git, folder: Path, extras: Extras) -> _Copy:
    copied = sorted({*_listed_by_git(git), *extras.copied}.difference(extras.linked))

    def make(tree: Path) -> None:
        tree.mkdir(parents=True)
        for name in copied:
            _copy(git.top / name, tree / name)
        for name in extras.linked:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to(os.path.realpath(git.top / name))

    contents = {name: _fingerprint(git.top / name) for name in copied}
    name = "head-" + kept.digest(contents, [str(git.top / name) for name in extras.linked])
    return _kept_tree(folder, name, make)


def _copy_of_head(folder: Path, head: _Copy, extras: Extras) -> _Copy:
    """Return a second copy of the working tree."""

    def make(tree: Path) -> None:
        shutil.copytree(head.tree, tree, symlinks=True)
        _add_extras(extras, head, tree)

    return _kept_tree(folder, head.name.replace("head-", "base-"), make)


def _add_extras(extras: Extras, head: _Copy, tree: Path) -> None:
    """Copy from head what the tree does not have; generated code only if the tree has the package around it."""
    names = {*extras.copied, *extras.linked}
    for name in sorted(names):
        package = _module_path(name, head.files)
        is_wanted = str(package) == name or str(package / "__init__.py") in names or (tree / package).is_dir()
        if is_wanted and not os.path.lexists(tree / name):
            _copy(head.tree / name, tree / name)


def _listed_by_git(git: Git) -> set[str]:
    """Return the files of the working tree: tracked and untracked, not ignored; those of submodules as well."""
    paths = {name: git.top / name for name in git.names("--cached", "--others", "--exclude-standard")}
    # Git also lists the files of a folder that was replaced by a link.
    folders = {folder for folder in {path.parent for path in paths.values()} if folder.resolve() == folder}
    files = {name for name, one in paths.items() if one.parent in folders and (one.is_symlink() or one.is_file())}
    for name in _submodules(git):
        files |= {f"{name}/{inner}" for inner in _listed_by_git(Git(git.top / name))}
    return files


def _submodules(git: Git, environ: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the commit of each submodule in the index, by its path, if the submodule is checked out."""
    links = [line.split(maxsplit=3) for line in git.names("--stage", environ=environ) if line.startswith(SUBMODULE)]
    return {path: commit for _, commit, _, path in links if (git.top / path / ".git").exists()}


def _copy_of_commit(git: Git, commit: str, folder: Path, head: _Copy, extras: Extras) -> _Copy:
    """Copy a commit, with the suite of the working tree, and with Plumbline itself if that is in the repository."""
    tree_id = git.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    if not tree_id:
        raise NoBase(f"the base commit {commit[:12]} is not in this repository, or not any more")
    package = Path(plumbline.__file__).resolve().parent
    laid_over = [git.prefix + item for item in OVERLAY]
    laid_over += [package.relative_to(git.top).as_posix()] if package.is_relative_to(git.top) else []
    overlay = [name for name in head.files if any(PurePosixPath(name).is_relative_to(item) for item in laid_over)]

    def make(tree: Path) -> None:
        _check_out(git, commit, tree, without=laid_over)
        for name in overlay:
            if not os.path.lexists(tree / name):
                _copy(head.tree / name, tree / name)
        _add_extras(extras, head, tree)

    contents = {name: head.files[name] for name in [*overlay, *extras.copied]}
    links = [str(git.top / name) for name in extras.linked]
    name = "base-" + kept.digest(tree_id, laid_over, contents, links, sorted(_submodules(git)))
    return _kept_tree(folder, name, make)


def _check_out(git: Git, commit: str, tree: Path, without: Sequence[str] = ()) -> None:
    """Write the files of a commit, with those of its submodules that are checked out in the working tree."""
    tree.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # for an index: an archive would lack what is `export-ignore`
        environ = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git.run("read-tree", commit, environ=environ)
        patterns = [f":(literal){name}" for name in without]
        if patterns and (names := git.names("--", *patterns, environ=environ)):
            git.run("update-index", "--force-remove", "--", *names, environ=environ)
        try:
            git.run("checkout-index", "--all", "--quiet", f"--prefix={tree}/", environ=environ)
        except NoBase:
            if shutil.disk_usage(tree).free < LEAST_FREE_BYTES:  # git doesn't say why
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            raise
        submodules = _submodules(git, environ)
    for name, wanted in submodules.items():
        submodule = Git(git.top / name)
        if not submodule.commit(wanted):
            raise NoBase(f"commit {wanted[:12]} of the submodule {name} is not here: `git submodule update --init`")
        _check_out(submodule, wanted, tree / name)


def _kept_tree(folder: Path, name: str, make: Callable[[Path], object]) -> _Copy:
    """Keep a tree under this name. One that was changed since, by code that ran in it, is made again."""

    def make_with_manifest(target: Path) -> None:
        tree = target / TREE
        make(tree)
        paths = [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]
        names = [path.relative_to(tree) for path in paths if path.parent.name != COMPILED_FOLDER]
        manifest = {name.as_posix(): _fingerprint(tree / name) for name in names}
        (target / MANIFEST).write_text(json.dumps(manifest), encoding="ascii")

    made = kept.keep(folder, name, make_with_manifest)
    manifest: dict[str, str] = json.loads((made / MANIFEST).read_text(encoding="ascii"))
    if any(_fingerprint(made / TREE / name) != content for name, content in manifest.items()):
        kept.remove(made)
        kept.keep(folder, name, make_with_manifest)
    return _Copy(name, made / TREE, manifest)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, and what Python has compiled of it, which stays valid because the time and the size are the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    compiled = source.parent / COMPILED_FOLDER / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    if source.suffix == ".py" and compiled.is_file():
        _copy(compiled, target.parent / COMPILED_FOLDER / compiled.name)


def _fingerprint(path: Path) -> str:
    """Return what distinguishes a file from others; empty if there is none."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        executable = "x" if os.fstat(file.fileno()).st_mode & 0o100 else "-"
        return f"{executable} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _module_path(file: str, files: Mapping[str, str]) -> PurePosixPath:
    """Return the outermost package that a file lies in, or the file itself."""
    path = PurePosixPath(file)
    while path.parent.name and str(path.parent / "__init__.py") in files:
        path = path.parent
    return path


def _listed(names: Sequence[str]) -> str:
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in names[:MOST_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")


def _in_repository(path: str, git: Git) -> bool:
    """Return whether a path lies in the repository, but not in the environment, which may lie there, too."""
    found = PurePath(path)
    return found.is_relative_to(git.top) and not found.is_relative_to(os.path.realpath(sys.prefix))


def _changed_modules(git: Git, files: Sequence[str], base: _Copy, head: _Copy, import_from: list[str]) -> list[str]:
    """Return the top-level modules in both copies that contain one of these files; see that they can be imported."""
    found: set[str] = set()
    for path in {_module_path(name, head.files) for name in files}:
        name = path.name.partition(".")[0]
        marker = str(path if path.suffix in CODE else path / "__init__.py")
        if not name.isidentifier() or marker not in base.files or marker not in head.files:
            continue
        folder = os.path.relpath(path.parent, git.prefix or ".")
        if folder not in import_from:  # although this process may import it from there, or from an installed copy
            owners = map(canonicalize_name, importlib.metadata.packages_distributions().get(name, []))
            if _in_repository(origins([name])[name], git) or not local_packages().isdisjoint(owners):
                import_from.append(folder)
        if folder in import_from:
            found.add(name)
    return sorted(found)
