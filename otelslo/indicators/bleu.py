"""BLEU of a whole UTC day, 0 to 100, of outputs against the texts of their labels: good if at `bar` or above.

It is sacrebleu's corpus BLEU (`pip install 'otelslo[text]'`) over the day's texts, from counts of n-grams that add up.
The score is sacrebleu's float and compared as it is, so that its last digits (1e-9) may decide at the bar. Parts of a
day: predictions with a text as output and as label. Not seen: how many texts a day rests on, and other references than
the one that the label is.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from otelslo.errors import BadValue, DefinitionError, NotHere, shown
from otelslo.event import Outcome
from otelslo.indicators import Option, Options
from otelslo.indicators import _daily as daily
from otelslo.indicators import _labels as labels
from otelslo.labelled import Labelled
from otelslo.quality.text import Bleu, BleuCounts

KIND, DATED, TICKETS_ONLY, DAILY, TEXTS = labels.KIND, True, True, True, True
LOSS_CLASS = "quality"
_ORDERS = (1, 2, 3, 4)


def _parse_bar(value: object) -> Fraction:
    bar = labels.parse_number(value)
    if not 1 <= bar <= 100:
        raise BadValue(f"a BLEU of {shown(value)}", "Write it on its scale of 0 to 100, such as 35")
    return bar


def _parse_tokenizer(value: object) -> str:
    if not isinstance(value, str) or value not in _TOKENIZERS:
        raise BadValue(f"{shown(value)} is no tokeniser", f"Write {', '.join(_TOKENIZERS)}")
    return value


_TOKENIZERS = ("13a", "none", "zh", "intl", "char", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200")
OPTIONS = daily.options(
    bar=Option(_parse_bar, required=True, example="35"),
    tokenize=Option(_parse_tokenizer, default="13a", example="13a"),
    case=Option(labels.one_of("as_written", "lower"), default="as_written", example="as_written"),
)
RULES = daily.RULES


def check(options: Options) -> None:
    """Raises BadValue: sacrebleu is not here, or not the tokeniser."""
    try:
        _bleu(options["tokenize"], options["case"])
    except DefinitionError as e:
        raise NotHere(e.problem, e.remedy) from e


@cache
def _bleu(tokenize: str, case: str) -> Bleu:
    return Bleu(tokenize, lowercase=case == "lower")


def tally(labelled: Labelled, options: Options) -> Mapping[str, int]:
    """Matched and all n-grams by their length, and how many tokens both texts have."""
    counts = _bleu(options["tokenize"], options["case"]).count(str(labelled.output), [str(labelled.truth)])
    found = {f"matched{n}": counts.matched[n - 1] for n in _ORDERS}
    found |= {f"ngrams{n}": counts.ngrams[n - 1] for n in _ORDERS}
    return found | {"output_tokens": counts.output_tokens, "reference_tokens": counts.reference_tokens}


def day(sums: Mapping[str, int], options: Options) -> tuple[Outcome, float | None]:
    """The day's outcome and score; None where its texts have no tokens."""
    bleu = _bleu(options["tokenize"], options["case"])
    matched, ngrams = (tuple(sums.get(f"{name}{n}", 0) for n in _ORDERS) for name in ("matched", "ngrams"))
    lengths = sums.get("output_tokens", 0), sums.get("reference_tokens", 0)
    score = bleu.score(BleuCounts(bleu.settings, matched, ngrams, *lengths))
    return daily.outcome(score, options["bar"]), score


_PARTS = daily.Parts(daily.no_text)
keys, keys_by, answered = labels.keys, _PARTS.keys_by, labels.answered
judge, settled = _PARTS.judge, daily.never_settled
