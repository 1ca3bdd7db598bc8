"""The ring protocol holds in every order of its steps and after kills at every step; and each of its rules is needed.

A scenario is walked twice: with all rules, where nothing may break, and once for each rule that it guards, with that
rule left out, where the explorer has to find the damage. A control that finds nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from .explorer import Await, Broken, Cas, Load, Program, Steps, Store, TryLock, Walk, explore, program, run
from .model import LAP, Ring, Rule, auditor, count, leader, open_rows, raise_to, serve, watcher, worker


@dataclass(frozen=True)
class Scenario:
    """Who runs on which ring, and how often somebody may be killed."""

    ring: Ring
    processes: Callable[[Ring], dict[str, Program]]
    kills: int = 0
    mortal: tuple[str, ...] | None = None
    start: dict[str, int] = field(default_factory=dict)  # words that are not zero at the start

    def walk(self, without: Rule | None = None) -> Walk:
        ring = replace(self.ring, without=without)
        return explore(
            self.processes(ring),
            ring.words() | self.start,
            at_rest(ring),
            kills=self.kills,
            mortal=self.mortal,
            grows=ring.growing(),
        )


def at_rest(ring: Ring) -> Callable[[dict[str, int]], None]:
    """Settles once more, opens the last slot as the leader's tick would, and compares with the tallies."""

    def check(words: dict[str, int]) -> None:
        _, words = run(program(leader, ring, ring.last_slot), words)
        _, words = run(program(open_rows, ring, ring.last_slot), words)
        check_exact(ring, words)
        check_dated(ring, words)

    return check


def check_exact(ring: Ring, words: dict[str, int]) -> None:
    """Each row's total = begun; in each block ended = begun, and the loss log's head = the bad cells."""
    for row in range(ring.rows):
        total = sum(words[f"block{block}.row{row}.{cell}"] for block in range(ring.blocks) for cell in ring.cells)
        claim(total == words["begun"], f"row{row} holds {total} of {words['begun']} begun requests")
        dated = sum(tallied(ring, words, row, counter, range(ring.last_slot + 1)) for counter in ring.counters)
        claim(total == dated, f"row{row} holds {total}, its slots {dated}")
    for block in range(ring.blocks):
        begun, ended = words[f"block{block}.begun"], words[f"block{block}.ended"]
        claim(ended == begun, f"block{block}: begun {begun}, ended {ended}")
        for row in range(ring.rows):
            bad, head = words.get(f"block{block}.row{row}.bad", 0), words[f"block{block}.head"]
            claim(bad == head, f"block{block}.row{row}: bad {bad}, head of the loss log {head}")


def check_dated(ring: Ring, words: dict[str, int]) -> None:
    """No boundary holds an event of its own slot or a later one, and no window has lost one."""
    for row in range(ring.rows):
        for slot in range(1, ring.last_slot + 1):
            for word, lap, counter in ring.boundaries(row, slot, with_coarse=bool(ring.per_coarse)):
                first = slot - slot % ring.per_coarse if "coarse" in word else slot
                held, earlier = words[word] % LAP, tallied(ring, words, row, counter, range(first))
                claim(words[word] // LAP != lap or held <= earlier, f"{word} holds {held}, of {earlier} before it")
            answer, _ = run(program(count, ring, row, slot), words)
            for counter in ring.counters if answer is not None else ():
                later = tallied(ring, words, row, counter, range(slot, ring.last_slot + 1))
                claim(answer[counter] >= later, f"row{row} from slot {slot}: {counter} {answer[counter]} of {later}")


def tallied(ring: Ring, words: dict[str, int], row: int, counter: str, slots: range) -> int:
    return sum(words[f"row{row}.{counter}.in{slot}"] for slot in slots)


def claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


# Blocks that are in use from the start, by workers that never die: they call `serve` with nonce 0, and hold no lock.
ATTACHED = {1: {"blocks_used": 1}, 2: {"blocks_used": 2}}
OPEN_AT_1 = {"row0.open": 1, "row0.fine1.good": LAP, "row0.fine1.bad": LAP}

SCENARIOS = {
    "worker and leader, four kills": Scenario(
        Ring(),
        lambda ring: {"worker": program(worker, ring, 1, ("good", "bad")), "leader": program(leader, ring, 1)},
        kills=4,
    ),
    "worker and leader, two rows": Scenario(
        Ring(rows=2),
        lambda ring: {"worker": program(worker, ring, 1, ("good", "bad")), "leader": program(leader, ring, 1)},
        kills=3,
    ),
    "two workers and leader, one block": Scenario(
        Ring(),
        lambda ring: {
            "worker": program(worker, ring, 1, ("good",)),
            "rival": program(worker, ring, 1, ("bad",)),
            "leader": program(leader, ring, 1),
        },
        kills=3,
    ),
    "worker and adopter, two blocks": Scenario(
        Ring(blocks=2, cells=("good", "crashed")),
        lambda ring: {"worker": program(worker, ring, 1, ("good",)), "adopter": program(worker, ring, 1, ())},
        kills=1,
    ),
    "two workers and leader, two blocks": Scenario(
        Ring(blocks=2, cells=("good",)),
        lambda ring: {
            "worker": program(worker, ring, 1, ("good",)),
            "rival": program(worker, ring, 1, ()),
            "leader": program(leader, ring, 1),
        },
    ),
    "racing settlers": Scenario(
        Ring(rows=2),
        lambda ring: {
            "worker": program(worker, ring, 1, ("bad",)),
            "leader": program(leader, ring, 1),
            "next leader": program(leader, ring, 1),
        },
        kills=3,
    ),
    "crash settled two slots later": Scenario(
        Ring(last_slot=3),
        lambda ring: {"worker": program(worker, ring, 1, ("bad",)), "leader": program(leader, ring, 3)},
        kills=3,
        start=OPEN_AT_1,
    ),
    "lock lost by a live worker": Scenario(
        Ring(shared_lock=True),
        lambda ring: {"worker": program(serve, ring, 0, 0, 1, ("good", "bad")), "thief": program(leader, ring, 1)},
        start=ATTACHED[1],
    ),
    "racing openers": Scenario(
        Ring(cells=("good", "bad"), last_slot=3),
        lambda ring: {
            "adder": program(serve, ring, 0, 0, 2, ("good",)),
            "opener of 2": program(open_rows, ring, 2),
            "opener of 3": program(open_rows, ring, 3),
        },
        kills=1,
        mortal=("opener of 2", "opener of 3"),
        start=ATTACHED[1],
    ),
    "racing openers, fine and coarse": Scenario(
        Ring(cells=("good",), last_slot=3, per_coarse=2),
        lambda ring: {
            "adder": program(serve, ring, 0, 0, 2, ("good",)),
            "opener of 1": program(open_rows, ring, 1),
            "opener of 3": program(open_rows, ring, 3),
        },
        kills=2,
        mortal=("opener of 1", "opener of 3"),
        start=ATTACHED[1],
    ),
    "opener a lap behind": Scenario(
        Ring(cells=("good",), last_slot=3, fine=2),
        lambda ring: {
            "adder": program(serve, ring, 0, 0, 3, ("good",)),
            "opener of 1": program(open_rows, ring, 1),
            "opener of 3": program(open_rows, ring, 3),
        },
        start=ATTACHED[1],
    ),
    "reader beside adders and an opener": Scenario(
        Ring(blocks=2, cells=("good",), last_slot=2),
        lambda ring: {
            "adder in 1": program(serve, ring, 0, 0, 1, ("good",)),
            "adder in 2": program(serve, ring, 1, 0, 2, ("good",)),
            "reader": program(watcher, ring, 0, 2),
        },
        start=ATTACHED[2],
    ),
    "reader over a hole": Scenario(
        Ring(blocks=2, cells=("good", "bad"), last_slot=3),
        lambda ring: {
            "adder in 1": program(serve, ring, 0, 0, 1, ("good",)),
            "adder in 3": program(serve, ring, 1, 0, 3, ("bad",)),
            "reader": program(watcher, ring, 0, 2),
        },
        start=ATTACHED[2],
    ),
    "reader while the ring wraps": Scenario(
        Ring(cells=("good",), last_slot=3, fine=2),
        lambda ring: {
            "adder in 1": program(serve, ring, 0, 0, 1, ("good",)),
            "opener of 3": program(open_rows, ring, 3),
            "reader": program(watcher, ring, 0, 1),
        },
        start=ATTACHED[1],
    ),
    "reader while a block joins": Scenario(
        Ring(cells=("good", "crashed"), last_slot=2),
        lambda ring: {
            "worker": program(worker, ring, 1, ("good",)),
            "opener": program(open_rows, ring, 2),
            "reader": program(watcher, ring, 0, 2),
        },
        kills=2,
    ),
    "auditor beside worker and leader": Scenario(
        Ring(cells=("good", "crashed")),
        lambda ring: {
            "worker": program(worker, ring, 1, ("good",)),
            "leader": program(leader, ring, 1),
            "auditor": program(auditor, ring, 0, 0),
        },
        kills=2,
    ),
}

# (the rule left out, the scenario that guards it, what the explorer has to find)
CONTROLS = [
    (Rule.CLEAR_COUNT, "worker and leader, two rows", "row0 holds . of . begun"),
    (Rule.ABSOLUTE_VALUES, "worker and leader, two rows", "row0 holds . of . begun"),
    (Rule.COUNT_LAST, "worker and leader, two rows", "ended falls"),
    (Rule.ENDED_LAST, "auditor beside worker and leader", "ended 1, total 0, begun 1"),
    (Rule.LOCK, "worker and leader, two rows", "row0 holds 2 of 1 begun"),
    (Rule.LOCK, "racing settlers", "row0 holds 2 of 1 begun"),
    (Rule.NONCE_FIRST, "lock lost by a live worker", "row0 holds 2 of 1 begun"),
    (Rule.PAUSE, "lock lost by a live worker", "row0 holds 2 of 1 begun"),
    (Rule.SETTLER_OPENS, "crash settled two slots later", "row0 from slot 2: bad 0 of 1"),
    (Rule.COPY_FIRST, "racing openers", "open at 3 and has no boundary"),
    (Rule.COPY_FIRST, "reader beside adders and an opener", "row0 from slot 1: good 1 of 2"),
    (Rule.LOOK_AGAIN, "racing openers", "row0 from slot 1: good 0 of 1"),
    (Rule.LOOK_AGAIN, "racing openers, fine and coarse", "fine1.good holds 1, of 0 before it"),
    (Rule.BOUNDARY_FIRST, "reader beside adders and an opener", "the window from slot 2 holds .*-1"),
    (Rule.COVER_LAST, "reader while a block joins", "the window from slot 2 holds .*-1"),
    (Rule.FILL_AGAIN, "opener a lap behind", "open at 3 and has no boundary"),
    (Rule.KEEP_NEWER_LAP, "opener a lap behind", "open at 3 and has no boundary"),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_protocol_holds(name: str) -> None:
    assert SCENARIOS[name].walk().states > 100


@pytest.mark.parametrize(("rule", "name", "found"), CONTROLS)
def test_control_is_found_broken(rule: Rule, name: str, found: str) -> None:
    with pytest.raises(Broken, match=f"{found}.*, after:"):
        SCENARIOS[name].walk(without=rule)


def test_every_rule_has_a_control() -> None:
    assert {rule for rule, _, _ in CONTROLS} == set(Rule)


def test_neighbouring_boundaries_may_cross_by_the_adds_in_flight() -> None:
    """Known, and not promised: a window between two boundaries is max(0, difference)."""
    ring = Ring(cells=("good",), last_slot=3)
    processes = {
        "adder": program(serve, ring, 0, 0, 1, ("good",)),
        "opener of 2": program(open_rows, ring, 2),
        "opener of 3": program(open_rows, ring, 3),
    }

    def check(words: dict[str, int]) -> None:
        second, third = (words[ring.fine_word(0, slot, "good")[0]] for slot in (2, 3))
        claim(not second or second <= third, f"boundary 2 is {second}, boundary 3 is {third}")

    with pytest.raises(Broken, match=f"boundary 2 is {LAP + 1}, boundary 3 is {LAP}"):
        explore(processes, ring.words() | {"blocks_used": 1}, check)


# --- the explorer itself --------------------------------------------------------------------------------------------


def stores(word: str, *values: int) -> Steps:
    for value in values:
        yield Store(word, value)


def careless_increment(word: str) -> Steps:
    before = yield Load(word)
    yield Store(word, before + 1)


def careful_increment(word: str) -> Steps:
    while not (yield Cas(word, before := (yield Load(word)), before + 1)):
        pass


def locked_increment(word: str) -> Steps:
    if (yield TryLock("lock")):
        yield from careless_increment(word)


def final_values(programs: dict[str, Program], words: dict[str, int], word: str, *, kills: int = 0) -> set[int]:
    seen = set()
    explore(programs, words, lambda rest: seen.add(rest[word]), kills=kills)
    return seen


def test_independent_programs_meet_in_every_pair_of_positions() -> None:
    programs = {"a": program(stores, "x", 1, 2, 3), "b": program(stores, "y", 1, 2)}
    assert explore(programs, {"x": 0, "y": 0}, lambda rest: None) == Walk(states=4 * 3, rests=1)


def test_a_lost_update_is_found_and_a_compare_and_swap_loses_none() -> None:
    careless = {name: program(careless_increment, "x") for name in "abc"}
    assert final_values(careless, {"x": 0}, "x") == {1, 2, 3}
    careful = {name: program(careful_increment, "x") for name in "abc"}
    assert final_values(careful, {"x": 0}, "x") == {3}


def test_remembering_states_loses_no_outcome() -> None:
    """Compared with running every schedule from the start, with nothing remembered."""
    chosen = [program(careless_increment, "x"), program(careful_increment, "x"), program(stores, "x", 5, 7)]
    outcomes = final_values(dict(zip("abc", chosen, strict=True)), {"x": 0}, "x")
    assert outcomes == set(outcomes_by_schedule(chosen))
    assert len(outcomes) > 3


def outcomes_by_schedule(programs: list[Program], schedule: tuple[int, ...] = ()) -> Iterator[int]:
    """The last value of x after every schedule that begins with this one."""
    x, steps = 0, [each.function(*each.args) for each in programs]
    wanted: dict[int, Any] = {who: next(each) for who, each in enumerate(steps)}
    for who in schedule:
        step, seen = wanted.pop(who), None
        if isinstance(step, Load):
            seen = x
        elif isinstance(step, Cas):
            seen = int(x == step.old)
            x = step.new if seen else x
        else:
            x = step.value
        with suppress(StopIteration):
            wanted[who] = steps[who].send(seen)
    for who in wanted:
        yield from outcomes_by_schedule(programs, (*schedule, who))
    if not wanted:
        yield x


def test_a_killed_process_starts_again_and_leaves_its_lock() -> None:
    one = {"a": program(locked_increment, "x")}
    assert final_values(one, {"x": 0, "lock": 0}, "x", kills=2) == {1}
    two = {"a": program(locked_increment, "x"), "b": program(locked_increment, "x")}
    assert final_values(two, {"x": 0, "lock": 0}, "x") == {1, 2}
    again = {"a": program(raise_to, "x", 1), "b": program(careless_increment, "y")}
    assert final_values(again, {"x": 0, "y": 0}, "y", kills=1) == {1}


def test_waiting_for_ever_is_reported() -> None:
    def waits() -> Steps:
        yield Await("x", 1)

    with pytest.raises(RuntimeError, match="a wait for ever"):
        explore({"a": program(waits)}, {"x": 0}, lambda rest: None)


def test_a_word_that_may_only_grow_is_watched_and_the_schedule_told() -> None:
    with pytest.raises(Broken, match=r"x falls from 2 to 1, after:\n  a: Store.*value=2"):
        explore({"a": program(stores, "x", 2, 1)}, {"x": 0}, lambda rest: None, grows=["x"])
