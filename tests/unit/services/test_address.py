"""Addresses: URLs with and without their password."""

import pytest

from plumbline.services.address import Address
from plumbline.services.errors import ServiceError


def test_password_is_quoted_in_the_url_and_absent_from_the_rest() -> None:
    """The URL can be parsed again, whatever the password contains. `shown` never contains it."""
    address = Address("postgresql", "db.example", 5432, user="me@home", password="p@ss/w:rd?", database="a b")

    assert address.url == "postgresql://me%40home:p%40ss%2Fw%3Ard%3F@db.example:5432/a%20b"
    assert Address.parse(address.url, "URL", ("postgresql",)) == address
    assert address.shown == "postgresql://me%40home@db.example:5432/a%20b"
    assert "p@ss" not in repr(address)


def test_redis_url_with_a_password_and_no_user() -> None:
    address = Address.parse("rediss://:secret@[::1]:7000/2?ssl_ca_certs=/ca.pem", "URL", ("redis", "rediss"))

    assert (address.host, address.port, address.database) == ("::1", 7000, "2")
    assert address.url == "rediss://:secret@[::1]:7000/2?ssl_ca_certs=/ca.pem"
    assert address.shown == "rediss://[::1]:7000/2?ssl_ca_certs=/ca.pem"


def test_passwords_among_the_options_are_hidden() -> None:
    """`sslpassword` and similar options hold passwords too."""
    address = Address.parse("postgresql://h/d?sslmode=verify-full&sslpassword=k3y-0f-m1ne", "URL", ("postgresql",))

    assert address.shown == "postgresql://h:5432/d?sslmode=verify-full&sslpassword=***"
    assert address.redact("the key k3y-0f-m1ne is wrong") == "the key *** is wrong"


@pytest.mark.parametrize(
    "url",
    ["mysql://u:s3cret@h/d", "postgresql:///s3cret", "postgresql://u:s3cret@a,b/d", "postgresql://u:s3cret@h:x/d"],
)
def test_an_invalid_url_is_refused_without_showing_it(url: str) -> None:
    """The message names the variable, never its value."""
    with pytest.raises(ServiceError, match="PERF_DATABASE_URL") as refused:
        Address.parse(url, "PERF_DATABASE_URL", ("postgresql", "postgres"))

    assert "s3cret" not in str(refused.value)
