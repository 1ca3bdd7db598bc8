"""BLEU against sacrebleu's own over whole corpora, ROUGE against a naive twin and published values."""

from __future__ import annotations

import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from otelslo.errors import BadValue, DefinitionError
from otelslo.quality.text import ROUGES, Bleu, BleuCounts, MeanCounts, Rouge, rouge

# From sacrebleu's README: three outputs, and two references of each.
SYSTEM = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
# From rouge-score's README.
OUTPUT = "The quick brown dog jumps on the log"
REFERENCE = "The quick brown fox jumps over the lazy dog"
words = st.lists(st.sampled_from(["the", "a", "dog", "cat", "sat", "on", "mat"]), max_size=12)
sentences = st.lists(st.tuples(words.map(" ".join), words.map(" ".join)), min_size=1, max_size=8)
BLEU_13A = Bleu()


def summed(counts):
    total = BleuCounts(BLEU_13A.settings)
    for one in counts:
        total += one
    return total


def test_the_readmes_corpus():
    counts = [BLEU_13A.count(output, refs) for output, *refs in zip(SYSTEM, *REFERENCES, strict=True)]
    total = summed(counts)
    assert total.matched == (14, 7, 5, 3)
    assert total.ngrams == (17, 14, 11, 8)
    assert (total.output_tokens, total.reference_tokens) == (17, 18)
    assert BLEU_13A.score(total) == pytest.approx(48.530827009929865, abs=1e-12)
    assert BLEU_13A.score(total) == BLEU().corpus_score(SYSTEM, REFERENCES).score


@settings(max_examples=60, deadline=None)
@given(sentences, st.data())
def test_merged_counts_score_as_the_whole_corpus(corpus, data):
    """In any order and from any parts; and without some of them as if they had never been there."""
    counts = [BLEU_13A.count(output, [reference]) for output, reference in corpus]
    order = data.draw(st.permutations(range(len(corpus))))
    total = summed(counts[i] for i in order)
    assert total == summed(counts)
    outputs, references = (list(texts) for texts in zip(*corpus, strict=True))
    score = BLEU_13A.score(total)
    if score is None:
        assert not any(any(pair) for pair in corpus)
    else:
        assert score == BLEU().corpus_score(outputs, [references]).score
    dropped = data.draw(st.integers(0, len(corpus) - 1))
    rest = [one for i, one in enumerate(counts) if i != dropped]
    assert total - counts[dropped] == summed(rest)


def test_the_mean_of_sentences_is_another_number():
    counts = [BLEU_13A.count(output, refs) for output, *refs in zip(SYSTEM, *REFERENCES, strict=True)]
    assert sum(BLEU_13A.score(one) for one in counts) / 3 == pytest.approx(47.955, abs=1e-3)


def test_settings_are_never_mixed():
    lower = Bleu(lowercase=True)
    texts = "A dog sat on the mat", ["a dog sat on the mat"]
    one, other = BLEU_13A.count(*texts), lower.count(*texts)
    assert lower.score(other) != BLEU_13A.score(one)
    with pytest.raises(BadValue, match="of different things"):
        one + other
    with pytest.raises(BadValue, match="are not scored as"):
        lower.score(one)
    with pytest.raises(BadValue, match="more is taken back than was counted"):
        one - BLEU_13A.count("A dog sat on the mat again", ["a dog"])


def test_nothing_has_no_score():
    """An empty output against something is counted, and scores 0."""
    assert BLEU_13A.score(BleuCounts(BLEU_13A.settings)) is None
    assert BLEU_13A.score(BLEU_13A.count("", [""])) is None
    assert BLEU_13A.score(BLEU_13A.count("", ["a dog"])) == 0


@pytest.mark.parametrize(("output", "references"), [(1, ["a"]), ("a", [1]), ("a", "a"), ("a", []), (None, ["a"])])
def test_what_is_no_text_is_refused(output, references):
    with pytest.raises(BadValue, match=r"is no text|no list of references"):
        BLEU_13A.count(output, references)


def test_tokenisers_and_the_library_are_asked_for(monkeypatch):
    with pytest.raises(DefinitionError, match=r"BLEU: '13b' is no tokeniser. Did you mean '13a'"):
        Bleu("13b")
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(DefinitionError, match=r"pip install 'otelslo\[text\]'"):
        Bleu()


# ── ROUGE ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def naive_lcs(one, other):
    """The table, cell by cell."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def naive_rouge(name, one, other):
    if name == "rougeL":
        return Rouge(naive_lcs(one, other), len(one), len(other))
    n = int(name[-1])
    grams = [Counter(tuple(w[i : i + n]) for i in range(len(w) - n + 1)) for w in (one, other)]
    return Rouge(sum((grams[0] & grams[1]).values()), sum(grams[0].values()), sum(grams[1].values()))


@pytest.mark.parametrize(
    ("name", "precision", "recall", "f1"),
    [
        ("rouge1", 0.75, 0.6666666666666666, 0.7058823529411765),
        ("rouge2", 0.2857142857142857, 0.25, 0.26666666666666666),
        ("rougeL", 0.625, 0.5555555555555556, 0.5882352941176471),
    ],
)
def test_the_readmes_sentence(name, precision, recall, f1):
    found = rouge(name, OUTPUT, REFERENCE)
    assert [float(x) for x in (found.precision, found.recall, found.f1)] == pytest.approx([precision, recall, f1])


@given(st.sampled_from(ROUGES), words, words)
def test_rouge_is_its_naive_twin(name, one, other):
    found = rouge(name, " ".join(one), ", ".join(other))
    assert found == naive_rouge(name, one, other)
    both = found.in_output + found.in_reference
    assert found.f1 == (Fraction(2 * found.matched, both) if both else None)
    if found.precision and found.recall:
        assert found.f1 == 2 * found.precision * found.recall / (found.precision + found.recall)


def test_long_texts_are_one_integer_a_row():
    """Against the twin where words repeat and where they do not, beyond 64 and 128 of them."""
    one, other = [str(i % 7) for i in range(200)], [str(i % 11) for i in range(150)]
    assert rouge("rougeL", " ".join(one), " ".join(other)).matched == naive_lcs(one, other)
    assert rouge("rougeL", " ".join(map(str, range(300))), " ".join(map(str, range(300)))).f1 == 1


def test_words_of_every_script_in_any_case():
    assert rouge("rouge1", "GROẞE Straße, 2-mal", "grosse strasse 2 mal").f1 == 1
    assert rouge("rouge1", "日本 語", "日本 語").f1 == 1
    assert rouge("rouge1", "snake_case", "snake case").f1 == 1
    assert rouge("rouge1", "!?", "...").f1 is None
    assert rouge("rouge2", "word", "word").f1 is None
    assert rouge("rougeL", "", "word").f1 == 0


def test_what_is_no_rouge_is_refused():
    with pytest.raises(BadValue, match=r"'rouge3' is no ROUGE"):
        rouge("rouge3", "a", "a")
    with pytest.raises(BadValue, match="7 is no text"):
        rouge("rougeL", 7, "a")
    with pytest.raises(BadValue, match="None is no text"):
        rouge("rougeL", "a", None)


@given(st.lists(st.fractions(0, 1), max_size=20), st.data())
def test_a_mean_adds_up_in_any_order_and_is_taken_back(values, data):
    parts = [MeanCounts.of(value) for value in values]
    order = data.draw(st.permutations(parts))
    assert sum(order, MeanCounts()) == sum(parts, MeanCounts())
    total = sum(parts, MeanCounts())
    if not values:
        assert total.mean is None
        return
    assert abs(total.mean - sum(values) / len(values)) <= Fraction(1, 2 * 10**12)
    left = total - parts[0]
    assert left == sum(parts[1:], MeanCounts())
    with pytest.raises(BadValue, match="more is taken back"):
        MeanCounts() - parts[0]
