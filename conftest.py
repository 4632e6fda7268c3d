"""The performance harness is a pytest plugin; pytest takes plugins from the root conftest.py alone."""

pytest_plugins = ["tests.performance.harness.plugin"]
