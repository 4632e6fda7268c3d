"""Services that no longer answer: paused, or external and dead."""

import pytest
import redis

from plumbline.services.liveness import liveness_error
from plumbline.services.services import Services
from tests.support.fixtures import MakeServices
from tests.unit.services.test_embedded import server

REDIS = 'backend = "embedded"\n[postgres]\nbackend = "off"\n'
LIMIT_S = 1.0


def ready(make_services: MakeServices, text: str = REDIS, **environ: str) -> Services:
    services = make_services(text, **environ)
    services.begin()
    services.wait_ready()
    return services


def report(services: Services, *, failed: bool = False) -> str:
    return str(liveness_error(server(services.redis), LIMIT_S, failed=failed) or "")


def test_a_server_that_is_paused_does_not_answer(make_services: MakeServices) -> None:
    """Its state shows a signal. If it paused itself, only a request shows it."""
    services = ready(make_services)
    assert not report(services, failed=True)

    server(services.redis).pause()
    assert "redis is not ready: it no longer answers" in report(services)
    assert "stopped by a signal (paused)" in report(services)
    server(services.redis).resume()
    assert not report(services)

    with redis.Redis.from_url(server(services.redis).address.url) as client:
        client.client_pause(60_000)
    assert "let each test resume what it has paused" in report(services)


@pytest.mark.parametrize("starts_again", [True, False])
def test_an_external_server_that_dies(make_services: MakeServices, starts_again: bool) -> None:
    """A restart is reported only after a failed test."""
    theirs = ready(make_services)
    services = ready(make_services, REDIS, PERF_REDIS_URL=server(theirs.redis).address.url)
    assert not report(services, failed=True)

    server(theirs.redis).kill()
    if starts_again:
        server(theirs.redis).restart()
        theirs.wait_ready()
        server(theirs.redis).wait_ready(20)
        assert not report(services)
        assert "redis is not ready: it was restarted during the run" in report(services, failed=True)
    else:
        said = report(services)
        assert "redis is not ready: it no longer answers" in said
        assert "ConnectionError" in said
        assert "check that it still runs, and that PERF_REDIS_URL is right" in said
