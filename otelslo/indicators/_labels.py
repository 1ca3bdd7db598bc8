"""What the indicators of labelled predictions have in common: their options, and the lines of their tables.

A prediction is judged once, when its label comes or when the time for one has lapsed. What has no output where one is
needed, or a label that says nothing, is excluded with a reason of its own, so that it is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Final

from otelslo.errors import BadValue, shown
from otelslo.event import GOOD, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, Rule, rule
from otelslo.labelled import Class, Labelled, class_key, number_of
from otelslo.quality.sample import parse_sample
from otelslo.window import parse_positive_duration

KIND = "prediction"
BAD: Final = "bad"
EXCLUDED: Final = "excluded"
NO_LABEL, NO_OUTPUT, LAPSED = "no_label", "no_output", "lapsed"


def parse_number(value: object) -> Fraction:
    """A bar, exactly as it is written. Raises BadValue."""
    number = number_of(value)
    if number is None:
        raise BadValue(f"{shown(value)} is no number", "Write one such as 4 or 0.7")
    return number


def parse_positive_class(value: object) -> str:
    """The class that counts as positive, by its key. Raises BadValue."""
    if value == "":
        raise BadValue("the positive class is empty", "Write the class, such as 1 or fraud")
    return class_key(value)


def one_of(*words: str) -> Callable[[Any], str]:
    """A parser of a choice."""

    def parse(value: Any) -> str:
        if value not in words:
            raise BadValue(f"{shown(value)} is no choice", f"Write {' or '.join(words)}")
        return str(value)

    return parse


def options(*, lapsed: str = EXCLUDED, **own: Option) -> dict[str, Option]:
    """An indicator's options: its own, and those that all have; `lapsed` is what one is that no label came for."""
    return {
        **own,
        "label_within": LABEL_WITHIN,
        "otherwise": Option(one_of(BAD, EXCLUDED), default=lapsed, example=EXCLUDED),
        "sample": SAMPLE,
    }


LABEL_WITHIN = Option(parse_positive_duration, example="30m")
SAMPLE = Option(parse_sample, example="5%", meant=False)
POSITIVE = Option(parse_positive_class, required=True, example="1", free=True)


class _Lapsed(Rule):
    """What the definition says of a prediction that no label came for."""

    __slots__ = ()

    def judgement(self, options: Options) -> Judgement:
        return always(Outcome(BAD if options["otherwise"] == BAD else EXCLUDED, LAPSED))


def table(*own: Rule, output: bool = False) -> tuple[Rule, ...]:
    """The table of an indicator: its own lines, then those of all; `output`: it needs to know what was predicted."""
    no_output = (excluded(NO_OUTPUT, "it was logged without an output"),) if output else ()
    waited = _Lapsed(LAPSED, "no label came within label_within", GOOD, GOOD)
    return (*own, waited, *no_output, excluded(NO_LABEL, "its label is no text, number or yes/no value"))


def good(key: str, happened: str) -> Rule:
    """A line of what is good."""
    return rule(key, happened, GOOD)


def bad(key: str, happened: str) -> Rule:
    """A line of what is bad, by its key."""
    return rule(key, happened, Outcome(BAD, key))


def excluded(key: str, happened: str) -> Rule:
    """A line of what is excluded, by its key."""
    return rule(key, happened, Outcome(EXCLUDED, key))


def key_of(value: Class | None) -> str | None:
    """The key of a class; None if it is none. Never raises."""
    try:
        return class_key(value)
    except BadValue:
        return None


def truth_of(labelled: Labelled) -> str | None:
    """The key of what the label says; None if it says nothing: an empty text is none."""
    return key_of(labelled.truth) or None


@dataclass(frozen=True, eq=False)
class Labelling:
    """How an indicator of labelled predictions judges: by its table, and by the key that it finds.

    Args:
        found: the key of a prediction and its label, or None where they have none: it lapsed, or its label is none.
        needs_output: without an output a prediction is excluded, whatever its label.
        settled: whether no label can change what a prediction is, so that it is judged without one.
    """

    rules: tuple[Rule, ...]
    found: Callable[[Labelled, Options], str | None]
    needs_output: bool = False
    settled_by: Callable[[Labelled, Options], bool] | None = None

    def keys_by(self, event: Event, options: Options) -> tuple[str, ...]:
        """The one key that says what it is."""
        labelled = event.labelled
        if labelled is None:
            return (NO_LABEL,)
        if self.needs_output and labelled.output is None:
            return (NO_OUTPUT,)
        key = self.found(labelled, options)
        return (key or (LAPSED if labelled.lapsed else NO_LABEL),)

    def judge(self, event: Event, options: Options) -> Judgement:
        """The outcome by the table."""
        (key,) = self.keys_by(event, options)
        return self.lines[key].judgement(options)

    def settled(self, labelled: Labelled, options: Options) -> bool:
        """Whether a prediction is judged without a label, and no label changes it."""
        if self.needs_output and labelled.output is None:
            return True
        return self.settled_by is not None and self.settled_by(labelled, options)

    @cached_property
    def lines(self) -> dict[str, Rule]:
        """The table by key."""
        return {line.key: line for line in self.rules}


def keys(event: Event) -> tuple[str, ...]:
    """Without the options, no more is known than whether a label came."""
    return (LAPSED if event.labelled is not None and event.labelled.lapsed else "labelled",)


def answered(options: Options) -> Judgement:
    """What someone calls good is."""
    return always(GOOD)


def nothing_to_check(options: Options) -> None:
    """For a member whose options are right together if each is."""
