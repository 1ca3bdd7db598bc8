"""What an objective makes of one event, and what its indicator needs for that: how an `SLO` judges.

The first to speak wins: the app's verdict, exclusions and health checks, `valid`, changed rules, `good`, the indicator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from otelslo.errors import BadValue, shown
from otelslo.event import OUTCOME_KINDS, Event, Judgement, Outcome, always
from otelslo.indicators import AgingIndicator, Indicator, StreamIndicator
from otelslo.match import UserCode
from otelslo.models import Facts
from otelslo.rules import Rules
from otelslo.validity import HEALTH_CHECK, INVALID, Validity

NOT_GOOD = "not_good"
MAINTENANCE = "maintenance"
MAINTAINED = always(Outcome("excluded", MAINTENANCE))


class Judging:
    """The part of an objective that looks at events; an `SLO` fills in what it goes by."""

    _indicator: Indicator
    _options: Mapping[str, Any]
    _where: UserCode | None
    _good: UserCode | None
    _valid: UserCode | None
    _validity: Validity
    _rules: Rules

    def judge(self, event: Event) -> Judgement | None:
        """What this event is, but for its latency; None if `where` says that it is not this objective's.

        `matches` is asked before. The first to speak wins: the app's verdict, exclusions and health checks, `valid`,
        changed rules, `good`, the indicator. What user code raises goes to the caller.
        """
        if self._where is not None and not self._where(event):
            return None
        if event.verdict is not None:
            return self._by_verdict(*event.verdict, event)
        reason = self._validity.reason(event)
        if reason is not None:
            return always(Outcome("excluded", reason))
        if self._valid is not None and not self._valid(event):
            return always(Outcome("excluded", INVALID))
        override = self._rules.override(event)
        if override is not None:
            return override
        if self._good is not None:
            return self._by_good(self._good(event), event)
        return self._indicator.judge(event, self._options)

    def in_maintenance(self, event: Event) -> Judgement | None:
        """As `judge`, for an event that ends within planned maintenance, where nobody else is asked but `where`."""
        return MAINTAINED if self._where is None or self._where(event) else None

    def by_indicator(self, event: Event) -> Judgement:
        """What this event is without user code, for when that has failed; never raises.

        The app's verdict (if it is one), health checks, changed rules, the indicator.
        """
        if event.verdict is not None and event.verdict[0] in OUTCOME_KINDS:
            return self._by_verdict(*event.verdict, event)
        if event.route is not None and event.route in self._validity.health_checks:
            return always(Outcome("excluded", HEALTH_CHECK))
        return self._rules.override(event) or self._indicator.judge(event, self._options)

    def _by_verdict(self, kind: str, reason: str, event: Event) -> Judgement:
        for known in OUTCOME_KINDS:
            if kind == known:
                return self._answered(event) if known == "good" else always(Outcome(known, reason))
        raise BadValue(f"{shown(kind)} is no outcome", "Use good, bad or excluded")

    def _answered(self, event: Event) -> Judgement:
        """What an event that someone calls good is worth: its latency, its pace or its version's age decides last."""
        by_event = getattr(self._indicator, "answered_by", None)
        return self._indicator.answered(self._options) if by_event is None else by_event(event, self._options)

    def _by_good(self, word: object, event: Event) -> Judgement:
        if isinstance(word, str):
            return always(Outcome("bad", word or NOT_GOOD))
        if word is not None and word:
            return self._answered(event)
        own = self._indicator.judge(event, self._options)
        if word is None or own.within.kind == "bad":
            return own
        return always(Outcome("bad", NOT_GOOD))

    # ── what it needs for that ────────────────────────────────────────────────────────────────────────────────────────
    @property
    def measures(self) -> str | None:
        """For people: what is measured for it, where its events are its own."""
        told = getattr(self._indicator, "measures", None)
        return None if told is None else str(told(self._options))

    def option(self, key: str) -> Any:
        """An option of the indicator as it is in force, a duration in ns; None if it has no such option."""
        return self._options.get(key)

    @property
    def dynamic(self) -> bool:
        """Whether a judgement needs the event itself, beyond its `facts`: user code or a header decides."""
        return self._validity.dynamic or self._asks_code

    @property
    def streamed(self) -> bool:
        """Whether a judgement may need the pace of a stream: the indicator's, or user code's."""
        return self._streams is not None or self._asks_code

    @property
    def per_item(self) -> bool:
        """Whether a call that answers a batch is as many events as it has items, each with its share of the time."""
        return bool(self.option("per") == "item")

    @property
    def dated(self) -> bool:
        """Whether its events have a time of their own, and are counted in the history alone."""
        return getattr(self._indicator, "DATED", False)

    @property
    def ages(self) -> bool:
        """Whether a judgement changes with time, by what is known of model versions."""
        return getattr(self._indicator, "AGES", False)

    def turning_points(self, facts: Facts) -> Iterable[int]:
        """The moments (Unix ns) from which on events may be judged otherwise than before; none if it does not age."""
        return cast("AgingIndicator", self._indicator).turning_points(facts, self._options) if self.ages else ()

    @property
    def _streams(self) -> StreamIndicator | None:
        """The indicator, if it judges the pace of streams."""
        return cast("StreamIndicator", self._indicator) if getattr(self._indicator, "STREAMED", False) else None

    @property
    def _asks_code(self) -> bool:
        return any(code is not None for code in (self._where, self._good, self._valid))
