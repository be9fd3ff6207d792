"""Shares of repeated n-grams."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.critics.rules.ngrams import NGrams


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=40), st.integers(2, 5))
def test_ngrams_agree_with_brute_force(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    total = sum(map(len, words)) + len(words)
    covered = {k for i, g in enumerate(grams) if g in grams[:i] for k in range(i, i + n)}
    counted = NGrams(words, set(words))
    assert counted.copied_share(n) == pytest.approx(sum(len(words[k]) + 1 for k in covered) / total)
    times = Counter(grams).most_common()
    shares = {
        min(1, count * (len("".join(gram)) + n) / total)
        for gram, count in times
        if count == times[0][1] and count > 2
    }
    assert any(counted.top_share(n) == pytest.approx(share) for share in shares or {0.0})
