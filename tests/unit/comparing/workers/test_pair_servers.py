"""The servers that both sides share, by their settings. Real servers are in test_compare_elsewhere.py."""

from pathlib import Path

import pytest

from plumbline.comparing.workers.pair_servers import shared_by_sides
from plumbline.settings_file import load_settings


@pytest.mark.parametrize(
    ("env", "environ", "sentences"),
    [
        ('URL = "{redis.url}"', {}, []),
        ('HOST = "{redis.host}"\nNUMBER = "{redis.database}"', {}, []),
        ('URL = "redis://{redis.host}/0"\nPREFIX = "{redis.prefix}"', {}, []),
        ('URL = "redis://{redis.host}/0"\nOTHER = "{redis.url}"', {}, ["URL names no {redis.database}"]),
        ('HOST = "{redis.host}"', {}, ["HOST names no {redis.database}"]),
        ('URL = "{redis.url}"', {"PERF_REDIS_URL": "redis://127.0.0.1"}, ["Redis is external"]),
    ],
)
def test_what_both_sides_share_is_reported(
    tmp_path: Path, env: str, environ: dict[str, str], sentences: list[str]
) -> None:
    """Nothing is shared if the settings use {redis.prefix}, which differs between the sides."""
    (tmp_path / "settings.toml").write_text(f'backend = "embedded"\n[env]\n{env}\n')
    shared = shared_by_sides(load_settings(tmp_path / "settings.toml", environ))
    assert [text.startswith(begin) for text, begin in zip(shared, sentences, strict=True)] == [True] * len(sentences)
