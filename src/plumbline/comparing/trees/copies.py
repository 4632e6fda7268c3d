"""Copies of the base commit and of the working tree, kept in the cache under paths of equal length.

The working tree's suite is laid over the base's copy, so that one suite measures both.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import plumbline
from plumbline import cache as kept
from plumbline.comparing.trees.git import Git, NoBase
from plumbline.project import SUITE

# Both sides have these of the working tree, below the project's root.
OVERLAY = (SUITE, "tests/__init__.py", "conftest.py")
CODE = (".py", ".so", ".pyd")
COMPILED_FOLDER = "__pycache__"
LEAST_FREE_BYTES = 1 << 20
SUBMODULE = "160000"
TREE, MANIFEST = "tree", "manifest.json"
MOST_LISTED = 5

# By path with slashes: a file's hash and whether it is executable, or a link's target.
Manifest = dict[str, str]


@dataclass(frozen=True)
class Copy:
    """A tree in the cache and its files."""

    tree: Path
    files: Manifest
    not_in_git: list[str]
    """Files that the code may need. The base's copy gets them, too."""


def head_copy(git: Git, folder: Path, say: Callable[[str], None]) -> Copy:
    """Copy the working tree into `folder`. Raises NoBase and OSError."""
    files = _listed_by_git(git)
    generated = _generated(git, files)
    if generated:
        say(f"ignored by git, but in both copies as the code may need it: {listed(sorted(generated))}")
    # Settings that are not in git, such as `.env`, are linked: no second file may hold their secrets.
    secrets = {name: git.top / name for name in git.names("--others", "--", f"{git.prefix}.env", f"{git.prefix}.env.*")}
    sources = {name: path for name, path in (files | generated).items() if name not in secrets}

    def make(tree: Path) -> None:
        for name, path in sources.items():
            _copy(path, tree / name)
        for name, path in secrets.items():
            (tree / name).symlink_to(path)

    contents = {name: _fingerprint(path) for name, path in sources.items()}
    name = "head-" + kept.digest(contents, {name: str(path) for name, path in secrets.items()})
    return Copy(*_kept_tree(folder, name, make), [*generated, *secrets])


def base_copy(git: Git, commit: str, head: Copy, folder: Path) -> Copy:
    """Copy a commit into `folder`, with the suite of the working tree. Raises NoBase and OSError."""
    tree_id = git.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    if not tree_id:
        raise NoBase(f"the base commit {commit[:12]} is not in this repository, or not any more")
    laid_over = _overlay(git)
    overlay = [name for name in head.files if any(is_in(name, item) for item in laid_over)]

    def make(tree: Path) -> None:
        _check_out(git, commit, tree)
        for item in laid_over:
            _remove(tree / item)
        for name in [*overlay, *head.not_in_git]:
            package = module_path(name, head.files)
            in_base = name in overlay or str(package) == name or (tree / package).is_dir()
            if in_base and not (tree / name).exists():
                _copy(head.tree / name, tree / name)

    contents = {name: head.files[name] for name in [*overlay, *head.not_in_git]}
    name = "base-" + kept.digest(tree_id, laid_over, contents, sorted(_submodules(git)))
    return Copy(*_kept_tree(folder, name, make), [])


def twin_copy(head: Copy, folder: Path) -> Copy:
    """Copy the copy of the working tree into `folder`, to be a base that does not differ. Raises OSError."""
    name = head.tree.parent.name.replace("head-", "base-")
    return Copy(*_kept_tree(folder, name, lambda tree: shutil.copytree(head.tree, tree, symlinks=True)), [])


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it, by their spelling alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def module_path(file: str, files: Mapping[str, str]) -> PurePosixPath:
    """Return the outermost package that a file lies in, or the file itself."""
    path = PurePosixPath(file)
    while path.parent.name and str(path.parent / "__init__.py") in files:
        path = path.parent
    return path


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in names[:MOST_LISTED]]
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(shown) + more


def _overlay(git: Git) -> list[str]:
    """Return the paths in the repository that the base takes from head: the suite, and Plumbline itself if it is here.

    Otherwise the workers of the two sides would run two versions of Plumbline.
    """
    top, package = git.top.resolve(), Path(plumbline.__file__).resolve().parent
    ours = [package.relative_to(top).as_posix()] if package.is_relative_to(top) else []
    return [*(git.prefix + item for item in OVERLAY), *ours]


def _kept_tree(folder: Path, name: str, make: Callable[[Path], object]) -> tuple[Path, Manifest]:
    """Keep a tree under this name. One that was changed since, by code that ran in it, is made again."""

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
    """Return the files of the working tree by path: tracked and untracked, not ignored; those of submodules as well."""
    top = os.path.realpath(git.top)
    names = sorted({*git.names("--cached"), *git.names("--others", "--exclude-standard")})
    # Git also lists the files of a folder that was replaced by a link.
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
    """Return code inside packages that git ignores because it is generated or compiled."""
    found = {}
    for name in git.names("--others", "--ignored", "--exclude-standard", "--directory"):
        if str(PurePosixPath(name).parent / "__init__.py") not in files:
            continue
        path = git.top / name
        for file in path.rglob("*") if (path / "__init__.py").is_file() else [path]:
            if file.suffix in CODE and file.is_file():
                found[file.relative_to(git.top).as_posix()] = file
    return found


def _submodules(git: Git) -> list[str]:
    """Return the paths of the submodules that are checked out."""
    paths = [line.partition("\t")[2] for line in git.names("--stage") if line.startswith(SUBMODULE)]
    return [path for path in paths if (git.top / path / ".git").exists()]


def _check_out(git: Git, commit: str, tree: Path) -> None:
    """Write the files of a commit, with those of its submodules that are checked out in the working tree.

    It uses an index of its own: no worktree to register, and, unlike an archive, no `export-ignore`.
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
    staged = git.names("--stage", environ=environ)
    index.unlink()
    for line in staged:
        details, _, name = line.partition("\t")
        if details.startswith(SUBMODULE) and (git.top / name / ".git").exists():
            submodule, wanted = Git(git.top / name), details.split()[1]
            if not submodule.commit(wanted):
                raise NoBase(f"commit {wanted[:12]} of the submodule {name} is not here: `git submodule update --init`")
            _check_out(submodule, wanted, tree / name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, and what Python has compiled of it, which stays valid because the time and the size are the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    compiled = source.parent / COMPILED_FOLDER / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    if source.suffix == ".py" and compiled.is_file():
        _copy(compiled, target.parent / COMPILED_FOLDER / compiled.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _manifest(tree: Path) -> Manifest:
    found = {}
    for folder, folders, files in os.walk(tree):
        if COMPILED_FOLDER in folders:
            folders.remove(COMPILED_FOLDER)
        for name in [*files, *folders]:
            path = Path(folder, name)
            if path.is_symlink() or path.is_file():
                found[path.relative_to(tree).as_posix()] = _fingerprint(path)
    return dict(sorted(found.items()))


def _fingerprint(path: Path) -> str:
    """Return what distinguishes a file from others; empty if there is none."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    try:
        with path.open("rb") as file:
            executable = "x" if os.fstat(file.fileno()).st_mode & 0o100 else "-"
            return f"{executable} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except FileNotFoundError:
        return ""
