"""Servers other than Redis and PostgreSQL, as the tables [services.NAME] that start them."""

import json
import re
from collections.abc import Mapping

from plumbline.adopting.files.brokers import RABBITMQ
from plumbline.adopting.files.shell import expand
from plumbline.adopting.files.starts import ComposeService
from plumbline.adopting.findings import FoundService

OWN = "plumbline"  # a password or database of a container
RABBITMQ_IMAGE = "rabbitmq:4-alpine"
# What is written for each product, besides its image.
PRODUCTS = {
    RABBITMQ: FoundService(RABBITMQ, port=5672, ready="Server startup complete"),
    "mysql": FoundService("mysql", port=3306, env={"MYSQL_ROOT_PASSWORD": OWN, "MYSQL_DATABASE": OWN}),
    "kafka": FoundService("kafka", port=9092),
    "mongo": FoundService("mongo", port=27017),
    "elasticsearch": FoundService(
        "elasticsearch",
        port=9200,
        ready="/_cluster/health",
        env={"discovery.type": "single-node", "xpack.security.enabled": "false"},
    ),
    "opensearch": FoundService(
        "opensearch",
        port=9200,
        ready="/_cluster/health",
        env={"discovery.type": "single-node", "DISABLE_SECURITY_PLUGIN": "true"},
    ),
    "minio": FoundService("minio", port=9000, ready="/minio/health/live", command=("server", "/data")),
    "nats": FoundService("nats", port=4222),
    "memcached": FoundService("memcached", port=11211),
    "clickhouse": FoundService("clickhouse", port=8123, ready="/ping"),
    "qdrant": FoundService("qdrant", port=6333, ready="/readyz"),
}
IMAGES: Mapping[str, str] = {**{name: name for name in PRODUCTS}, "mariadb": "mysql", "redpanda": "kafka"}


def product_of(image: str) -> str:
    """Return the key in PRODUCTS of an image, "" if it is of another product."""
    name = image.rpartition("/")[2].partition(":")[0].lower()
    return next((IMAGES[one] for one in IMAGES if re.match(rf"{one}\b", name)), "")


def stack(services: list[ComposeService], rabbitmq: str) -> tuple[FoundService, ...]:
    """Return the servers of compose files, and RabbitMQ if there is a place where its use was seen."""
    found: dict[str, FoundService] = {}
    for one in services:
        if name := product_of(one.image):
            seen = f"{one.file}:{one.line}: image: {one.image}"
            found.setdefault(name, _of(name, _image(one.image, name), seen))
    if rabbitmq:
        found.setdefault(RABBITMQ, _of(RABBITMQ, RABBITMQ_IMAGE, rabbitmq))
    return tuple(found.values())


def _of(name: str, image: str, seen: str) -> FoundService:
    known = PRODUCTS[name]
    return FoundService(name, image, known.port, seen, known.ready, known.env, known.command)


def _image(image: str, name: str) -> str:
    """Return an image with the defaults of its variables. Those of Bitnami have other users."""
    image = expand(image, {})
    if name == RABBITMQ and ("$" in image or "bitnami" in image):
        return RABBITMQ_IMAGE
    return image.partition(":$")[0]


def lines_of(one: FoundService) -> list[str]:
    """Return the table of a server, for a user to copy."""
    inner = ", ".join(f"{json.dumps(name)} = {json.dumps(text)}" for name, text in one.env.items())
    values = {"image": json.dumps(one.image), "port": f"{one.port}"}
    values |= {"ready": json.dumps(one.ready)} if one.ready else {}
    values |= {"env": f"{{ {inner} }}"} if inner else {}
    values |= {"command": json.dumps(one.command)} if one.command else {}
    return [f"[services.{one.name}]", *(f"{key} = {value}" for key, value in values.items())]
