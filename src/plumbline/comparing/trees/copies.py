"""The two sides of a paired comparison: copies of the base commit and of the working tree, and what runs them.

Both copies lie side by side under paths of equal length. The base's has the suite of the working tree laid over it, so
that one suite measures both.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import filelock
from packaging.utils import canonicalize_name

import plumbline
from plumbline import cache as kept
from plumbline.comparing.trees.base_commit import Git, NoBase, scrub
from plumbline.comparing.trees.changed_functions import changed_functions
from plumbline.comparing.trees.environment import base_python, local_packages, package_folders, wanted_changes
from plumbline.comparing.trees.reads import CACHE, Changed, paths_of_packages
from plumbline.results.environment import installed_packages, origins

OVERLAY = ("tests/performance", "tests/__init__.py", "conftest.py")
"""Of the working tree in both sides, below the project's root."""
CODE = (".py", ".so", ".pyd")
IMPORT_FROM = (".", "src")
MOST_LISTED = 5
LEAST_FREE_BYTES = 1 << 20
SUBMODULE = "160000"
TWINS = "twins-"
TREE, MANIFEST = "tree", "manifest.json"

Manifest = dict[str, str]
"""What a tree holds: by path, with slashes, its content's hash and whether it can be executed, or a link's target."""


@dataclass(frozen=True)
class Side:
    name: str
    """base or head."""
    root: Path
    """The project's root inside its copy."""
    python: Path
    tree: Path
    """The whole copy, of which `root` may be a folder."""


@dataclass(frozen=True)
class Sides:
    base: Side
    head: Side
    files: list[str]
    """Those that differ, below the repository's root."""
    packages: list[tuple[str, str, str]]
    """Those that differ: name, version in base and in head, empty where it isn't there."""
    modules: list[str]
    """Top-level modules in both copies that differ, or hold what differs."""
    import_from: list[str]
    """Folders below the project's root, first things first."""


def make_sides(
    root: Path,
    commit: str,
    *,
    recorded_packages: Mapping[str, str],
    directories: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
) -> Sides:
    """Copies of a commit and of the working tree in `root`, and an environment for each; kept in the folder `cache`.

    `recorded_packages` are the baseline's, version by name. `directories` are further folders of the project to import
    from. `say` is told what takes time or could surprise. Raises NoBase.
    """
    git = Git(root)
    try:
        with kept.locked(cache):
            kept.sweep(cache / "trees")
            kept.sweep(cache / "environments")
            kept.sweep_unlocked(cache, TWINS)
            head = _head_copy(git, cache / "trees", say)
            base = _base_copy(git, commit, head, cache / "trees")
            changes = wanted_changes(base.tree, head.tree, git.prefix, recorded_packages, say)
            python = base_python(changes, cache / "environments", root, say)
    except filelock.Timeout:
        raise NoBase(f"another run has held {cache / '.lock'} for {kept.LOCK_LIMIT_S:g} s: wait for its end") from None
    except OSError as error:
        raise NoBase(f"the sides of the comparison can't be made in {cache}: {kept.first_failure(error)}") from None
    files = sorted(
        name for name in base.files.keys() | head.files.keys() if base.files.get(name) != head.files.get(name)
    )
    import_from = _import_folders(git, root, head, directories)
    modules = _modules(git, files, base, head, import_from)
    installed = installed_packages()
    return Sides(
        base=Side("base", base.tree / git.prefix, python, base.tree),
        head=Side("head", head.tree / git.prefix, Path(sys.executable), head.tree),
        files=files,
        packages=[(name, scrub(pin), installed.get(name, "")) for name, pin in changes.items()],
        modules=modules,
        import_from=import_from,
    )


@contextlib.contextmanager
def twins(root: Path, *, directories: Sequence[str], cache: Path) -> Iterator[Sides]:
    """Two copies of the working tree, removed at the end; raises NoBase."""
    git = Git(root)
    try:
        with contextlib.ExitStack() as stack:
            with kept.locked(cache):
                kept.sweep_unlocked(cache, TWINS)
                tree = _head_copy(git, cache / "trees", lambda _: None)
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=cache, prefix=TWINS))
                stack.enter_context(kept.in_use(Path(folder)))
            for name in ("base", "head"):
                shutil.copytree(tree.tree, Path(folder, name), symlinks=True)
            base, head = (
                Side(name, Path(folder, name, git.prefix), Path(sys.executable), Path(folder, name))
                for name in ("base", "head")
            )
            yield Sides(base, head, [], [], [], _import_folders(git, root, tree, directories))
    except OSError as error:
        raise NoBase(f"two copies of the working tree can't be made in {cache}: {kept.first_failure(error)}") from None


def nothing_differs(sides: Sides) -> bool:
    """Whether both sides run the same code on the same packages."""
    return not sides.files and not sides.packages


def changed_paths(sides: Sides) -> dict[str, Changed | None]:
    """Where in each side, by its name, lies what differs from the other; None where that isn't known."""
    functions = {name: _changed_functions_of(name, sides) for name in sides.files}
    found: dict[str, Changed | None] = {}
    for side in (sides.base, sides.head):
        environment = None if side.python == Path(sys.executable) else package_folders(side.python)
        packages = paths_of_packages([name for name, _, _ in sides.packages], environment)
        trees = (side.tree, side.tree.resolve())
        files = {tree / name: changed for name, changed in functions.items() for tree in trees}
        found[side.name] = None if packages is None else {**packages, **files}
    return found


def _changed_functions_of(name: str, sides: Sides) -> set[str] | None:
    """The functions that differ in a file that differs, where nothing else does."""
    base, head = sides.base.tree / name, sides.head.tree / name
    if not name.endswith(".py") or base.is_symlink() or head.is_symlink():
        return None
    try:
        sources = base.read_text(encoding="utf-8"), head.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return None if sources[0] == sources[1] else changed_functions(*sources)


def describe(sides: Sides) -> list[str]:
    """What differs between the sides, in at most some ten lines."""
    lines = [f"{name} {base or '(none)'} → {head or '(none)'}" for name, base, head in sides.packages[:MOST_LISTED]]
    if len(sides.packages) > MOST_LISTED:
        lines.append(f"and {len(sides.packages) - MOST_LISTED} more packages")
    if sides.files:
        lines.append(f"{len(sides.files)} file{'s' * (len(sides.files) > 1)} differ{'s' * (len(sides.files) == 1)}:")
        lines[-1] += f" {_listed(sides.files)}"
    return lines or ["nothing differs: the same files and the same packages"]


def python_path(side: Side, sides: Sides) -> str:
    """PYTHONPATH of a side, whose working directory is its root."""
    return os.pathsep.join(os.path.normpath(side.root / folder) for folder in sides.import_from)


def foreign(origins: Mapping[str, str], tree: Path) -> list[str]:
    """The modules that came from elsewhere than a side's own copy: with one, a comparison compares something else."""
    return [name for name, origin in origins.items() if not _is_in(origin, os.path.realpath(tree))]


# ---- copies


@dataclass(frozen=True)
class Copy:
    """A tree in the cache and what it holds."""

    tree: Path
    files: Manifest
    not_in_git: list[str]
    """Files that the code may need, and the base's copy gets too."""


def _head_copy(git: Git, folder: Path, say: Callable[[str], None]) -> Copy:
    files = _listed_by_git(git)
    generated = _generated(git, files)
    if generated:
        say(f"ignored by git, but in both copies as the code may need it: {_listed(sorted(generated))}")
    secrets = {name: git.top / name for name in _secrets(git)}
    sources = {name: path for name, path in (files | generated).items() if name not in secrets}

    def make(tree: Path) -> None:
        for name, path in sources.items():
            _copy(path, tree / name)
        for name, path in secrets.items():
            (tree / name).symlink_to(path)

    contents = {name: _fingerprint(path) for name, path in sources.items()}
    name = "head-" + kept.digest(contents, {name: str(path) for name, path in secrets.items()})
    return Copy(*_kept_tree(folder, name, make), [*generated, *secrets])


def _base_copy(git: Git, commit: str, head: Copy, folder: Path) -> Copy:
    tree_id = git.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    if not tree_id:
        raise NoBase(f"the base commit {commit[:12]} is not in this repository, or not any more")
    laid_over = _overlay(git)
    overlay = [name for name in head.files if any(_is_in(name, git.prefix + item) for item in laid_over)]

    def make(tree: Path) -> None:
        _check_out(git, commit, tree)
        for item in laid_over:
            _remove(tree / git.prefix / item)
        for name in [*overlay, *head.not_in_git]:
            package = _module_path(name, head.files)
            in_base = name in overlay or str(package) == name or (tree / package).is_dir()
            if in_base and not (tree / name).exists():
                _copy(head.tree / name, tree / name)

    contents = {name: head.files[name] for name in [*overlay, *head.not_in_git]}
    name = "base-" + kept.digest(tree_id, git.prefix, contents, sorted(_submodules(git)))
    return Copy(*_kept_tree(folder, name, make), [])


def _overlay(git: Git) -> list[str]:
    """Paths below the project's root that the base takes from head: the suite, and this package if it lies inside."""
    root, package = (git.top / git.prefix).resolve(), Path(plumbline.__file__).resolve().parent
    return [*OVERLAY, *([package.relative_to(root).as_posix()] if package.is_relative_to(root) else [])]


def _kept_tree(folder: Path, name: str, make: Callable[[Path], None]) -> tuple[Path, Manifest]:
    """A tree of this name; one that was changed since, by what ran in it, is made again."""

    def make_with_manifest(target: Path) -> None:
        make(target / TREE)
        (target / MANIFEST).write_text(json.dumps(_manifest(target / TREE)), encoding="ascii")

    for _ in range(2):
        made = kept.keep(folder, name, make_with_manifest)
        manifest: Manifest = json.loads((made / MANIFEST).read_text(encoding="ascii"))
        if all(_fingerprint(made / TREE / name) == content for name, content in manifest.items()):
            break
        kept.remove(made)
    return made / TREE, manifest


def _listed_by_git(git: Git) -> dict[str, Path]:
    """The working tree's files by path below its root: tracked and untracked, not ignored; submodules' as well."""
    top = os.path.realpath(git.top)
    names = sorted({*_names(git, "--cached"), *_names(git, "--others", "--exclude-standard")})
    # Git lists the files of a folder whose place a link has taken, too.
    folders = {os.path.dirname(name) for name in names}  # noqa: PTH120
    linked = {name for name in folders if os.path.realpath(git.top / name) != os.path.normpath(f"{top}/{name}")}
    files = {}
    for name in names:
        path = git.top / name
        if (path.is_symlink() or path.is_file()) and os.path.dirname(name) not in linked:  # noqa: PTH120
            files[name] = path
    for name in _submodules(git):
        files |= {f"{name}/{inner}": path for inner, path in _listed_by_git(Git(git.top / name)).items()}
    return files


def _generated(git: Git, files: Mapping[str, Path]) -> dict[str, Path]:
    """Code inside of packages that git ignores, as it is generated or compiled."""
    found = {}
    for name in _names(git, "--others", "--ignored", "--exclude-standard", "--directory"):
        if str(PurePosixPath(name).parent / "__init__.py") not in files:
            continue
        path = git.top / name
        inside = path.rglob("*") if (path / "__init__.py").is_file() else [path]
        for file in inside:
            if file.suffix in CODE and file.is_file():
                found[file.relative_to(git.top).as_posix()] = file
    return found


def _secrets(git: Git) -> list[str]:
    """Settings that are not in git, such as `.env`: linked, as they may hold what must be stored nowhere else."""
    return _names(git, "--others", "--", f"{git.prefix}.env", f"{git.prefix}.env.*")


def _submodules(git: Git) -> list[str]:
    """Paths of the submodules that are checked out."""
    lines = _names(git, "--stage")
    paths = [line.partition("\t")[2] for line in lines if line.startswith(SUBMODULE)]
    return [path for path in paths if (git.top / path / ".git").exists()]


def _names(git: Git, *options: str, environ: Mapping[str, str] = {}) -> list[str]:
    return git.run("ls-files", "-z", *options, environ=environ).split("\0")[:-1]


def _check_out(git: Git, commit: str, tree: Path) -> None:
    """The files of a commit, with those of its submodules that are checked out in the working tree.

    Through an index of our own: no worktree to register, and, unlike an archive, without `export-ignore`.
    """
    tree.mkdir(parents=True, exist_ok=True)
    index = tree.with_name("index")
    environ = {"GIT_INDEX_FILE": str(index)}
    git.run("read-tree", commit, environ=environ)
    try:
        git.run("checkout-index", "--all", "--quiet", f"--prefix={tree}/", environ=environ)
    except NoBase:
        if shutil.disk_usage(tree).free < LEAST_FREE_BYTES:  # git doesn't say why
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise
    staged = _names(git, "--stage", environ=environ)
    index.unlink()
    for line in staged:
        details, _, name = line.partition("\t")
        if details.startswith(SUBMODULE) and (git.top / name / ".git").exists():
            submodule, wanted = Git(git.top / name), details.split()[1]
            if not submodule.commit(wanted):
                raise NoBase(f"commit {wanted[:12]} of the submodule {name} is not here: `git submodule update --init`")
            _check_out(submodule, wanted, tree / name)


def _copy(source: Path, target: Path) -> None:
    """With what Python has compiled of it, which it knows to be right by the file's time and size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    compiled = source.parent / CACHE / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    if source.suffix == ".py" and compiled.is_file():
        _copy(compiled, target.parent / CACHE / compiled.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _manifest(tree: Path) -> Manifest:
    found = {}
    for folder, folders, files in os.walk(tree):
        if CACHE in folders:
            folders.remove(CACHE)
        for name in [*files, *folders]:
            path = Path(folder, name)
            if path.is_symlink() or path.is_file():
                found[path.relative_to(tree).as_posix()] = _fingerprint(path)
    return dict(sorted(found.items()))


def _fingerprint(path: Path) -> str:
    """What tells a file from another; empty where there is none."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    try:
        with path.open("rb") as file:
            executable = "x" if os.fstat(file.fileno()).st_mode & 0o100 else "-"
            return f"{executable} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except FileNotFoundError:
        return ""


# ---- what is imported from where


def _import_folders(git: Git, root: Path, head: Copy, directories: Sequence[str]) -> list[str]:
    """Folders of the copies to import from, below the project's root: the usual, the given, and those in use here."""
    top, environment = os.path.realpath(git.top), os.path.realpath(sys.prefix)
    used = [os.path.realpath(entry) for entry in sys.path]
    ours = [path for path in used if _is_in(path, top) and not _is_in(path, environment)]
    wanted = [*IMPORT_FROM, *directories, *(os.path.relpath(path, os.path.realpath(root)) for path in ours)]
    folders = dict.fromkeys(os.path.normpath(folder) for folder in wanted)
    return [folder for folder in folders if (head.tree / git.prefix / folder).is_dir()]


def _modules(git: Git, files: Sequence[str], base: Copy, head: Copy, import_from: list[str]) -> list[str]:
    """Top-level modules in both copies that hold what differs.

    Where one is installed from a folder of the repository that is not in `import_from`, the folder is added.
    """
    found: set[str] = set()
    for path in {_module_path(name, head.files) for name in files}:
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


def _module_path(file: str, files: Mapping[str, str]) -> PurePosixPath:
    """The outermost package that a file lies in, or the file itself."""
    path = PurePosixPath(file)
    while path.parent.name and str(path.parent / "__init__.py") in files:
        path = path.parent
    return path


def _is_installed_from(git: Git, module: str) -> bool:
    """Whether this process imports a module from the repository, or from a copy that was installed out of a folder."""
    origin = origins([module])[module]
    if _is_in(origin, os.path.realpath(git.top)) and not _is_in(origin, os.path.realpath(sys.prefix)):
        return True
    owners = importlib.metadata.packages_distributions().get(module, [])
    return not local_packages().isdisjoint(canonicalize_name(owner) for owner in owners)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _listed(names: Sequence[str]) -> str:
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in names[:MOST_LISTED]]
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(shown) + more
