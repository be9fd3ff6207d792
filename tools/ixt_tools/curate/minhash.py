"""Near-duplicates: clusters of documents whose sets of word shingles overlap, by MinHash and LSH.

Signatures are datasketch's (Broder 1997); its LSH keeps every band of every document in memory, and
so bands are sorted here instead: one array of eight bytes a document at a time, with the
signatures in a temporary file.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.records import ID_BYTES

SHINGLE = 5
"""Words of a shingle, as in Lee et al. 2022 (arXiv 2107.06499)."""
PERMUTATIONS = 128
_WORD = re.compile(r"\w+")
_PIECE = 4096
_SEED = 1

Signature = Callable[[str], npt.NDArray[np.uint32]]
Ints = npt.NDArray[np.int64]


def signer(permutations: int = PERMUTATIONS) -> Signature:
    """What makes the signature of a text: uint32[permutations].

    Raises:
        MissingExtra: datasketch is not installed.
    """
    try:
        from datasketch import MinHash
    except ImportError:
        raise MissingExtra("datasketch", "curate") from None
    empty = MinHash(permutations, seed=_SEED, hashfunc=int)

    def sign(text: str) -> npt.NDArray[np.uint32]:
        made = empty.copy()
        hashes = shingles(text)
        # Piece by piece: a row of `permutations` numbers for each shingle is in memory.
        for start in range(0, len(hashes), _PIECE):
            made.update_batch(hashes[start : start + _PIECE].tolist())
        values: npt.NDArray[np.uint32] = made.hashvalues.astype(np.uint32)
        return values

    return sign


def shingles(text: str, size: int = SHINGLE) -> npt.NDArray[np.uint32]:
    """Hashes of the runs of `size` words of a text, each once; shorter texts are one run."""
    import xxhash

    words = _WORD.findall(text.lower()) or [text]
    hashes = np.array([xxhash.xxh3_64_intdigest(word) for word in words], np.uint64)
    n = max(1, len(hashes) - size + 1)
    runs = np.zeros(n, np.uint64)
    # Wraps around at 64 bits, which is meant.
    for i in range(min(size, len(hashes))):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + hashes[i : i + n]
    return np.unique((runs ^ (runs >> np.uint64(32))).astype(np.uint32))


def bands_for(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows of a band that miss few pairs at a threshold, as datasketch finds them.

    Raises:
        ConfigError: the threshold leaves none.
        MissingExtra: datasketch is not installed.
    """
    try:
        from datasketch import MinHashLSH
    except ImportError:
        raise MissingExtra("datasketch", "curate") from None
    if not 0.1 <= threshold <= 0.99:
        raise ConfigError(f"threshold {threshold}: a similarity from 0.1 to 0.99")
    # What shares a band by chance is compared afterwards, so that missing a pair weighs more.
    lsh = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    return int(lsh.b), int(lsh.r)


@dataclass(frozen=True)
class SignedDocuments:
    """Documents with their signatures.

    Attributes:
        ids: uint8[n, 16].
        lengths: characters, int64[n].
        signatures: uint32[n, permutations]; may lie in a file.
    """

    ids: npt.NDArray[np.uint8]
    lengths: Ints
    signatures: npt.NDArray[np.uint32]


def signed(
    documents: Iterator[tuple[bytes, str]],
    most: int,
    folder: Path,
    permutations: int = PERMUTATIONS,
    progress: Callable[[int], None] = lambda done: None,
) -> SignedDocuments:
    """Signs documents; their signatures go to a file.

    Args:
        documents: doc_id and text of each.
        most: how many they are at most.
        folder: where the file lies, 4 bytes a permutation and document.
        permutations: of a signature.
        progress: called with the number of documents done.
    """
    sign = signer(permutations)
    shape = (max(most, 1), permutations)
    signatures = np.memmap(folder / "signatures", np.uint32, "w+", shape=shape)
    ids = np.zeros((most, ID_BYTES), np.uint8)
    lengths = np.zeros(most, np.int64)
    n = 0
    for doc_id, text in documents:
        ids[n] = np.frombuffer(doc_id, np.uint8)
        lengths[n] = len(text)
        signatures[n] = sign(text)
        n += 1
        progress(n)
    return SignedDocuments(ids[:n], lengths[:n], signatures[:n])


def clusters(
    found: SignedDocuments,
    threshold: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ints:
    """The first document of the cluster of each: int64[n].

    Two documents are in one cluster if they share a band and the share of equal numbers in their
    signatures, an estimate of the overlap of their shingles, is at least the threshold; or by way
    of others that are. In a band each document is compared with the first and with the one before.
    """
    n, permutations = found.signatures.shape
    bands, rows = bands_for(threshold, permutations)
    parents = np.arange(n)
    for band in range(bands):
        keys = _band_keys(found.signatures[:, band * rows : (band + 1) * rows])
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        if len(same):
            new = np.ones(n, bool)
            new[same] = False
            heads = np.maximum.accumulate(np.where(new, np.arange(n), 0))
            for others in (order[same - 1], order[heads[same]]):
                _join(parents, order[same], others, found.signatures, threshold)
        progress(band + 1, bands)
    return np.array([_root(parents, i) for i in range(n)], np.int64)


def _band_keys(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    keys = np.zeros(len(values), np.uint64)
    for column in range(values.shape[1]):
        keys = (keys ^ values[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _join(
    parents: Ints,
    ones: Ints,
    others: Ints,
    signatures: npt.NDArray[np.uint32],
    threshold: float,
) -> None:
    """Joins the clusters of those pairs that are alike enough."""
    for start in range(0, len(ones), _PIECE):
        a, b = ones[start : start + _PIECE], others[start : start + _PIECE]
        alike = (signatures[a] == signatures[b]).mean(axis=1) >= threshold
        for one, other in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
            first, second = sorted((_root(parents, one), _root(parents, other)))
            parents[second] = first


def _root(parents: Ints, i: int) -> int:
    while parents[i] != i:
        # Halves the way for those that come after.
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def keepers(roots: Ints, ranks: Sequence[npt.NDArray[np.float64] | Ints]) -> Ints:
    """The document of each cluster that is kept, for each document: int64[n].

    Args:
        roots: see `clusters`.
        ranks: what decides, most important first; the highest is kept, then the first.
    """
    n = len(roots)
    # The last key sorts first: by cluster, and in it the best one first.
    order = np.lexsort((np.arange(n), *(-rank for rank in reversed(ranks)), roots))
    first = np.ones(n, bool)
    first[1:] = roots[order][1:] != roots[order][:-1]
    best = order[np.maximum.accumulate(np.where(first, np.arange(n), 0))]
    kept = np.empty(n, np.int64)
    kept[order] = best
    return kept
