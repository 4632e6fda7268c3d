"""The hosts that a locustfile may use. In processes of their own, because gevent patches the standard library."""

import subprocess
import sys

from plumbline.loading.locust_run import MODULES


def test_only_this_machine_and_allowed_hosts_are_used() -> None:
    """IP addresses of documentation, for which nobody asks DNS. A worker from elsewhere learns late what is allowed."""
    code = f"""
import sys
sys.path.insert(0, {str(MODULES[0].parent)!r})
from plumbline_open_loop import Hosts
import socket
problems = []
hosts = Hosts(problems.append)
socket.getaddrinfo("192.0.2.1", 80)
assert not problems
hosts.allow(["192.0.2.2"])
assert len(problems) == 1 and "sends requests to 192.0.2.1, not this machine" in problems[0]
for host in ("192.0.2.2", "127.0.0.2", "::1", "localhost", b"127.0.0.1", None):
    socket.getaddrinfo(host, 80)
assert len(problems) == 1
for host in ("192.0.2.3", "Shop.Example", b"shop.example"):
    try:
        socket.create_connection((host, 80))
    except PermissionError as error:
        assert str(error) == problems[-1]
    else:
        raise AssertionError(host)
assert 'allow_external = ["shop.example"]' in problems[-1]
assert len(problems) == 4
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
