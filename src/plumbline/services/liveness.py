"""Whether a service still answers: one that a test has paused, or an external one that has died, does not."""

import time

from plumbline.services.base import ATTEMPT_LIMIT_S, LONGEST_DELAY_S, PAUSED, Service, not_ready
from plumbline.services.clients import BadStatus
from plumbline.services.errors import NotReady


def silence(service: Service, limit_s: float, *, failed: bool) -> NotReady | None:
    """Return the report of a service that no longer answers, within the limit; None if it does. Blocks.

    `failed`: whether a test has just failed, maybe as the service was started again under it.
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
            time.sleep(min(LONGEST_DELAY_S, left_s))
        else:
            if failed and service.was_restarted():
                return not_ready(service, "it was started again during the run", None, service.advice_if_silent)
            return None
    return not_ready(service, "it no longer answers", error, service.advice_if_silent)
