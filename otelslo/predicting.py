"""What an objective about predictions is asked beside its judgement: which wait for a label, and what a day is worth.

The part of `SLO` that whoever joins labels and closes days needs; other objectives answer no or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import cast

from otelslo.alerts import AlertPlan
from otelslo.errors import Place
from otelslo.event import GOOD, Event, Outcome
from otelslo.indicators import DailyIndicator, LabelIndicator
from otelslo.labelled import Labelled
from otelslo.period import Period
from otelslo.verdicts import Judging


class Predicting(Judging):
    """Methods of an `SLO`, by what it has resolved."""

    period: Period

    @property
    def daily(self) -> bool:
        """Whether it counts one unit for each UTC day, from the `tally` of that day's predictions."""
        return getattr(self._indicator, "DAILY", False)

    @property
    def needs_texts(self) -> bool:
        """Whether outputs are kept that are longer than a class: its indicator's, or the app's own code reads them."""
        return self._asks_code or self._validity.dynamic or getattr(self._indicator, "TEXTS", False)

    def settled(self, labelled: Labelled) -> bool:
        """Whether this prediction is judged without a label, and none can change what it is."""
        return not self._asks_code and cast("LabelIndicator", self._indicator).settled(labelled, self._options)

    def tally(self, event: Event) -> Mapping[str, int]:
        """What a labelled prediction adds to the sums of its day, of a daily objective; nothing if it is no part of it.

        What user code raises goes to the caller.
        """
        judgement = self.judge(event)
        if judgement is None or judgement.within.kind != "good" or event.labelled is None:
            return {}
        return cast("DailyIndicator", self._indicator).tally(event.labelled, self._options)

    def day(self, sums: Mapping[str, int]) -> tuple[Outcome, Fraction | float | None]:
        """What a UTC day with these sums is, by the operator's rules too, and its value, None where it has none."""
        outcome, value = cast("DailyIndicator", self._indicator).day(sums, self._options)
        changed = self._rules.replaced.get("met" if outcome == GOOD else outcome.reason)
        return outcome if changed is None else changed.within, value

    def _check_audit(self, place: Place, *, sliced: bool) -> None:
        """An audit is of the judge's verdicts, and corrects no counts of anything else. Raises DefinitionError."""
        if self.option("audit") is None:
            return
        for key, counts in (("rules", self._rules.replaced), ("good", self._good), ("budgeting", sliced)):
            if counts:
                problem = "it counts something else than the judge's verdicts, which alone the audit is of"
                raise place.at(key).error(problem, "Leave it out, or the audit", at_key=True)

    @property
    def labels_ns(self) -> int | None:
        """How long after a prediction its label may come, for alerts; where nothing says so, a quarter of the window.
        None where no label is waited for."""
        if "label_within" not in self._indicator.OPTIONS or self.option("of") == "score":
            return None
        within_ns: int | None = self.option("label_within")
        return self.period.nominal_ns // 4 if within_ns is None else within_ns

    def _as_labels_come(self, plan: AlertPlan, given: object) -> AlertPlan:
        """Without the alert on excluded events, unless it is asked for, where they are known long before the others:
        of the last hour they are all that there is."""
        asked = isinstance(given, Mapping) and given.get("exclusion_share") is not None
        early = getattr(self._indicator, "SETTLES_EXCLUDED", False)
        return replace(plan, exclusion_share=None) if early and not asked else plan

    @property
    def _of_predictions(self) -> bool:
        return self._indicator.KIND == "prediction"
