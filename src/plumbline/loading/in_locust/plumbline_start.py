"""Run Locust without the repository's own configuration, which is for load tests without Plumbline."""

import os
import sys
from typing import Any

from locust import argument_parser
from locust.main import main

GIVEN = "LOCUST_HOST"  # by Plumbline
RUN: Any = main  # has no annotations


def forget_configuration() -> None:
    """Let Locust read no configuration file, and unset the environment variables of its options."""
    argument_parser.get_empty_argument_parser.__defaults__ = (True, ())
    argument_parser.get_parser.__defaults__ = ((),)
    for action in argument_parser.get_parser()._actions:
        if (name := getattr(action, "env_var", None)) and name != GIVEN:
            os.environ.pop(name, None)


if __name__ == "__main__":
    sys.path[0] = ""  # as under `python -m locust`: the folder that Locust runs in
    forget_configuration()
    RUN()
