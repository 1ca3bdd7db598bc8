"""Posts each notice as JSON to a URL of the user's: the way to everything that has no channel of its own.

    ops: {webhook: {url: "env:OPS_HOOK", secret: "file:/run/secrets/hook"}}

A receiver knows a repeated notice by the header `Idempotency-Key`. With a `secret` it can check who wrote: the header
`X-Otelslo-Signature: t=<Unix s>,v1=<hex>` holds the HMAC-SHA256 over "<t>.<body>". Only https and public addresses are
posted to, unless `allow_http` or `allow_private` is true; redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from otelslo.channels import SendFailed, place_of
from otelslo.channels.http_post import OPTIONS, HttpPost
from otelslo.errors import BadValue
from otelslo.notice import Notice
from otelslo.secret import Secret, secret


def create(name: str, options: Mapping[str, object]) -> Webhook:
    """The webhook called `name`.

    Args:
        options: those of `HttpPost`; `secret` (a reference), `allow_http`, `allow_private` (true or false).

    Raises:
        DefinitionError: an option cannot be meant, or a secret is not there.
    """
    place = place_of(name, "webhook")
    place.only(options, (*OPTIONS, "allow_http", "allow_private", "secret"))
    allow_http, allow_private = (
        place.at(key).expect(options.get(key, False), bool, "true or false") for key in ("allow_http", "allow_private")
    )
    post = HttpPost(options, place, allow_http=allow_http, allow_private=allow_private)
    key = None if options.get("secret") is None else secret(options["secret"], place.at("secret"))
    if key is not None:
        place.at("secret").parse(Secret.read, key)
    return Webhook(post, key)


class Webhook:
    """One URL. `secret` signs what is posted; None: it goes unsigned."""

    def __init__(self, post: HttpPost, secret: Secret | None = None) -> None:
        self._post = post
        self._secret = secret

    def send(self, notice: Notice, deadline_ns: int) -> None:
        """Post it. Raises SendFailed unless the answer is a 2xx."""
        try:
            body = json.dumps(notice.to_json(), separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError) as e:
            raise SendFailed(f"the notice cannot be written as JSON: {e}", retryable=False) from e
        headers = {"idempotency-key": notice.key}
        if self._secret is not None:
            try:
                headers["x-otelslo-signature"] = signature(self._secret.read(), int(time.time()), body)
            except BadValue as e:
                raise SendFailed(str(e)) from None
        self._post.post(body, headers, deadline_ns)

    def close(self, deadline_ns: int) -> None:
        """Nothing is open between two notices."""


def signature(secret: str, at_wall_s: int, body: bytes) -> str:
    """The value of X-Otelslo-Signature: who knows the secret can make the same, and refuse what is old."""
    digest = hmac.new(secret.encode(), f"{at_wall_s}.".encode() + body, hashlib.sha256)
    return f"t={at_wall_s},v1={digest.hexdigest()}"
