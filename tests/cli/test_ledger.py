"""The demo's account of client and engine, by hand."""

from __future__ import annotations

import pytest

from otelslo.cli.demo_ledger import Account, tally


def account(client: dict[str, int], **engine: int) -> Account:
    return Account(client, {"2xx": 0, "4xx": 0, "5xx": 0, "crashed": 0, "probes": 0, "other": 0} | engine)


def test_reasons_add_up_to_classes() -> None:
    cells = {"good": 5, "5xx": 2, "exception": 1, "client_error": 3, "unauthorised": 1, "crashed": 4, "cut": 1}
    assert tally(cells | {"health_check": 9}) == {
        "2xx": 5, "4xx": 4, "5xx": 3, "crashed": 4, "probes": 9, "other": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("client", "engine", "agrees"),
    [
        ({"2xx": 5}, {"2xx": 5}, True),
        ({"2xx": 5}, {"2xx": 4}, False),
        ({"2xx": 5}, {"2xx": 6}, False),
        ({"2xx": 5, "cut": 3}, {"2xx": 5, "crashed": 3}, True),
        ({"2xx": 5, "cut": 3}, {"2xx": 5, "crashed": 1}, True),  # two never reached the app
        ({"2xx": 5, "cut": 3}, {"2xx": 6, "crashed": 2}, True),  # one answer was lost on its way
        ({"2xx": 5, "cut": 3}, {"2xx": 6, "crashed": 3}, False),
        ({"2xx": 5, "cut": 3}, {"2xx": 4, "crashed": 4}, True),  # answered a moment before the kill
        ({"2xx": 5, "cut": 0}, {"2xx": 4, "crashed": 2}, False),
        ({"2xx": 5, "cut": 1}, {"2xx": 5, "other": 1}, True),
        ({"2xx": 5}, {"2xx": 5, "other": 1}, False),
        ({"2xx": 5, "5xx": 1}, {"2xx": 6}, False),
    ],
)
def test_agreement_is_to_the_request(client: dict[str, int], engine: dict[str, int], agrees: bool) -> None:
    assert account(client, **engine).agrees is agrees


def test_where_cut_off_requests_are() -> None:
    found = account({"2xx": 10, "cut": 6}, **{"2xx": 11, "crashed": 3})
    assert (found.undelivered, found.unreached, found.late) == (1, 2, 0)
