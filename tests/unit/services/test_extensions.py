"""The stand-ins for extensions that the embedded PostgreSQL lacks, by published values."""

import hashlib
import hmac
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from plumbline.services.address import Address
from plumbline.services.clients import run_sql
from tests.support.documentation import BLOCKS, Block
from tests.unit.services.test_embedded import server, started

NAMESPACES = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}
MISSING = ["crypt('a', 'b')", "gen_salt('bf')", "pgp_sym_encrypt('a', 'b')", "encrypt('a', 'b', 'aes')", "armor('a')"]

ASKED = b"what do ya want for nothing?"


@pytest.fixture(scope="module")
def database(cache_home: Path) -> Iterator[Address]:
    """A PostgreSQL with both extensions, one of them in a schema whose name needs quotes."""
    assert cache_home.is_dir()
    with started("embedded") as services:
        address = server(services.postgres).address
        run_sql(address.url, 'CREATE SCHEMA "My own"', limit_s=10)
        run_sql(address.url, 'CREATE EXTENSION "uuid-ossp"', limit_s=10)
        run_sql(address.url, 'CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA "My own"', limit_s=10)
        yield address


def value(database: Address, expression: str, *arguments: object) -> object:
    """Return the value of an expression that finds the functions of both extensions."""
    settings = {"search_path": 'public, "My own"'}
    return run_sql(database.url, f"SELECT {expression}", *arguments, limit_s=10, server_settings=settings)[0][0]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [  # NIST's examples for FIPS 180-4; RFC 1321 for MD5
        ("md5", "abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            "SHA1",
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        ),
        ("sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        ("sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_known_digests(database: Address, name: str, text: str, expected: str) -> None:
    assert value(database, "encode(digest($1::text, $2), 'hex')", text, name) == expected
    assert value(database, "encode(digest($1::bytea, $2), 'hex')", text.encode(), name) == expected


@pytest.mark.parametrize("name", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
def test_digests_and_hmacs_of_all_lengths(database: Address, name: str) -> None:
    """The lengths are those at which padding changes, and the keys are longer and shorter than a block."""
    texts = [bytes(range(length)) for length in (0, 1, 55, 56, 63, 64, 65, 119, 120, 200)]
    keys = [text[::-1] for text in texts]
    digests = value(database, "array_agg(digest(data, $2) ORDER BY data) FROM unnest($1::bytea[]) AS data", texts, name)
    assert digests == [hashlib.new(name, text).digest() for text in texts]
    call = "array_agg(hmac(data, key, $3) ORDER BY data) FROM unnest($1::bytea[], $2::bytea[]) AS one (data, key)"
    assert value(database, call, texts, keys, name) == [
        hmac.digest(key, text, name) for key, text in zip(keys, texts, strict=True)
    ]


@pytest.mark.parametrize(
    ("key", "data", "name", "expected"),
    [  # RFC 4231, cases 2 and 6; RFC 2202 for SHA-1
        (b"Jefe", ASKED, "sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (b"Jefe", ASKED, "sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "sha224",
            "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e",
        ),
    ],
)
def test_known_hmacs(database: Address, key: bytes, data: bytes, name: str, expected: str) -> None:
    assert value(database, "encode(hmac($1::bytea, $2, $3), 'hex')", data, key, name) == expected
    if key.isascii():
        arguments = data.decode(), key.decode(), name
        assert value(database, "encode(hmac($1::text, $2, $3), 'hex')", *arguments) == expected


@pytest.mark.parametrize("name", ["www.example.com", "", "Grüße"])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_uuids_of_names(database: Address, namespace: str, name: str) -> None:
    """RFC 9562 has the values of www.example.com, which Python computes too."""
    called, known = f"uuid_ns_{namespace}()", NAMESPACES[namespace]
    assert value(database, called) == known
    assert value(database, f"uuid_generate_v3({called}, $1)", name) == uuid.uuid3(known, name)
    assert value(database, f"uuid_generate_v5({called}, $1)", name) == uuid.uuid5(known, name)


def test_uuids_of_example_com(database: Address) -> None:
    """The examples of RFC 9562."""
    call = "uuid_generate_v{}(uuid_ns_dns(), 'www.example.com')::text"
    assert value(database, call.format(3)) == "5df41881-3aed-3515-88a7-2f4a814cf09e"
    assert value(database, call.format(5)) == "2ed6657d-e927-568b-95e1-2665a8aea6a2"
    assert value(database, "uuid_nil()") == uuid.UUID(int=0)


@pytest.mark.parametrize(("name", "version"), [("v1", 1), ("v1mc", 1), ("v4", 4)])
def test_new_uuids(database: Address, name: str, version: int) -> None:
    """Each differs. Version 1 has the time, and a multicast address in place of that of a network card."""
    found = value(database, f"array_agg(uuid_generate_{name}()) FROM generate_series(1, 1000)")
    assert isinstance(found, list)
    assert len({*found}) == 1000
    uuids = [uuid.UUID(str(one)) for one in found]
    assert {(one.version, one.variant) for one in uuids} == {(version, uuid.RFC_4122)}
    if version == 1:
        assert all(one.node >> 40 & 1 for one in uuids)
        assert value(database, f"abs(extract(epoch FROM now() - uuid_extract_timestamp(uuid_generate_{name}()))) < 60")


def test_random_bytes(database: Address) -> None:
    """All bits vary, at every length."""
    for length in (1, 13, 14, 1024):
        several = value(database, f"array_agg(gen_random_bytes({length})) FROM generate_series(1, 100)")
        assert isinstance(several, list)
        assert {len(one) for one in several} == {length}
        for bits in zip(*(f"{int.from_bytes(one):0{length * 8}b}" for one in several), strict=True):
            assert {*bits} == {"0", "1"}
    assert value(database, '"My own".gen_random_uuid() <> gen_random_uuid()')
    with pytest.raises(asyncpg.ExternalRoutineInvocationError, match="Length not in range"):
        value(database, "gen_random_bytes(1025)")


@pytest.mark.parametrize("call", MISSING)
def test_what_only_the_library_can_do_is_an_error_that_says_what_to_do(database: Address, call: str) -> None:
    name = call.partition("(")[0]
    with pytest.raises(asyncpg.FeatureNotSupportedError, match=rf"has no function {name}\(\) of pgcrypto") as caught:
        value(database, call)
    assert caught.value.hint == "Set PERF_SERVICES=docker to have all of pgcrypto."
    with pytest.raises(asyncpg.FeatureNotSupportedError, match='Cannot use "ripemd160"'):
        value(database, "digest('a', 'ripemd160')")


def test_functions_need_no_search_path(database: Address) -> None:
    """PostgreSQL calls those of an index with an empty one. Copies of a database, as pairs have them, work too."""
    run_sql(database.url, "CREATE TABLE item AS SELECT 'a'::text AS name", limit_s=10)
    for call in ("\"My own\".digest(name, 'sha1')", "uuid_generate_v5(uuid_ns_url(), name)"):
        run_sql(database.url, f"CREATE INDEX ON item (({call}))", limit_s=10)
    run_sql(database.with_database("postgres").url, "CREATE DATABASE copied TEMPLATE perf", limit_s=10)
    copied = database.with_database("copied")
    run_sql(copied.url, "REINDEX TABLE item", limit_s=10)
    assert value(copied, "uuid_generate_v4() <> gen_random_uuid()")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sql"], ids=str)
def test_statements_of_the_documentation(database: Address, block: Block) -> None:
    for statement in filter(str.strip, block.text.split(";")):
        run_sql(database.url, statement, limit_s=10)
