"""Walks every interleaving of a few small programs over shared words, because the orders that break a protocol are
the ones nobody thinks of.

A program is a generator function that yields one `Load`, `Store`, `Cas`, `TryLock`, `Unlock` or `Await` at a time, is
sent what the step saw, and touches nothing else. It is therefore a pure function of its arguments and of what it has
seen, and so

    state = the words, the kills left, and per process (program, arguments, all that it has seen).

Two states that compare equal have the same future: remembering states loses no interleaving. A program may return
another `Program` to become it; what it had seen is then forgotten, and states meet again. It must not spin: a loop
that sees the same value for ever would grow its history for ever.

Memory is sequentially consistent; nothing here speaks about a processor that reorders. A process may be killed before
each of its steps, while the budget lasts: it loses all that it knew, its locks are released, as the kernel does, and it
starts again from its beginning. A process that has finished releases its locks too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Words = tuple[int, ...]
Seen = int | None
Act = Callable[[Words, int], tuple[Words, Seen] | None]  # (words, who) -> (words, what the step saw), None = must wait
State = tuple[Words, int, tuple[int, ...]]  # words, kills left, position of each process


class Broken(Exception):
    """A promise of the protocol does not hold; `explore` adds the schedule that leads there."""


class Load(NamedTuple):
    """Sees the word."""

    word: str

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i = at[self.word]
        return lambda words, who: (words, words[i])


class Store(NamedTuple):
    """Sets the word. `tally` names a word that grows by as much as this store adds, in the same step: the
    protocol does not know it, it keeps the truth for the checks."""

    word: str
    value: int
    tally: str | None = None

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i, value, tally = at[self.word], self.value, at[self.tally] if self.tally else None
        may_fall, name = self.word not in grows, self.word

        def act(words: Words, who: int) -> tuple[Words, Seen]:
            before = words[i]
            if value < before and not may_fall:
                raise Broken(f"{name} falls from {before} to {value}")
            if tally is not None:
                words = put(words, tally, words[tally] + value - before)
            return put(words, i, value), None

        return act


class Cas(NamedTuple):
    """Sets the word if it is still `old`; sees 1 if it was, else 0."""

    word: str
    old: int
    new: int

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i, old, new = at[self.word], self.old, self.new
        return lambda words, who: (put(words, i, new), 1) if words[i] == old else (words, 0)


class TryLock(NamedTuple):
    """Takes the lock if it is free, and never waits; sees 1 if taken, else 0. The word holds the owner's number + 1."""

    word: str

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i = at[self.word]
        return lambda words, who: (words, 0) if words[i] else (put(words, i, who + 1), 1)


class Unlock(NamedTuple):
    """Gives the lock back."""

    word: str

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i, name = at[self.word], self.word

        def act(words: Words, who: int) -> tuple[Words, Seen]:
            if words[i] != who + 1:
                raise Broken(f"{name} is released by a process that does not hold it")
            return put(words, i, 0), None

        return act


class Await(NamedTuple):
    """Waits until the word has the value: stands for a pause that is known to be long enough."""

    word: str
    value: int

    def bind(self, at: Mapping[str, int], grows: Collection[str]) -> Act:
        i, value = at[self.word], self.value
        return lambda words, who: (words, None) if words[i] == value else None


Step = Load | Store | Cas | TryLock | Unlock | Await
Steps = Generator[Step, Any, Any]


class Program(NamedTuple):
    """A generator function and its arguments; both compare by value."""

    function: Callable[..., Steps]
    args: tuple[Any, ...]


def program(function: Callable[..., Steps], *args: Any) -> Program:
    """`function(*args)`, not yet started. The arguments must be hashable."""
    return Program(function, args)


def put(words: Words, i: int, value: int) -> Words:
    """The words with word `i` replaced."""
    return (*words[:i], value, *words[i + 1 :])


@dataclass(slots=True)
class Position:
    """Where one process stands: what it has seen since its program began, and the one step that follows from that."""

    program: Program
    seen: tuple[Seen, ...]
    step: Step | None  # None: finished
    act: Act | None
    result: Any = None
    after: dict[Seen, int] = field(default_factory=dict)  # what the step saw -> number of the next position


class Positions:
    """All positions met so far, numbered; a position is reached by running its program once more from the start."""

    def __init__(self, at: Mapping[str, int], grows: Collection[str]) -> None:
        self.at, self.grows = at, grows
        self.all: list[Position] = []
        self.numbers: dict[tuple[Program, tuple[Seen, ...]], int] = {}

    def number(self, start: Program, seen: tuple[Seen, ...] = ()) -> int:
        """The number of the position; raises Broken if the program does on the way to its next step."""
        if (start, seen) not in self.numbers:
            position = self._reach(start, seen)
            self.numbers[start, seen] = self.numbers.setdefault((position.program, position.seen), len(self.all))
            if self.numbers[start, seen] == len(self.all):
                self.all.append(position)
        return self.numbers[start, seen]

    def next(self, position: Position, seen: Seen) -> int:
        """The number of the position after the step of `position` saw `seen`."""
        if seen not in position.after:
            position.after[seen] = self.number(position.program, (*position.seen, seen))
        return position.after[seen]

    def _reach(self, start: Program, seen: tuple[Seen, ...]) -> Position:
        while True:
            steps = start.function(*start.args)
            try:
                step = next(steps)
                for value in seen:
                    step = steps.send(value)
                return Position(start, seen, step, step.bind(self.at, self.grows))
            except StopIteration as stop:
                if not isinstance(stop.value, Program):
                    return Position(start, seen, None, None, stop.value)
                start, seen = stop.value, ()


@dataclass(frozen=True, slots=True)
class Walk:
    """What a whole exploration saw: the number of states, and of different words at rest."""

    states: int
    rests: int


def explore(
    processes: Mapping[str, Program],
    words: Mapping[str, int],
    at_rest: Callable[[dict[str, int]], None],
    *,
    kills: int = 0,
    mortal: Collection[str] | None = None,
    grows: Collection[str] = (),
) -> Walk:
    """Walks every interleaving with up to `kills` kills; `at_rest` is given the words whenever all have finished.

    `mortal` names the processes that may be killed (None: all), `grows` the words that no store may lower. Words whose
    name ends in "lock" are locks.
    Raises Broken, with the schedule, as soon as a program, a store or `at_rest` does; RuntimeError on a deadlock.
    """
    return _Exploration(processes, words, grows, processes if mortal is None else mortal).walk(at_rest, kills)


def run(alone: Program, words: Mapping[str, int]) -> tuple[Any, dict[str, int]]:
    """Runs one program with nobody beside it; returns its result and the words it leaves."""
    exploration = _Exploration({"alone": alone}, words)
    state, positions = exploration.start(kills=0), exploration.positions
    while (step := next(exploration.successors(state), None)) is not None:
        state = step[1]
    return positions.all[state[2][0]].result, exploration.named(state[0])


class _Exploration:
    def __init__(
        self,
        processes: Mapping[str, Program],
        words: Mapping[str, int],
        grows: Collection[str] = (),
        mortal: Collection[str] = (),
    ) -> None:
        self.names, self.words = tuple(processes), dict(words)
        self.mortal = tuple(name in mortal for name in processes)
        self.locks = [i for i, name in enumerate(words) if name.endswith("lock")]
        self.positions = Positions({name: i for i, name in enumerate(words)}, frozenset(grows))
        self.entries = tuple(self.positions.number(each) for each in processes.values())
        self.came_from: dict[State, tuple[State, int, bool] | None] = {}

    def start(self, kills: int) -> State:
        return tuple(self.words.values()), kills, self.entries

    def walk(self, at_rest: Callable[[dict[str, int]], None], kills: int) -> Walk:
        first = self.start(kills)
        came_from, todo, rests = self.came_from, [first], set()
        came_from[first] = None
        while todo:
            state = todo.pop()
            try:
                moved = False
                for who, after, killed in self.successors(state):
                    moved = True
                    if after not in came_from:
                        came_from[after] = (state, who, killed)
                        todo.append(after)
                if not moved and state[0] not in rests:
                    self._rest(state, at_rest)
                    rests.add(state[0])
            except Broken as broken:
                raise Broken(f"{broken}, after:\n{self.schedule(state)}") from None
        return Walk(len(came_from), len(rests))

    def successors(self, state: State) -> Iterator[tuple[int, State, bool]]:
        """(who, the state after, was it a kill) for every process that can move or be killed."""
        words, kills, where = state
        for who, number in enumerate(where):
            position = self.positions.all[number]
            if position.act is None:
                continue
            if kills and self.mortal[who]:
                freed, restarted = self.freed(words, who), put(where, who, self.entries[who])
                # A kill that changes nothing only spends the budget: what follows is among the other walks.
                if restarted != where or freed != words:
                    yield who, (freed, kills - 1, restarted), True
            if (done := position.act(words, who)) is None:
                continue
            number = self.positions.next(position, done[1])
            after = done[0] if self.positions.all[number].act else self.freed(done[0], who)
            yield who, (after, kills, put(where, who, number)), False

    def freed(self, words: Words, who: int) -> Words:
        """The words once the kernel has released the locks of a process that is gone."""
        for i in self.locks:
            if words[i] == who + 1:
                words = put(words, i, 0)
        return words

    def named(self, words: Words) -> dict[str, int]:
        return dict(zip(self.words, words, strict=True))

    def schedule(self, state: State) -> str:
        """The steps that led here, one a line."""
        lines = []
        while (step := self.came_from[state]) is not None:
            state, who, killed = step
            lines.append(f"  {self.names[who]}: {'killed' if killed else self._told(state, who)}")
        return "\n".join(reversed(lines))

    def _told(self, state: State, who: int) -> str:
        position = self.positions.all[state[2][who]]
        assert position.act is not None
        done = position.act(state[0], who)
        seen = "" if done is None or done[1] is None else f" saw {done[1]}"
        return f"{position.step}{seen}"

    def _rest(self, state: State, at_rest: Callable[[dict[str, int]], None]) -> None:
        where = zip(self.names, state[2], strict=True)
        stuck = [name for name, number in where if self.positions.all[number].act is not None]
        if stuck:
            raise RuntimeError(f"{', '.join(stuck)} wait for ever, after:\n{self.schedule(state)}")
        at_rest(self.named(state[0]))
