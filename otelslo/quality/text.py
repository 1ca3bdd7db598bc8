"""How near a text is to what it should have been: BLEU from counts that add up, and ROUGE as exact fractions.

BLEU is a value of a corpus: its counts are summed over sentences, workers and days and then scored, since the mean of
sentence scores is another number. Tokens, counts and score are those of the library sacrebleu
(`pip install otelslo[text]`), which is loaded when first needed. ROUGE is a value of a sentence: its sum and how many
there were add up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from otelslo.errors import BadValue, DefinitionError, nearest, shown

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ROUGES = ("rouge1", "rouge2", "rougeL")
UNITS_PER_ONE = 10**12

_WORD = re.compile(r"[^\W_]+")
_ORDER = 4


@dataclass(frozen=True, slots=True)
class BleuCounts:
    """Matched and all n-grams by their length 1 to 4, and the lengths of outputs and references, in tokens.

    `settings` say how they were counted: counts of different settings are never added.
    """

    settings: str
    matched: tuple[int, ...] = (0,) * _ORDER
    ngrams: tuple[int, ...] = (0,) * _ORDER
    output_tokens: int = 0
    reference_tokens: int = 0

    def __add__(self, other: BleuCounts) -> BleuCounts:
        return self._with(other, 1)

    def __sub__(self, other: BleuCounts) -> BleuCounts:
        """Without what `other` counted. BadValue if that was never counted here."""
        rest = self._with(other, -1)
        if min(*rest.matched, *rest.ngrams, rest.output_tokens, rest.reference_tokens) < 0:
            raise BadValue("more is taken back than was counted")
        return rest

    def _with(self, other: BleuCounts, sign: int) -> BleuCounts:
        if self.settings != other.settings:
            raise BadValue(f"counts of {self.settings} and of {other.settings} are of different things")
        return BleuCounts(
            self.settings,
            tuple(a + sign * b for a, b in zip(self.matched, other.matched, strict=True)),
            tuple(a + sign * b for a, b in zip(self.ngrams, other.ngrams, strict=True)),
            self.output_tokens + sign * other.output_tokens,
            self.reference_tokens + sign * other.reference_tokens,
        )


class Bleu:
    """Counts sentences and scores sums of them, as sacrebleu's corpus BLEU with these settings does."""

    def __init__(self, tokenize: str = "13a", *, lowercase: bool = False) -> None:
        """DefinitionError if sacrebleu is not there, or does not know the tokeniser."""
        try:
            from sacrebleu.metrics.bleu import BLEU
        except ImportError as e:
            raise DefinitionError(
                "BLEU", f"sacrebleu cannot be loaded ({e})", "Run: pip install 'otelslo[text]'"
            ) from e
        if tokenize not in BLEU.TOKENIZERS:
            raise DefinitionError("BLEU", f"{shown(tokenize)} is no tokeniser", nearest(str(tokenize), BLEU.TOKENIZERS))
        try:
            self._bleu: BLEU = BLEU(tokenize=tokenize, lowercase=lowercase)
        except (ImportError, RuntimeError) as e:
            raise DefinitionError("BLEU", f"the tokeniser {tokenize} cannot be loaded ({e})", "Choose another") from e
        self.settings = f"{tokenize}, {'lower case' if lowercase else 'case as written'}"

    def count(self, output: str, references: Sequence[str]) -> BleuCounts:
        """What one output adds to the corpus. BadValue for what is no text, or no reference."""
        if isinstance(references, str) or not references:
            raise BadValue("no list of references", "Give one reference at least, in a list")
        for text in (output, *references):
            if not isinstance(text, str):
                raise BadValue(f"{shown(text)} is no text", "Give texts")
        found = self._bleu.corpus_score([output], [[reference] for reference in references])
        return BleuCounts(self.settings, tuple(found.counts), tuple(found.totals), found.sys_len, found.ref_len)

    def score(self, counts: BleuCounts) -> float | None:
        """Corpus BLEU, 0 to 100; None of nothing. BadValue for counts of other settings."""
        if counts.settings != self.settings:
            raise BadValue(f"counts of {counts.settings} are not scored as {self.settings}")
        if not counts.output_tokens and not counts.reference_tokens:
            return None
        found = self._bleu.compute_bleu(
            list(counts.matched),
            list(counts.ngrams),
            counts.output_tokens,
            counts.reference_tokens,
            smooth_method=self._bleu.smooth_method,
            smooth_value=self._bleu.smooth_value,
        )
        return float(found.score)


@dataclass(frozen=True, slots=True)
class Rouge:
    """What an output shares with a reference: matched, and all of each, in n-grams or words."""

    matched: int
    in_output: int
    in_reference: int

    @property
    def precision(self) -> Fraction | None:
        """The matched share of the output; None if it has none to match."""
        return Fraction(self.matched, self.in_output) if self.in_output else None

    @property
    def recall(self) -> Fraction | None:
        """The matched share of the reference; None if it has none to match."""
        return Fraction(self.matched, self.in_reference) if self.in_reference else None

    @property
    def f1(self) -> Fraction | None:
        """The harmonic mean of both: 0 if nothing matches; None if neither has anything to match."""
        both = self.in_output + self.in_reference
        return Fraction(2 * self.matched, both) if both else None


def rouge(name: str, output: str, reference: str) -> Rouge:
    """ROUGE-1, -2 or -L of one output; words are runs of letters and digits of any script, case folded, not stemmed.

    For ASCII texts this is the package rouge-score's. BadValue for another name, or for what is no text.
    """
    if name not in ROUGES:
        raise BadValue(f"{shown(name)} is no ROUGE", nearest(str(name), ROUGES))
    if not isinstance(output, str) or not isinstance(reference, str):
        raise BadValue(f"{shown(reference if isinstance(output, str) else output)} is no text", "Give texts")
    ours, theirs = (_WORD.findall(text.casefold()) for text in (output, reference))
    if name == "rougeL":
        return Rouge(_common_subsequence(ours, theirs), len(ours), len(theirs))
    order = int(name.removeprefix("rouge"))
    one, other = (Counter(zip(*(words[k:] for k in range(order)), strict=False)) for words in (ours, theirs))
    return Rouge((one & other).total(), one.total(), other.total())


@dataclass(frozen=True, slots=True)
class MeanCounts:
    """A mean that adds up: how many, and their sum in units of 10**-12, to which each value is rounded once.

    So the sum depends on no order, and what is taken back leaves nothing behind; the mean is right to 10**-12.
    """

    sum_units: int = 0
    n: int = 0

    @classmethod
    def of(cls, value: Fraction) -> MeanCounts:
        """One value."""
        return cls(round(value * UNITS_PER_ONE), 1)

    def __add__(self, other: MeanCounts) -> MeanCounts:
        return MeanCounts(self.sum_units + other.sum_units, self.n + other.n)

    def __sub__(self, other: MeanCounts) -> MeanCounts:
        """Without what `other` counted. BadValue if that is more than there is."""
        if other.n > self.n or (other.n == self.n and other.sum_units != self.sum_units):
            raise BadValue("more is taken back than was counted")
        return MeanCounts(self.sum_units - other.sum_units, self.n - other.n)

    @property
    def mean(self) -> Fraction | None:
        """The mean; None of nothing."""
        return Fraction(self.sum_units, self.n * UNITS_PER_ONE) if self.n else None


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at a time as the bits of one integer."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every  # a zero bit is a step up in the row of lengths
    for word in other:
        both = row & places.get(word, 0)
        row = (row + both | row - both) & every
    return len(one) - row.bit_count()
