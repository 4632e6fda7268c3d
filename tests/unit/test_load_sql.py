"""Plain SQL files are loaded into the run's database."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from plumbline.load_sql import files_in
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import server

FIRST = """
CREATE DATABASE shop;
\\connect shop
CREATE TABLE item (n int);
ALTER TABLE public.item
    OWNER TO shop;
"""
SECOND = """
-- migrate:up
INSERT INTO item VALUES (1), (2);
-- migrate:down
DROP TABLE item;
"""
# "down" is no comment of its own here.
THIRD = "-- scale down\nINSERT INTO item VALUES (4);\n-- Down\nDROP TABLE item;\n"
COPIED = "COPY item (n) FROM stdin;\n3\n\\.\nCREATE INDEX CONCURRENTLY ON item (n);\n"


def test_migrations_in_their_order(tmp_path: Path) -> None:
    names = ["V10__c.sql", "V2__b.sql", "V1__a.sql", "U1__a.sql", "2_x.down.sql", "2_x.up.sql", "notes.txt"]
    for name in names:
        (tmp_path / name).touch()

    assert [file.name for file in files_in(tmp_path)] == ["2_x.up.sql", "V1__a.sql", "V2__b.sql", "V10__c.sql"]


def test_postgresql(make_services: MakeServices, tmp_path: Path) -> None:
    """No variable names the server. Databases and owners of the files are left out, and psql copies rows."""
    for name, text in {"1_first.sql": FIRST, "2_second.sql": SECOND, "3_copied.sql": COPIED, "4.sql": THIRD}.items():
        (tmp_path / name).write_text(text)
    command = ["python", "-m", "plumbline.load_sql", str(tmp_path)]
    services = make_services(f'backend = "embedded"\nredis.backend = "off"\nprepare = {json.dumps(command)}\n')
    services.begin()
    services.wait_ready()

    services.start_application()

    async def read() -> object:
        connection = await asyncpg.connect(server(services.postgres).address.url)
        try:
            return await connection.fetchval("SELECT array_agg(n ORDER BY n) FROM item")
        finally:
            await connection.close()

    assert asyncio.run(read()) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ("INSERT INTO item VALUES (1);", ""),
        ("INSERT INTO no_item VALUES (1);", "schema.sql: OperationalError: no such table: no_item\n"),
    ],
)
def test_sqlite(tmp_path: Path, rows: str, error: str) -> None:
    (tmp_path / "schema.sql").write_text(f"CREATE TABLE item (n int);\n{rows}")
    command = [sys.executable, "-m", "plumbline.load_sql", f"--sqlite={tmp_path / 'shop.sqlite'}", "schema.sql"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (int(bool(error)), error)
