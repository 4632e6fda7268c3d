"""Liveness checks: a service may be paused, or an external one may have died."""

import time

from plumbline.services.base import ATTEMPT_LIMIT_S, MAX_DELAY_S, PAUSED, Service, not_ready
from plumbline.services.clients import BadStatus
from plumbline.services.errors import NotReady


def liveness_error(service: Service, limit_s: float, *, failed: bool) -> NotReady | None:
    """Return an error if a service does not answer within the limit, or None. Blocks.

    `failed` means that a test has just failed: the reason may be a restart of the service.
    """
    deadline_s = time.monotonic() + limit_s
    error: BaseException | None = None
    while (left_s := deadline_s - time.monotonic()) > 0 and service.running() and service.state() != PAUSED:
        try:
            service.answer(min(left_s, ATTEMPT_LIMIT_S))
        except BadStatus:
            return None
        except Exception as caught:
            error = caught
            time.sleep(min(MAX_DELAY_S, left_s))
        else:
            if failed and service.was_restarted():
                return not_ready(service, "it was restarted during the run", None, service.advice_if_silent)
            return None
    return not_ready(service, "it no longer answers", error, service.advice_if_silent)
