"""OpenSLO v1, in and out: the same objectives as documents that other tools read too.

In: an SLO's `indicator` measures here if its metric sources are of our type,

    ratioMetric:                                     # good and total (or bad and total, or raw) say the same
      good: {metricSource: {type: otelslo, spec: {indicator: availability, match: {route: "/checkout/*"}}}}
      total: {metricSource: {type: otelslo, spec: {indicator: availability, match: {route: "/checkout/*"}}}}
    thresholdMetric:                                 # the objective's op (lte, lt) and value are the threshold
      metricSource: {type: otelslo, spec: {indicator: latency, unit: ms}}

where `spec` takes the keys of slo.yaml that say what is good and valid (indicator, match, group_by, rules, ...; a
threshold too, in a ratioMetric). SLOs of other sources are understood, and left out with a notice. Each of several
objectives becomes an SLO `name-displayName`; one of two that is called SLA becomes the other's `sla`. `service` and the
labels become labels, AlertPolicies the tiers of `alerts` (then there are no default ones), notification targets with
the annotation `otelslo.io/channel` the channels of `notify`. Whatever OpenSLO has no word for is an annotation of the
SLO, `otelslo.io/<key of slo.yaml>`; one that contradicts the document is an error.

What cannot be done as it is written is an error if the SLO would be measured here, and a notice if it is left out
anyway; both name line and column. Out: documents that OpenSLO's own SDK accepts, and that read back as the same SLOs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otelslo.document import Document, compose_all
from otelslo.errors import Key
from otelslo.openslo.annotations import written
from otelslo.openslo.draft import Draft
from otelslo.openslo.objects import Finding, catalogue, recognises
from otelslo.openslo.policies import CHANNEL_EXAMPLE
from otelslo.openslo.reading import Reading
from otelslo.openslo.writing import write
from otelslo.slo import SLO

__all__ = ["CHANNEL_EXAMPLE", "Finding", "Imported", "imported", "read", "recognises", "write"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What documents say: SLOs to measure, notices of what is not done as written, channels as slo.yaml has them.

    `left_out` are those of the notices for which an SLO is not measured. `places` has "file:line:column" of each
    channel that is set up or told, by its name; `locate` gives that of a key of an SLO, by the SLO's name and the key's
    way inside of it.
    """

    slos: tuple[SLO, ...]
    notices: tuple[Finding, ...] = ()
    left_out: tuple[Finding, ...] = ()
    channels: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    locate: Callable[[str, tuple[Key, ...]], str] | None = field(default=None, repr=False, compare=False)


def read(text: str, source: str) -> Imported:
    """The documents of a text, which `source` names in errors. Raises DefinitionError where one is wrong."""
    return imported(compose_all(source, text))


def imported(documents: Sequence[Document]) -> Imported:
    """The documents of one file. Raises DefinitionError."""
    reading = Reading(catalogue(documents))
    all_drafts = reading.drafts()
    left_out = tuple(draft.foreign for draft in all_drafts if draft.foreign is not None)
    drafts = [draft for draft in all_drafts if draft.measured]
    slos = tuple(draft.slo() for draft in drafts)
    _refuse_twins(drafts)
    channels = {name: written(part) for name, part in reading.channels.items()}
    places = {name: part.place for draft in drafts for name, part in draft.notified()}
    places |= {name: part.place for name, part in reading.channels.items()}
    by_name = {str(draft.data["name"]): draft for draft in drafts}
    return Imported(slos, reading.notices, left_out, channels, places, lambda name, path: by_name[name].place(path))


def _refuse_twins(drafts: Sequence[Draft]) -> None:
    seen: dict[str, str] = {}
    for draft in drafts:
        name = str(draft.data["name"])
        if name.casefold() in seen:
            problem = f"two SLOs are named {name!r} and {seen[name.casefold()]!r}"
            raise draft.name.error(problem, "Give each a name of its own")
        seen[name.casefold()] = name
