"""The archive in the package holds what `initdb` makes."""

import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from plumbline.services import embedded
from scripts import postgres_template
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import POSTGRES_ONLY, begin_and_wait, query, server

CATALOGS = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT 'class ' || oid || ' ' || relname || ' ' || relkind::text || ' ' || coalesce(relacl::text, '')
            FROM pg_class
        UNION ALL SELECT 'function ' || oid || ' ' || proname || ' ' || coalesce(proacl::text, '') FROM pg_proc
        UNION ALL SELECT 'role ' || oid || ' ' || rolname || ' ' || rolsuper::text FROM pg_roles
        UNION ALL SELECT 'database ' || datname || ' ' || datcollate || ' ' || datlocale FROM pg_database
        UNION ALL SELECT 'setting ' || name || ' ' || setting FROM pg_settings
            WHERE name !~ 'port|directories|_file|data_directory|dynamic_shared|control_path'
    ) AS lines (line)
"""


def test_the_archive_equals_a_fresh_data_directory(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as made:
            postgres_template.make_data_directory(embedded.find_postgres(), Path(made) / "data")
            shutil.copytree(Path(made) / "data", folder / "data")

    packaged = make_services(POSTGRES_ONLY)
    begin_and_wait(packaged)
    monkeypatch.setattr(embedded, "_unpack", make)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = make_services(POSTGRES_ONLY)
    begin_and_wait(fresh)

    assert query(server(fresh.postgres).address, CATALOGS) == query(server(packaged.postgres).address, CATALOGS)


def test_the_archive_names_nobody() -> None:
    with tarfile.open(embedded.TEMPLATE) as archive:
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in archive} == {(0, 0, "", 0)}
