"""Settings in which a wrapper takes the place of the application."""

import os

from plumbline.comparing.workers import profiler, slowed
from plumbline.comparing.workers.asgi_wrapper import wrapped
from plumbline.services.variables import render
from plumbline.settings import AppSettings, Settings


def test_without_an_application_settings_stay_as_they_are() -> None:
    """There is nothing to wrap."""
    assert wrapped(Settings(), slowed.make, "/folder") == Settings()
    assert wrapped(Settings(), profiler.make, "/folder") == Settings()


def test_the_wrapper_finds_the_application_in_its_own_environment() -> None:
    """Beside what its settings say, and whatever the folder is called; this process's environment stays as it is."""
    before = dict(os.environ)
    app = wrapped(Settings(app=AppSettings("shop:app", env={"MODE": "test"})), slowed.make, "/a/{odd}").app
    assert app is not None
    assert (app.asgi, app.factory) == ("plumbline.comparing.workers.slowed:make", True)
    assert render(app.env, {}, "") == {
        "MODE": "test",
        "PERF_WRAPPED_ASGI": "shop:app",
        "PERF_WRAPPED_IS_FACTORY": "False",
        "PERF_WRAPPED_FOLDER": "/a/{odd}",
    }
    assert os.environ == before
