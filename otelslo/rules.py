"""The indicator's table as one objective has it: its lines, some replaced by the operator's `rules`.

The most special key wins, as in the table itself: changing "4xx" leaves the line for 401 as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from otelslo.errors import Place, nearest, shown
from otelslo.event import FAILURES, GOOD, OUTCOME_KINDS, Event, Judgement, Outcome, always
from otelslo.indicators import CASCADE, Indicator, Options, Rule
from otelslo.validity import HEALTH_CHECK, REASON, parse_reason
from otelslo.window import format_duration

CRASHED = Outcome("bad", "crashed")
_STATUS = re.compile(r"[1-5][0-9][0-9]|[1-4][0-9]{3}|[1-5]xx")
_FAILURES = (*FAILURES, CASCADE)
_FIXED = {
    "crashed": "What was in flight when its worker was killed is bad; this cannot be changed",
    HEALTH_CHECK: "Change health_checks instead",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The lines in force: `replaced` holds the operator's, `own` the keys of the indicator's."""

    indicator: Indicator
    options: Options
    replaced: Mapping[str, Judgement]
    own: frozenset[str]

    def override(self, event: Event) -> Judgement | None:
        """The operator's word on this event; None if the line that applies is the indicator's own."""
        if not self.replaced:
            return None
        by_options = getattr(self.indicator, "keys_by", None)
        for key in self.indicator.keys(event) if by_options is None else by_options(event, self.options):
            if key in self.replaced:
                return self.replaced[key]
            if key in self.own:
                return None
        return None

    def lines(self) -> Iterator[tuple[str, str, Judgement, bool]]:
        """(key, what happened, judgement, whether the operator set it), in the table's order, new keys first."""
        for key, judgement in self.replaced.items():
            if key not in self.own:
                happened = "an exception of that kind" if key in _FAILURES else f"answered with {key}"
                yield key, happened, judgement, True
        for line in self.indicator.RULES:
            mine = self.replaced.get(line.key)
            yield line.key, line.happened, mine or line.judgement(self.options), mine is not None

    def reasons(self, kind: str, *, by_operator: bool) -> list[str]:
        """Reasons of that outcome that the operator's lines, or the others, give; each once, in the table's order."""
        outcomes = [
            outcome
            for _, _, judgement, operators in self.lines()
            if operators is by_operator
            for outcome in (judgement.within, judgement.beyond)
        ]
        return list(dict.fromkeys(outcome.reason for outcome in outcomes if outcome.kind == kind))

    def renamed(self) -> list[tuple[str, str]]:
        """(key, reason) of the operator's lines that are bad."""
        lines = ((key, one) for key, _, one, by_operator in self.lines() if by_operator)
        return [(key, outcome.reason) for key, one in lines for outcome in one[1:] if outcome.kind == "bad"]

    def rows(self) -> list[tuple[str, str, str]]:
        """(what happened, outcome, reason) for people; a line that the latency decides makes two."""
        rows: list[tuple[str, str, str]] = []
        each = " an item" if self.options.get("per") == "item" and self.options.get("threshold") else ""
        for key, happened, (threshold_ns, within, beyond), _ in self.lines():
            text = f"{key}: {happened}"
            if threshold_ns is None:
                rows.append((text, *within))
            else:
                limit = format_duration(threshold_ns) + each
                rows += [(f"{text}, within {limit}", *within), (f"{text}, after {limit}", *beyond)]
        return rows


def parse_rules(value: object, indicator: Indicator, options: Options, place: Place) -> Rules:
    """`rules: {"401": bad, "4xx": good, shed: "excluded:overload"}`. Raises DefinitionError."""
    own = {line.key: line for line in indicator.RULES}
    if value is None:
        return Rules(indicator, options, {}, frozenset(own))
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no mapping", 'Write {"404": bad}')
    replaced: dict[str, Judgement] = {}
    for raw, word in value.items():
        key = str(raw)
        if key in _FIXED:
            raise place.at(key).error(f"{shown(key)} is no rule", _FIXED[key], at_key=True)
        if key not in own and key not in _FAILURES and not _STATUS.fullmatch(key):
            remedy = f"A status such as 404 is a rule too. {nearest(key, [*own, *_FAILURES])}"
            raise place.at(key).error(f"unknown rule {shown(key)}", remedy, at_key=True)
        outcome = _outcome(key, word, own, place.at(key))
        replaced[key] = indicator.answered(options) if outcome.kind == "good" else always(outcome)
    return Rules(indicator, options, replaced, frozenset(own))


def _outcome(key: str, word: object, own: Mapping[str, Rule], place: Place) -> Outcome:
    """ "bad" keeps the line's own bad reason where it has one, else the key is the reason; "bad:name" names it."""
    text = place.expect(word, str, "good, bad or excluded")
    kind, colon, reason = text.partition(":")
    for known in OUTCOME_KINDS:
        if kind != known or (known == "good" and colon):
            continue
        if known == "good":
            return GOOD
        if colon:
            return Outcome(known, parse_reason(reason, place))
        line = own.get(key)
        same = [outcome for outcome in (line.within, line.beyond) if outcome.kind == known] if line else []
        return same[0] if same else Outcome(known, key if REASON.fullmatch(key) else "other")
    raise place.error(f"{shown(text)} is no outcome", "Write good, bad, excluded, or with a reason: bad:not_found")
