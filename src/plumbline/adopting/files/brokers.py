"""The message brokers that workers need: Redis or RabbitMQ."""

import re
from collections.abc import Collection, Iterable

from plumbline.adopting.files.dependencies import Dependency
from plumbline.adopting.files.examples import examples, schemes_of_env_files
from plumbline.adopting.files.starts import ComposeService
from plumbline.adopting.files.tree import Tree

RABBITMQ, UNKNOWN = "rabbitmq", "broker"
ONLY_REDIS = {"arq", "saq", "rq", "huey"}
# Packages of Python that can do without RabbitMQ name it by an extra.
CLIENTS = {"pika", "aio-pika", "aiormq", "aioamqp", "amqpstorm", "taskiq-aio-pika"}
EXTRAS = {"rabbitmq", "rabbit", "amqp"}
# Modules of a tool, and the broker that they are of.
MODULES = {
    "taskiq": {"taskiq_aio_pika": RABBITMQ, "taskiq_redis": "redis"},
    "dramatiq": {"dramatiq.brokers.redis": "redis", "dramatiq": RABBITMQ},  # RabbitMQ is its default
}
URL = re.compile(r"BROKER\w*[^#;]{0,80}?\b(?:(?P<amqp>(?:py)?amqps?)|rediss?)://", re.IGNORECASE)


def rabbitmq(tree: Tree, declared: Iterable[Dependency], services: list[ComposeService]) -> str:
    """Return where a use of RabbitMQ was seen, "" if the project does not use it."""
    for module in (one for one in tree.modules.values() if not one.is_aside):
        if (found := URL.search(module.text)) and found["amqp"]:
            line = module.text.count("\n", 0, found.end()) + 1
            return f"{module.path}:{line}: {module.lines[line - 1].strip()}"
    for one in examples(tree, services).values():
        if re.match("(py)?amqps?://", one.value):
            return one.seen
    for name, scheme in schemes_of_env_files(tree).items():
        if re.fullmatch("(py)?amqps?", scheme):
            return f".env: {name}"
    return next((one.seen for one in declared if one.name in CLIENTS or EXTRAS & {*one.extras}), "")


def broker_of(tool: str, tree: Tree, used: Collection[str]) -> str:
    """Return the server that a tool's workers connect to. `used`: the servers that the project uses."""
    texts = [module.text for module in tree.modules.values() if not module.is_aside]
    named = {found["amqp"] is not None for text in texts for found in URL.finditer(text)}
    found = UNKNOWN
    if tool in ONLY_REDIS:
        found = "redis"
    elif tool in MODULES:
        found = next((broker for name, broker in MODULES[tool].items() if any(name in text for text in texts)), UNKNOWN)
    elif named:
        found = RABBITMQ if True in named else "redis"
    else:
        found = RABBITMQ if RABBITMQ in used else "redis"
    return found if found in used else UNKNOWN
