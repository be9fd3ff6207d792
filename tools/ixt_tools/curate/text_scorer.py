"""A small scorer of texts: hashed words and pairs of words, and a linear model.

The weights are one byte each, so a scorer is about 30 KB of JSON and fits into a critic's config.
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ixt_data.errors import CriticError, MissingExtra

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHARACTERS = 8192
BUCKETS = 1 << 15
FEATURES: dict[str, Any] = {
    "tokens": r"\w+|[^\w\s]|\n",
    "ngrams": [1, 2],
    "buckets": BUCKETS,
    "characters": CHARACTERS,
}
"""How a text becomes a vector: tokens (words, marks, line ends), n-grams, buckets of the hash, and
the number of characters that are read."""
ALPHAS = (0.1, 0.3, 1.0, 3.0)
"""Strengths of the penalty that a fit chooses from."""
_LEVELS = 127


@dataclass(frozen=True)
class TextScorer:
    """A linear model over hashed n-grams.

    Attributes:
        weights: one per bucket, as whole numbers from -127 to 127.
        scale: value of one weight step.
        intercept: score of a text without tokens.
        alpha: strength of the penalty.
    """

    weights: npt.NDArray[np.int8]
    scale: float
    intercept: float
    alpha: float

    def predict(self, matrix: Any) -> Floats:
        """Return the scores of rows of `vectorize`, 0 to 1."""
        raw: Floats = matrix @ (self.weights.astype(np.float64) * self.scale) + self.intercept
        return np.clip(raw, 0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return the scorer as plain JSON."""
        packed = base64.b64encode(zlib.compress(self.weights.tobytes(), 9)).decode()
        return {
            "alpha": self.alpha,
            "intercept": self.intercept,
            "scale": self.scale,
            "weights": packed,
        }

    @classmethod
    def from_json(cls, record: Any) -> "TextScorer":
        """Read a scorer that `to_json` returned.

        Raises:
            CriticError: the record is not a scorer.
        """
        try:
            packed = zlib.decompress(base64.b64decode(record["weights"], validate=True))
            weights = np.frombuffer(packed, np.int8)
            if len(weights) != BUCKETS:
                raise ValueError(f"{len(weights)} weights")
            numbers = (float(record[key]) for key in ("scale", "intercept", "alpha"))
            return cls(weights, *numbers)
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise CriticError(f"the config contains no scorer: {error!r}") from None


@lru_cache(1)
def _vectorizer() -> Any:
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise MissingExtra("scikit-learn", "curate") from None
    return HashingVectorizer(
        lowercase=False,
        token_pattern=FEATURES["tokens"],
        ngram_range=tuple(FEATURES["ngrams"]),
        n_features=BUCKETS,
    )


def vectorize(texts: Sequence[str]) -> Any:
    """Return one row of length 1 per text, as a sparse matrix (texts, buckets).

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    return _vectorizer().transform([text[:CHARACTERS] for text in texts])


def fit_scorer(matrix: Any, scores: Floats, rng: np.random.Generator) -> TextScorer:
    """Fit a scorer; the penalty is chosen on a fifth of the rows.

    Args:
        matrix: rows of `vectorize`.
        scores: the judge's scores, 0 to 1, one per row.
        rng: chooses the fifth.
    """
    order = rng.permutation(len(scores))
    inner, rest = order[: len(order) // 5], order[len(order) // 5 :]
    errors = []
    for alpha in ALPHAS:
        tried = fit_ridge(matrix[rest], scores[rest], alpha)
        errors.append(float(np.mean((tried.predict(matrix[inner]) - scores[inner]) ** 2)))
    return fit_ridge(matrix, scores, ALPHAS[int(np.argmin(errors))])


def fit_ridge(matrix: Any, scores: Floats, alpha: float) -> TextScorer:
    """Fit a scorer with a given penalty."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=alpha, solver="sparse_cg").fit(matrix, scores)
    scale = float(np.abs(model.coef_).max()) / _LEVELS or 1.0
    weights = np.rint(model.coef_ / scale).astype(np.int8)
    return TextScorer(weights, scale, float(model.intercept_), alpha)
