"""Everything else that can tell people (mail, chat, telephones), by the library Apprise: `pip install otelslo[notify]`.

    chat: {apprise: {url: "env:CHAT_URL"}}

An Apprise URL holds passwords and tokens, so it is only pointed at. Apprise bounds each operation of a socket and not
the whole, so it runs in a thread that is left behind at the deadline. Whether what it then does still arrives, nobody
knows: the notice comes again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from otelslo.channels import SendFailed, place_of
from otelslo.errors import BadValue
from otelslo.http_call import Deadline, Late
from otelslo.notice import Notice
from otelslo.secret import Secret, secret

_KINDS = {"page": "failure", "ticket": "warning"}


def create(name: str, options: Mapping[str, object]) -> Apprise:
    """The way by Apprise called `name`.

    Args:
        options: `url`, a reference to one Apprise URL.

    Raises:
        DefinitionError: it cannot be meant, is not there, or Apprise is not installed.
    """
    place = place_of(name, "apprise")
    place.only(options, ("url",))
    try:
        import apprise  # noqa: F401
    except ImportError as e:
        raise place.error(f"Apprise cannot be loaded ({e})", "Run: pip install 'otelslo[notify]'") from e
    if options.get("url") is None:
        raise place.error("it has no url", 'Write url: "env:NAME", a variable that holds an Apprise URL')
    url = secret(options["url"], place.at("url"))
    place.at("url").parse(_service, url)
    return Apprise(url)


class Apprise:
    """One Apprise URL."""

    def __init__(self, url: Secret) -> None:
        self._url = url
        self._running: _Telling | None = None

    def send(self, notice: Notice, deadline_ns: int) -> None:
        """Tell it. Raises SendFailed where Apprise says that it failed, or says nothing in time."""
        deadline = Deadline(deadline_ns)
        if self._running is not None and self._running.is_alive():
            raise SendFailed("the notice before is still on its way")
        try:
            telling = _Telling(_service(self._url), notice)
            left_s = deadline.left_s()
            telling.start()
        except BadValue as e:
            raise SendFailed(str(e)) from None
        except (Late, RuntimeError) as e:  # the system has no more threads
            raise SendFailed(str(e)) from e
        self._running = telling
        telling.join(left_s)
        if telling.is_alive():
            raise SendFailed("Apprise said nothing in time")
        self._running = None
        if telling.problem:
            raise SendFailed(telling.problem)

    def close(self, deadline_ns: int) -> None:
        """A thread that a peer holds is left behind."""


class _Telling(threading.Thread):
    def __init__(self, service: Any, notice: Notice) -> None:
        super().__init__(name="otelslo-apprise", daemon=True)
        self._service = service
        self._notice = notice
        self.problem = ""

    def run(self) -> None:
        notice = self._notice
        kind = "success" if notice.event == "resolved" else _KINDS.get(notice.severity, "info")
        try:
            if not self._service.notify(
                title=notice.title, body=notice.whole_text or notice.title, notify_type=kind, body_format="text"
            ):
                self.problem = "Apprise could not deliver it; its own log says why"
        except Exception as e:
            self.problem = f"Apprise failed: {type(e).__name__}: {e}"


def _service(url: Secret) -> Any:
    import apprise

    services, text = apprise.Apprise(), url.read().strip()
    try:
        known = services.add(text) and len(services) == 1
    except Exception as e:  # it loads more than a hundred modules of its own here
        raise BadValue(f"Apprise failed: {type(e).__name__}: {e}", "Try the URL with its own command, apprise") from e
    if not known:
        raise BadValue("it is not one URL that Apprise knows", "See https://appriseit.com for the form of each service")
    return services
