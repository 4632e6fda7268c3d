import os
import pwd
import tempfile
import time
from pathlib import Path

import pytest

from plumbline import cache, held


@pytest.fixture
def fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fallback folder. The user's cache folder cannot be created."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"plumbline-{os.getuid()}"


def test_the_cache_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.state_folder() == tmp_path / "cache" / "plumbline"
    assert cache.state_folder().stat().st_mode & 0o777 == 0o700


def test_git_does_not_list_a_cache_in_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines set XDG_CACHE_HOME to a folder in the repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (cache.state_folder() / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("home", ["", "missing", "another user's"])
def test_without_a_home_the_fallback_is_used(
    fallback: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """A user may have no home. Root must not create folders in the home of another user."""
    homes = {"missing": tmp_path / "missing", "another user's": tmp_path / "other"}
    (tmp_path / "other").mkdir()
    if home == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(tmp_path / "other", 65534, 65534)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.chdir(tmp_path)
    if home:
        monkeypatch.setenv("HOME", str(homes[home]))
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)

    assert cache.state_folder() == fallback
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other", fallback.name]
    assert [*(tmp_path / "other").iterdir()] == []


def test_a_cache_folder_that_others_can_write_to_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record by another user could make a run remove any file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "plumbline").mkdir()
    (tmp_path / "plumbline").chmod(0o777)
    assert cache.state_folder().stat().st_mode & 0o777 == 0o700


def test_the_temporary_folder_is_the_fallback(fallback: Path) -> None:
    """It is private, and found again."""
    assert cache.state_folder() == fallback
    assert fallback.lstat().st_mode & 0o777 == 0o700
    assert cache.state_folder() == fallback


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_fallback_that_is_open_to_others_is_refused(fallback: Path, mode: int) -> None:
    fallback.mkdir()
    fallback.chmod(mode)
    with pytest.raises(OSError, match="must be a folder of this user with mode 0700"):
        cache.state_folder()


def test_a_fallback_that_is_a_link_is_refused(fallback: Path, tmp_path: Path) -> None:
    """Another user could have created it."""
    (tmp_path / "own").mkdir(mode=0o700)
    fallback.symlink_to(tmp_path / "own")
    with pytest.raises(OSError, match="must be a folder of this user with mode 0700"):
        cache.state_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_fallback_of_another_user_is_refused(fallback: Path) -> None:
    fallback.mkdir(mode=0o700)
    os.chown(fallback, 65534, 65534)
    with pytest.raises(OSError, match="must be a folder of this user with mode 0700"):
        cache.state_folder()


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    first = cache.make_once(tmp_path, "name", made.append)
    assert cache.make_once(tmp_path, "name", made.append) == first
    assert made == [first]


def test_an_incomplete_folder_of_a_killed_run_is_created_again(tmp_path: Path) -> None:
    """Incomplete folders with other names are removed."""
    for name in ("name", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    made = cache.make_once(tmp_path, "name", lambda folder: (folder / "whole").touch())
    assert sorted(path.name for path in made.iterdir()) == ["made", "whole"]
    assert not (tmp_path / "other").exists()


def test_an_error_leaves_no_incomplete_folder(tmp_path: Path) -> None:
    """Nor does Ctrl-C."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.keep(tmp_path, "name", fail)
    assert list(tmp_path.iterdir()) == []


def test_old_folders_and_too_many_are_removed(tmp_path: Path) -> None:
    """After a week without use, and all but the newest."""
    for number in range(cache.MAX_KEPT + 5):
        path = cache.keep(tmp_path, f"{number:02}", lambda folder: (folder / "file").touch())
        held.release(path / cache.MADE)  # as if the process that created it had ended
        os.utime(path / cache.MADE, (time.time() - 60 * number,) * 2)
    last_week_s = time.time() - cache.KEPT_S - 60
    os.utime(tmp_path / "03" / cache.MADE, (last_week_s, last_week_s))
    cache.sweep(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"{number:02}" for number in range(cache.MAX_KEPT + 1) if number != 3]


def test_folders_in_use_are_kept_after_a_change_of_the_clock(tmp_path: Path) -> None:
    """A clock that was set forward makes everything look old."""
    for name in ("used", "unused"):
        cache.make_once(tmp_path, name, lambda _: None)
        os.utime(tmp_path / name / cache.MADE, (0, 0))
    held.release(tmp_path / "unused" / cache.MADE)

    cache.sweep(tmp_path)

    assert [path.name for path in tmp_path.glob("*/")] == ["used"]


def test_a_run_that_holds_the_lock_for_too_long_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCK_LIMIT_S", 0.1)
    with (
        cache.locked(tmp_path),
        pytest.raises(TimeoutError, match=r"another run has held .*\.lock for 0\.1 s: wait until it ends"),
        cache.locked(tmp_path),
    ):
        raise AssertionError("locked")
