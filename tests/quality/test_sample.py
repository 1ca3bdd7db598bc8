"""Samples by a keyed hash: exact, nested, even, and the same for whoever draws them in whatever order."""

from __future__ import annotations

from fractions import Fraction
from hashlib import blake2b
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from otelslo.errors import BadValue
from otelslo.quality.sample import POSITIONS, Sampling, SmallestOfDay

KEYED = Sampling("a key")
DAY = "2026-11-24"
ids = st.one_of(st.text(min_size=1, max_size=8), st.integers(), st.uuids())
rates = st.fractions(0, 1)


def naive_position(key, identity, day=""):
    """By the words of the standard: BLAKE2b of 8 bytes, keyed by the hash of the key, personalised by the day."""
    hashed = blake2b(key.encode(), digest_size=32).digest()
    text = str(identity).encode("utf-8", "surrogatepass")
    digest = blake2b(text, digest_size=8, key=hashed, person=day.encode().ljust(16, b"\0"))
    return int.from_bytes(digest.digest(), "big")


@given(ids, st.text(min_size=1, max_size=100).filter(str.isascii))
def test_a_position_is_a_fixed_number(identity, key):
    assert Sampling(key).position(identity) == naive_position(key, identity)
    assert Sampling(key.encode()).position(identity, DAY) == naive_position(key, identity, DAY)
    assert Sampling(key).position(str(identity)) == Sampling(key).position(identity)


def test_known_positions_stay():
    """Another version that draws otherwise would draw anew from what was drawn before."""
    assert (
        [KEYED.position(one) for one in ("a", "b", 7)]
        == [naive_position("a key", one) for one in ("a", "b", "7")]
        == KNOWN
    )


KNOWN = [14135791303058904958, 12946367576391377362, 7776126642983370713]


@given(ids, rates, rates)
def test_a_larger_sample_holds_every_id_of_a_smaller_one(identity, one, other):
    low, high = sorted((one, other))
    assert KEYED.holds(identity, low) <= KEYED.holds(identity, high)


@given(ids, rates)
def test_a_rate_is_exact(identity, rate):
    assert KEYED.holds(identity, rate) == (Fraction(KEYED.position(identity), POSITIONS) < rate)
    assert KEYED.holds(identity, Fraction(1))
    assert not KEYED.holds(identity, Fraction(0))


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(1, 20), Fraction(1, 2)])
@pytest.mark.parametrize("day", ["", DAY])
def test_positions_are_even(rate, day):
    """Of 20,000 running numbers, as many as a fair coin would pick but for one time in a million."""
    bar = rate * POSITIONS
    picked = sum(KEYED.position(f"request-{n}", day) < bar for n in range(20_000))
    low, high = binom.ppf([5e-7, 1 - 5e-7], 20_000, float(rate))
    assert low <= picked <= high


def test_keys_and_days_are_independent():
    """What one key picks says nothing of what another does, nor one day of the next."""
    other, rate = Sampling("another key"), Fraction(1, 10)
    names = [f"request-{n}" for n in range(20_000)]
    both = sum(KEYED.holds(name, rate) and other.holds(name, rate) for name in names)
    bar = rate * POSITIONS
    days = sum(KEYED.position(name, DAY) < bar and KEYED.position(name, "2026-11-25") < bar for name in names)
    low, high = binom.ppf([5e-7, 1 - 5e-7], 20_000, 0.01)
    assert low <= both <= high
    assert low <= days <= high


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=400, unique=True),
    st.integers(1, 20),
    st.integers(1, 4),
    st.data(),
)
def test_the_n_smallest_are_the_same_for_all(identities, n, workers, data):
    """However they are split among workers, in whatever order, seen twice or once; merged in any order."""
    position = {identity: naive_position("a key", identity, DAY) for identity in identities}
    expected = sorted(identities, key=position.get)[:n]
    split = [SmallestOfDay(KEYED, DAY, n) for _ in range(workers)]
    for identity in data.draw(st.permutations(identities)):
        for worker in data.draw(st.lists(st.integers(0, workers - 1), min_size=1, max_size=2)):
            split[worker].add(identity)
    merged = SmallestOfDay(KEYED, DAY, n)
    for one in data.draw(st.permutations(split)):
        merged.merge(one.kept)
    assert merged.ids() == {str(identity) for identity in expected}
    assert merged.kept == sorted((position[identity], str(identity)) for identity in expected)


def test_what_is_kept_is_bounded_and_who_is_out_is_told():
    """Every id that is in at the end had been taken, and few are held at any time."""
    smallest, out = SmallestOfDay(KEYED, DAY, 5), set()
    for n in range(5_000):
        if not smallest.add(n):
            out.add(str(n))
        assert len(smallest._kept) < 2 * 5 + 64
    assert len(smallest.ids()) == 5
    assert not out & smallest.ids()
    assert out


@pytest.mark.parametrize("identity", ["", True, None, 1.5, b"x", []])
def test_what_is_no_id_is_refused(identity):
    with pytest.raises(BadValue, match="is no id"):
        KEYED.position(identity)


def test_ids_from_outside_may_hold_half_a_character():
    assert KEYED.position("\ud800") != KEYED.position("\ud801")
    smallest = SmallestOfDay(KEYED, DAY, 3)
    smallest.add("\ud800")
    assert smallest.ids() == {"\ud800"}
    assert KEYED.position(UUID(int=7)) == KEYED.position(str(UUID(int=7)))


@pytest.mark.parametrize("key", ["", b"", None, 7])
def test_a_key_is_needed(key):
    with pytest.raises(BadValue, match="is no key"):
        Sampling(key)


@pytest.mark.parametrize(
    ("day", "n"), [("24.11.2026", 5), (DAY, 0), (DAY, True), (DAY, 100_001), (DAY, 1.5), (None, 5)]
)
def test_a_day_and_a_number_are_checked(day, n):
    with pytest.raises(BadValue, match=r"is no day|a day"):
        SmallestOfDay(KEYED, day, n)


@pytest.mark.parametrize("rate", [Fraction(-1, 2), Fraction(3, 2)])
def test_a_rate_is_a_share(rate):
    with pytest.raises(BadValue, match="a rate of"):
        KEYED.holds("a", rate)
