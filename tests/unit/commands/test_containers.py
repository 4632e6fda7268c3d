"""The messages of `plumbline init` about servers that it can't start, and their workers."""

import tomllib

import pytest
from msgspec import convert
from msgspec.structs import replace

from plumbline.adopting.files.stack import PRODUCTS, lines_of
from plumbline.adopting.findings import Findings, FoundCommand, FoundService, FoundVariable
from plumbline.commands.containers import left_out, why_no_containers
from plumbline.settings import ServiceSettings, Settings

CELERY = FoundCommand("celery", ("celery", "worker"), "Procfile:1", needs="rabbitmq")
RABBITMQ = FoundService("rabbitmq", "rabbitmq:4", 5672, "compose.yml:2", "started")
URL = FoundVariable("BROKER_URL", "amqp://guest@{rabbitmq.host}:{rabbitmq.port}/", False, "shop/settings.py:2")
FINDINGS = Findings(processes=(CELERY,), variables=(URL,), stack=(RABBITMQ,))


def test_nothing_is_left_out() -> None:
    assert left_out(FINDINGS, Settings()) == []


def test_no_container_can_be_started() -> None:
    [line] = left_out(replace(FINDINGS, no_docker="no Docker engine answers: start Docker"), Settings())

    assert "rabbitmq is not started, and neither is the worker of celery (compose.yml:2)" in line
    assert "it needs Docker, but no Docker engine answers: start Docker, and run" in line


def test_an_address_in_the_code() -> None:
    """No variable names the broker. The lines to add are valid settings."""
    said, *lines = left_out(replace(FINDINGS, variables=()), Settings())

    assert "add these lines to tests/performance/settings.toml, and {rabbitmq.host} and {rabbitmq.port} to" in said
    assert "-s init` again:" in said
    service = tomllib.loads("\n".join(lines))["services"]["rabbitmq"]
    assert convert(service, ServiceSettings) == ServiceSettings(image="rabbitmq:4", port=5672, ready="started")


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_lines_of_each_product_are_valid(name: str) -> None:
    lines = lines_of(replace(PRODUCTS[name], image=f"{name}:1"))

    assert convert(tomllib.loads("\n".join(lines))["services"][name], ServiceSettings).image == f"{name}:1"


def test_a_service_of_the_users_own() -> None:
    own = Settings(services={"queue": ServiceSettings(image="rabbitmq:3", port=5672)})

    assert left_out(replace(FINDINGS, variables=()), own) == []


def test_a_worker_whose_broker_is_unknown() -> None:
    lines = left_out(Findings(processes=(replace(CELERY, needs="broker"),)), Settings())

    assert "no worker of celery is started (Procfile:1)" in lines[0]


def test_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker is asked for only if a variable names a server in a container."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    assert why_no_containers(FINDINGS) == "no Docker engine answers: start Docker"
    assert why_no_containers(replace(FINDINGS, variables=())) == ""
