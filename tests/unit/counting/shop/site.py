"""A site of Django in one file."""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from django.db import models  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

if os.environ["SHOP_DRIVER"] == "psycopg2":
    sys.modules["psycopg"] = None  # type: ignore[assignment]  # Django would prefer it
url = urlsplit(os.environ["SHOP_DATABASE_URL"])
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": url.hostname,
    "PORT": url.port,
    "USER": url.username,
    "PASSWORD": url.password,
    "NAME": url.path.lstrip("/"),
    "CONN_MAX_AGE": 600,
}
settings.configure(
    ROOT_URLCONF=__name__, DATABASES={"default": DATABASE}, ALLOWED_HOSTS=["*"], DEFAULT_AUTO_FIELD="", USE_TZ=True
)
application = get_wsgi_application()


class Order(models.Model):  # type: ignore[misc]
    id = models.IntegerField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = "orders"


class Line(models.Model):  # type: ignore[misc]
    id = models.IntegerField(primary_key=True)
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")

    class Meta:
        app_label = "shop"
        db_table = "order_lines"


def health(_: HttpRequest) -> HttpResponse:
    return HttpResponse("well")


def orders(_: HttpRequest) -> HttpResponse:
    found: Any = Order.objects.order_by("id")
    total = 0
    for order in found:  # django orders
        total += len(order.lines.all())  # django lines
    return HttpResponse(f"{total} in {os.getpid()}")


async def orders_later(_: HttpRequest) -> HttpResponse:
    found = await Order.objects.acount()  # django async
    return HttpResponse(str(found))


urlpatterns = [path("health", health), path("orders", orders), path("later", orders_later)]
