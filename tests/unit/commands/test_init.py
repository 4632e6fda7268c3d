"""The changes that `plumbline init` shows before it writes."""

from pathlib import Path

import pytest

from plumbline.commands.init import _agreed


def test_of_a_moved_file_only_the_changed_lines_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(f"{number}\n" for number in range(20))
    Path("old.yml").write_text(text, encoding="utf-8")

    assert _agreed({tmp_path / "new.yml": text.replace("5\n", "five\n", 1), tmp_path / "old.yml": None}, yes=True)

    shown = capsys.readouterr().out.splitlines()
    assert {"--- old.yml", "+++ new.yml", "-5", "+five", "remove old.yml"} <= set(shown)
    assert "+12" not in shown
