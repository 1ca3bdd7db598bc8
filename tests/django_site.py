"""A Django site for tests: settings, views and routes, under WSGI and ASGI alike."""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.conf import settings

if not settings.configured:
    settings.configure(
        ROOT_URLCONF="django_site",
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        USE_I18N=True,
        LANGUAGE_CODE="en",
        LANGUAGES=[("en", "English"), ("de", "German")],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["django.middleware.locale.LocaleMiddleware", "django.middleware.common.CommonMiddleware"],
        APPEND_SLASH=True,
    )
    import django

    django.setup()

from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path, register_converter

from otelslo.exchange import Exchange
from otelslo.wsgi import EXCHANGE_KEY

CONTENT = b"content" * 1000


class Even:
    regex = "[0-9]+"

    def to_python(self, value):
        if int(value) % 2:
            raise ValueError(value)
        return int(value)

    def to_url(self, value):
        return str(value)


register_converter(Even, "even")


def ok(request, **more):
    return HttpResponse("ok")


def fails(request):
    raise RuntimeError("boom")


def missing(request, id):
    raise Http404


def forbidden(request):
    raise PermissionDenied


def answers(request, code):
    return HttpResponse("said", status=code)


def streams(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


def breaks(request):
    def body():
        yield b"a"
        raise RuntimeError("cut")

    return StreamingHttpResponse(body())


def file(request):
    found = Path(tempfile.gettempdir()) / "otelslo-test-content"
    found.write_bytes(CONTENT)
    return FileResponse(found.open("rb"))


def speaks(request):
    """Says that it was bad, to whichever edge is around it."""
    if hasattr(request, "scope"):
        request.scope.get("otelslo", Exchange()).bad("nonsense")
    else:
        request.environ.get(EXCHANGE_KEY, Exchange()).bad("nonsense")
    return HttpResponse("ok")


async def endless(request):
    async def body():
        while True:
            yield b"a"

    return StreamingHttpResponse(body())


async def waits(request):
    return HttpResponse("ok")


urlpatterns = [
    path("", ok),
    path("items/<int:id>/", ok),
    path("even/<even:n>/", ok),
    path("even/<int:n>/", ok),
    path("missing/<int:id>/", missing),
    path("fails/", fails),
    path("forbidden/", forbidden),
    path("answers/<int:code>/", answers),
    path("streams/", streams),
    path("breaks/", breaks),
    path("file/", file),
    path("speaks/", speaks),
    path("waits/", waits),
    path("endless/", endless),
    path("größe/<slug:name>/", ok),
    re_path(r"^old/(?P<year>[0-9]{4})/([a-z]+\.html)$", lambda request, year: HttpResponse("ok")),
    path("shop/<slug:shop>/", include([path("", ok), path("cart/<int:id>/", ok), re_path(r"^re/(?P<x>\w+)/$", ok)])),
    *i18n_patterns(path("about/<slug:page>/", ok)),
]
# path -> what is shown of it; None: no route
TEMPLATES = {
    "/": "/",
    "/items/7/": "/items/<int:id>/",
    "/items/8/": "/items/<int:id>/",
    "/items/x/": None,
    "/items/7": None,  # Django redirects it
    "/even/4/": "/even/<even:n>/",
    "/even/5/": "/even/<int:n>/",
    "/missing/1/": "/missing/<int:id>/",
    "/größe/xl/": "/größe/<slug:name>/",
    "/old/1999/may.html": "/old/<year>/<var>",
    "/shop/a/": "/shop/<slug:shop>/",
    "/shop/a/cart/1/": "/shop/<slug:shop>/cart/<int:id>/",
    "/shop/a/re/b/": "/shop/<slug:shop>/re/<x>/",
    "/shop/a/none/": None,
    "/en/about/us/": "/en/about/<slug:page>/",
    "/de/about/us/": "/de/about/<slug:page>/",
    "/fr/about/us/": None,
    "/nope/": None,
}
