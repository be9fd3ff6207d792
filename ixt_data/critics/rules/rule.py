"""A rule on one statistic of a document, and how findings become scores.

References, by the keys that each rule's `source` begins with:

- C4: Raffel et al. 2020, arXiv:1910.10683, section 2.2; "C4 code" is its released `c4_utils.py`.
- Gopher: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 (quality), table A1 (repetition).
- RefinedWeb: Penedo et al. 2023, arXiv:2306.01116, appendix G.2 (line-wise corrections).
- FineWeb: Penedo et al. 2024, arXiv:2406.17557, section 3.6 (custom heuristic filters).
- Codex: Chen et al. 2021, arXiv:2107.03374, section 3.1.
- SantaCoder: Ben Allal et al. 2023, arXiv:2301.03988, comments-to-code filter.
- StarCoder2: Lozhkov et al. 2024, arXiv:2402.19173, section 2.1, basic filters.
- phi: Gunasekar et al. 2023, arXiv:2306.11644, section 2.1: what makes code poor to learn from.
- OpenCoder: Huang et al. 2024, arXiv:2411.04905, appendix on heuristic filtering rules.
- PEP 8, PEP 257: the style guides of Python.
- "ours": no published number. "A, ours": the idea is A's, the number is ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ixt_data.records import Span

Measures = Mapping[str, float]
"""Statistics by name; a statistic that does not apply is absent, and its rule is skipped."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit on one statistic.

    Attributes:
        flag: machine-readable name of the violation.
        dimension: the sub-score that it lowers.
        measure: name of the statistic.
        free: up to this value nothing is lost. Always our number.
        limit: the published threshold; values beyond it violate the rule. It is below `free` where
            small values are bad.
        weight: share of the dimension's score that full severity costs.
        source: publication of `limit`.
        complaints: wordings of a clause for the critique. `{value}` is the statistic, a `Quantity`;
            `{much}` is "rather", "too" or "far too", `{many}` "some", "many" or "very many", by
            severity.
        praises: wordings of a clause for a document far from the limit, empty for none.
    """

    flag: str
    dimension: str
    measure: str
    free: float
    limit: float
    weight: float
    source: str
    complaints: tuple[str, ...]
    praises: tuple[str, ...] = ()

    def severity(self, value: float) -> float:
        """Return 0 up to `free`, 0.5 at `limit`, and linearly up to 1."""
        return min(1.0, max(0.0, 0.5 * (value - self.free) / (self.limit - self.free)))

    def is_violated_by(self, value: float) -> bool:
        """Return whether `value` is beyond the limit."""
        return value > self.limit if self.limit > self.free else value < self.limit


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule on one document."""

    rule: Rule
    value: float
    severity: float

    @property
    def loss(self) -> float:
        """Share of the dimension's score that is lost."""
        return self.rule.weight * self.severity

    @property
    def is_violated(self) -> bool:
        """True if the value is beyond the rule's limit."""
        return self.rule.is_violated_by(self.value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings on one document, and the spans that show them."""

    kind: str
    findings: tuple[Finding, ...]
    scores: Mapping[str, float]
    score: float
    spans: tuple[Span, ...] = field(default=())

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the violated rules, in the order of their table."""
        return tuple(finding.rule.flag for finding in self.findings if finding.is_violated)


def aggregate_score(
    kind: str,
    rules: Sequence[Rule],
    weights: Mapping[str, float],
    measures: Measures,
    spans: Iterable[Span] = (),
) -> Verdict:
    """Return the verdict of `rules` on `measures`.

    A dimension's score is the product of what its rules leave. The score is the product of the
    dimensions, each to the power of its weight. So good dimensions do not compensate a ruined one.

    Args:
        kind: `text` or `code`.
        rules: the rules to apply.
        weights: exponent of each dimension.
        measures: statistics of the document.
        spans: shown with the verdict.
    """
    findings = tuple(
        Finding(rule, value, rule.severity(value))
        for rule in rules
        if (value := measures.get(rule.measure)) is not None
    )
    scores = {
        dimension: prod(1 - f.loss for f in findings if f.rule.dimension == dimension)
        for dimension in weights
    }
    score = prod(scores[dimension] ** weight for dimension, weight in weights.items())
    return Verdict(kind, findings, scores, score, tuple(spans))
