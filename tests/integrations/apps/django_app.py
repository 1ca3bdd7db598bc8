"""Django in one file, as WSGI and as ASGI; nothing of otelslo."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests", LOGGING_CONFIG=None)
django.setup()


def ok(request: Any, number: int = 0) -> HttpResponse:
    return HttpResponse(str(number))


def boom(request: Any) -> HttpResponse:
    return HttpResponse("boom", status=500)


def raises(request: Any) -> HttpResponse:
    raise RuntimeError("the app's own fault")


def forbidden(request: Any) -> HttpResponse:
    raise PermissionDenied


urlpatterns = [
    path("ok", ok),
    path("items/<int:number>", ok),
    path("boom", boom),
    path("raise", raises),
    path("forbidden", forbidden),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
