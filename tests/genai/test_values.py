"""What a call is worth to the metrics, and into which bucket it goes, by a twin that calculates with fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.event import Ending, Event
from otelslo.genai.instruments import BY_NAME, INSTRUMENTS, Instrument
from otelslo.genai.values import error_type, measured
from otelslo.stream import StreamFacts

# As the conventions write them (semantic-conventions, last text before gen_ai moved out).
_OPERATION = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
PINNED = {
    "gen_ai.client.token.usage": (
        "{token}",
        [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864],
    ),
    "gen_ai.client.operation.duration": ("s", _OPERATION),
    "gen_ai.client.operation.time_to_first_chunk": ("s", _OPERATION),
    "gen_ai.client.operation.time_per_output_chunk": ("s", _OPERATION),
    "gen_ai.server.request.duration": ("s", _OPERATION),
    "gen_ai.server.time_per_output_token": (
        "s",
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
    ),
    "gen_ai.server.time_to_first_token": (
        "s",
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    ),
}


def test_names_units_and_bounds_are_the_conventions() -> None:
    assert {one.name: (one.unit, list(one.explicit_bounds)) for one in INSTRUMENTS} == PINNED


def twin_bucket(instrument: Instrument, value: Fraction) -> int:
    """The first bound that a value in the metric's unit is not above."""
    bounds = [Fraction(text) for text in instrument.bounds.split()]
    return next((number for number, bound in enumerate(bounds) if value <= bound), len(bounds))


@given(st.sampled_from(INSTRUMENTS), st.data())
def test_a_value_at_a_bound_is_in_its_bucket_and_one_above_is_not(instrument, data) -> None:
    near = data.draw(st.sampled_from([int(Fraction(b) * instrument.scale) for b in instrument.bounds.split()]))
    value = max(0, near + data.draw(st.sampled_from([-1, 0, 1]) | st.integers(-(10**9), 10**12)))
    assert instrument.bucket_of(value) == twin_bucket(instrument, Fraction(value, instrument.scale))


TIMES = st.lists(st.integers(1, 10**10), max_size=8).map(sorted)


@given(TIMES, st.integers(0, 10**9), st.none() | st.integers(0, 50))
def test_a_servers_stream(times, rest, told) -> None:
    end = (times[-1] if times else 0) + rest
    event = Event("call", latency_ns=end, stream=StreamFacts.of(times, end))
    found = {one.instrument.name: one.values for one in measured("server", event, None if told is None else (7, told))}
    tokens = len(times) if told is None else told
    wanted = {"gen_ai.server.request.duration": Fraction(end)}
    if times:
        wanted["gen_ai.server.time_to_first_token"] = Fraction(times[0])
        if tokens > 1:
            wanted["gen_ai.server.time_per_output_token"] = Fraction(end - times[0], tokens - 1)
    assert found.keys() == wanted.keys()
    for name, exact in wanted.items():
        (value,) = found[name]
        assert 0 <= value - exact < 1
        assert BY_NAME[name].bucket_of(value) == twin_bucket(BY_NAME[name], exact / 10**9)


@given(TIMES, st.integers(0, 10**9))
def test_a_clients_stream(times, rest) -> None:
    end = (times[-1] if times else 0) + rest
    event = Event("call", latency_ns=end, stream=StreamFacts.of(times, end))
    found = {(one.instrument.name, one.token): one.values for one in measured("client", event, (3, None))}
    wanted = {("gen_ai.client.operation.duration", None): (end,), ("gen_ai.client.token.usage", "input"): (3,)}
    if times:
        wanted["gen_ai.client.operation.time_to_first_chunk", None] = (times[0],)
    if len(times) > 1:
        gaps = tuple(times[n] - times[n - 1] for n in range(1, len(times)))
        wanted["gen_ai.client.operation.time_per_output_chunk", None] = gaps
    assert found == wanted


FAILED = {
    None: Event("http", status=200),
    "500": Event("http", status=500),
    "429": Event("http", status=429, ending=Ending.SHED),
    "ValueError": Event("call", ending=Ending.EXCEPTION, exception="ValueError"),
    "_OTHER": Event("call", ending=Ending.EXCEPTION),
    "client_cancel": Event("call", ending=Ending.CLIENT_CANCEL),
    "cut": Event("http", status=200, ending=Ending.CUT),
}


@pytest.mark.parametrize("kind", FAILED)
def test_only_successes_have_a_pace_at_a_server(kind: str | None) -> None:
    facts = FAILED[kind]
    event = Event(
        facts.kind,
        facts.ending,
        status=facts.status,
        exception=facts.exception,
        latency_ns=9,
        stream=StreamFacts.of([1, 2], 9),
    )
    assert error_type(event) == kind
    found = measured("server", event, None)
    assert (found[0].instrument.name, found[0].values, found[0].error) == ("gen_ai.server.request.duration", (9,), kind)
    assert len(found) == (3 if kind is None else 1)


def test_a_streamed_response_that_is_no_event_stream_has_no_tokens() -> None:
    event = Event("http", status=200, latency_ns=9, stream=StreamFacts((1), 2, 2, 2, 9, event_stream=False))
    assert [one.instrument.name for one in measured("server", event, None)] == ["gen_ai.server.request.duration"]
