"""What an SLI measures: our own indicators under `metricSource: {type: otelslo}`, or something out of process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from otelslo.errors import shown
from otelslo.openslo.objects import Catalogue, Finding, Object, Part
from otelslo.openslo.spelling import SOURCE_TYPE, duration_text
from otelslo.window import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS

Note = Callable[[Part, str, str], None]
OPERATORS = ("lte", "gte", "lt", "gt")
UNITS_NS = {"s": SECOND_NS, "ms": MILLISECOND_NS, "us": MICROSECOND_NS, "ns": 1}
_SPEC = "{indicator: availability}"
_SLICED = ("slice_count", "empty_slices", "unattended")
_ELSEWHERE = {
    "name": "metadata.name",
    "description": "spec.description",
    "labels": "metadata.labels",
    "target": "objectives[].target",
    "objective": "objectives[]",
    "window": "timeWindow",
    "calendar": "timeWindow",
    "timezone": "timeWindow",
    "budgeting": "budgetingMethod",
    "slice": "objectives[].timeSliceWindow",
    "slice_target": "objectives[].timeSliceTarget",
    "alerts": "alertPolicies",
    "notify": "alertPolicies[].spec.notificationTargets",
} | {
    key: f"metadata.annotations, as otelslo.io/{key}"
    for key in (*_SLICED, "sla", "owner", "because", "runbook_url", "policy", "maintenance")
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`keys` are an SLO's keys by name, if `measured`; `by_threshold` if an objective's op and value decide; `foreign`
    is what is said of one that is not measured here."""

    by_threshold: bool
    foreign: Finding | None = None
    keys: dict[str, Part] = field(default_factory=dict)
    unit: str = "ms"

    @property
    def measured(self) -> bool:
        return self.foreign is None


def read_metric(sli: Object, catalogue: Catalogue, note: Note) -> Metric:
    """The metric of an SLI; a foreign one is noted. Raises DefinitionError."""
    threshold, ratio = sli.spec.get("thresholdMetric"), sli.spec.get("ratioMetric")
    if threshold is not None and ratio is not None:
        raise ratio.error("it has both thresholdMetric and ratioMetric", "Keep one", at_key=True)
    if threshold is not None:
        sources = [_source(threshold)]
    elif ratio is not None:
        sources = _ratio_sources(ratio)
    else:
        raise sli.spec.error("it has neither thresholdMetric nor ratioMetric", "Add one")
    types = [_type_of(source, catalogue) for source in sources]
    foreign = [(source, kind) for source, kind in zip(sources, types, strict=True) if kind != SOURCE_TYPE]
    if foreign and len(foreign) < len(sources):
        raise foreign[0][0].error("its parts are measured by different systems", f"Write type: {SOURCE_TYPE} in both")
    if not foreign:
        return _ours(sources, threshold is not None)
    source, kind = foreign[0]
    spot = source.get("type") or source.get("metricSourceRef") or source
    said = f"metrics of type {shown(kind)}" if kind else "metrics of an unknown type"
    problem = f"{said} are not read, otelslo measures in the process itself; its SLO is left out"
    remedy = f"To measure it here, write type: {SOURCE_TYPE} and spec: {_SPEC}"
    note(spot, problem, remedy)
    return Metric(threshold is not None, spot.finding(problem, remedy))


def _ratio_sources(ratio: Part) -> list[Part]:
    ratio.only("counter", "good", "bad", "total", "rawType", "raw")
    counter, raw, raw_type = ratio.get("counter"), ratio.get("raw"), ratio.get("rawType")
    if counter is not None:
        counter.flag()
    counts = {key: part for key in ("good", "bad", "total") if (part := ratio.get(key)) is not None}
    if raw is not None:
        if counts:
            raise raw.error(f"raw cannot stand beside {next(iter(counts))}", "Keep one of them", at_key=True)
        ratio.need("rawType", "success").one_of(("success", "failure"))
        return [_source(raw)]
    if raw_type is not None:
        raise raw_type.error("rawType has a meaning only with raw", "Leave it out", at_key=True)
    if "total" not in counts or len(counts) != 2:
        problem = f"it has {' and '.join(counts) or 'no counts'}"
        raise ratio.error(problem, "Write good and total, or bad and total, or raw with rawType")
    return [_source(part) for part in counts.values()]


def _source(metric: Part) -> Part:
    source = metric.only("metricSource").need("metricSource", f"{{type: {SOURCE_TYPE}, spec: {_SPEC}}}")
    return source.only("metricSourceRef", "type", "spec")


def _type_of(source: Part, catalogue: Catalogue) -> str:
    """As written, or as its DataSource says; "" if that is in another file."""
    reference, kind = source.get("metricSourceRef"), source.get("type")
    found = catalogue.find("DataSource", reference.text()) if reference is not None else None
    if kind is not None:
        return kind.text()
    if reference is None:
        raise source.error("it has neither type nor metricSourceRef", f"Add type: {SOURCE_TYPE}")
    return found.spec.need("type", "Prometheus").text() if found is not None else ""


def _ours(sources: list[Part], by_threshold: bool) -> Metric:
    keys: dict[str, Part] = {}
    for source in sources:
        spec = source.need("spec", _SPEC)
        for key, part in spec.parts():
            if key in _ELSEWHERE:
                raise part.error(f"{key} is no part of a metric", f"Write it in {_ELSEWHERE[key]}", at_key=True)
            if key in keys and keys[key].value != part.value:
                raise part.error(f"the two metrics differ in {key}", "Write the same in both, or leave one out")
            keys.setdefault(key, part)
    unit = keys.pop("unit", None)
    if unit is not None and not by_threshold:
        raise unit.error("there is no value that it is the unit of", "Use it in a thresholdMetric", at_key=True)
    if by_threshold and "threshold" in keys:
        problem = "in a thresholdMetric the objective's op and value are the threshold"
        raise keys["threshold"].error(problem, "Leave it out", at_key=True)
    return Metric(by_threshold, None, keys, "ms" if unit is None else unit.one_of(tuple(UNITS_NS)))


def read_threshold(metric: Metric, objective: Part, note: Note) -> tuple[str, Part] | None:
    """The threshold that `op` and `value` make, as an SLO takes it, and where; None where there is none.

    `lt` is one nanosecond less than `lte`.
    """
    op, value = objective.get("op"), objective.get("value")
    if not metric.by_threshold:
        for part in (op, value):
            if part is not None:
                note(part, "only a thresholdMetric is compared with a value; it is ignored", "Leave it out")
        return None
    word = objective.need("op", "lte").one_of(OPERATORS)
    value = objective.need("value", "200")
    amount = value.number()
    if not metric.measured:
        return None
    if op is not None and word in ("gt", "gte"):
        raise op.error(f"{word} would make slow requests the good ones", "Write op: lte")
    limit_ns = amount * UNITS_NS[metric.unit]
    if limit_ns.denominator != 1 or limit_ns < 1:
        problem = f"{value.value} {metric.unit} is no whole number of nanoseconds above zero"
        raise value.error(problem, f"Write a latency; its unit is {metric.unit} by the metric's spec.unit")
    return duration_text(int(limit_ns) - (word == "lt")), value


def read_ratio(objective: Part) -> tuple[Fraction, Part]:
    """The target of an objective and where it stands. Raises DefinitionError."""
    target, percent = objective.get("target"), objective.get("targetPercent")
    if target is not None and percent is not None:
        raise percent.error("it has both target and targetPercent", "Keep one", at_key=True)
    part = target or percent
    if part is None:
        raise objective.error("it has neither target nor targetPercent", "Add target: 0.999")
    whole = 1 if target is not None else 100
    if not 0 <= part.number() < whole:
        hint = f"Did you mean targetPercent: {part.value}?" if target is not None and 1 < part.number() < 100 else ""
        raise part.error(f"{part.value} is out of range", hint or f"Write a number from 0 to below {whole}")
    return part.number() / whole, part
