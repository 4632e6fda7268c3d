import dataclasses
import signal
import types
from pathlib import Path
from typing import Any, cast

import pytest

from plumbline.measuring.reports import Reports


def test_pytest_timeout_is_suspended_while_a_failure_is_rendered() -> None:
    """Afterwards the remaining time of this test continues."""
    context = cast(Any, types.SimpleNamespace(key_of=lambda _: ""))
    left_s = signal.getitimer(signal.ITIMER_REAL)[0]
    assert left_s > 0

    rendering = Reports(context).pytest_runtest_makereport(cast(Any, None))
    next(rendering)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    with pytest.raises(StopIteration, match="report"):
        rendering.send(cast(Any, "report"))

    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= left_s


@dataclasses.dataclass(frozen=True)
class Call:
    """Stands for pytest's CallSpec."""

    _idlist: list[str]

    @property
    def id(self) -> str:
        return "-".join(self._idlist)


def test_passwords_are_hidden_in_the_names_of_a_linked_suite(tmp_path: Path) -> None:
    """pytest reports its files under the target of the link."""
    (tmp_path / "moved").mkdir()
    (tmp_path / "suite").symlink_to(tmp_path / "moved")
    services = types.SimpleNamespace(scrub_name=lambda name: name.replace("hush-hush", "***"))
    context = types.SimpleNamespace(begun=True, suite=tmp_path / "suite", services=services)
    definition = types.SimpleNamespace(path=tmp_path / "moved" / "test_it.py")
    metafunc = types.SimpleNamespace(definition=definition, _calls=[Call(["hush-hush"]), Call(["other"])])

    collecting = Reports(cast(Any, context)).pytest_generate_tests(cast(Any, metafunc))
    next(collecting)
    with pytest.raises(StopIteration):
        next(collecting)

    assert [call.id for call in metafunc._calls] == ["***", "other"]
