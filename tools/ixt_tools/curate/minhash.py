"""Near-duplicates: clusters of documents with overlapping word shingles, by MinHash and LSH.

Signatures are those of datasketch (Broder 1997). Its LSH stores every band of every document in
memory. Here each band is sorted instead: one array of eight bytes per document at a time, and the
signatures are in a temporary file.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.records import ID_BYTES
from ixt_data.storage import allocated_array
from ixt_data.worker_processes import WorkerPool, cores

SHINGLE_WORDS = 5
"""Words per shingle, as in Lee et al. 2022 (arXiv 2107.06499)."""
PERMUTATIONS = 128
_WORD = re.compile(r"\w+")
_CHUNK = 4096
_BATCH = 256
WORKER_DOCUMENTS = 4096
"""Documents for which a second process saves more time than its start takes."""

_SEED = 1

Signature = Callable[[str], npt.NDArray[np.uint32]]
Ints = npt.NDArray[np.int64]


@lru_cache(maxsize=4)
def make_signer(permutations: int = PERMUTATIONS) -> Signature:
    """Return a function from a text to its signature: uint32[permutations].

    Raises:
        MissingExtra: datasketch is not installed.
    """
    try:
        from datasketch import MinHash
    except ImportError:
        raise MissingExtra("datasketch", "curate") from None
    empty = MinHash(permutations, seed=_SEED, hashfunc=int)

    def sign(text: str) -> npt.NDArray[np.uint32]:
        minhash = empty.copy()
        hashes = shingles(text)
        # A chunk at a time: each shingle needs a row of `permutations` numbers in memory.
        for start in range(0, len(hashes), _CHUNK):
            minhash.update_batch(hashes[start : start + _CHUNK].tolist())
        values: npt.NDArray[np.uint32] = minhash.hashvalues.astype(np.uint32)
        return values

    return sign


def shingles(text: str, size: int = SHINGLE_WORDS) -> npt.NDArray[np.uint32]:
    """Return the distinct hashes of all runs of `size` words; a shorter text is one run.

    The composed (NFC) and the decomposed (NFD) form of a text have the same words.
    """
    import xxhash

    text = unicodedata.normalize("NFC", text.lower())
    words = _WORD.findall(text) or [text]
    hashes = np.array([xxhash.xxh3_64_intdigest(word) for word in words], np.uint64)
    n = max(1, len(hashes) - size + 1)
    runs = np.zeros(n, np.uint64)
    # The overflow at 64 bits is intended.
    for i in range(min(size, len(hashes))):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + hashes[i : i + n]
    return np.unique((runs ^ (runs >> np.uint64(32))).astype(np.uint32))


def bands_for(threshold: float, permutations: int) -> tuple[int, int]:
    """Return the number of bands, and of rows per band, that datasketch chooses for a threshold.

    Raises:
        ConfigError: the threshold is out of range.
        MissingExtra: datasketch is not installed.
    """
    try:
        from datasketch import MinHashLSH
    except ImportError:
        raise MissingExtra("datasketch", "curate") from None
    if not 0.1 <= threshold <= 0.99:
        raise ConfigError(f"threshold {threshold} is not valid; use a similarity from 0.1 to 0.99")
    # Candidates are compared afterwards, so a missed pair costs more than a false candidate.
    lsh = MinHashLSH(threshold=threshold, num_perm=permutations, weights=(0.1, 0.9))
    return int(lsh.b), int(lsh.r)


@dataclass(frozen=True)
class SignedDocuments:
    """Documents with their signatures.

    Attributes:
        ids: doc_ids, uint8[n, 16].
        lengths: numbers of characters, int64[n].
        signatures: uint32[n, permutations], possibly memory-mapped.
    """

    ids: npt.NDArray[np.uint8]
    lengths: Ints
    signatures: npt.NDArray[np.uint32]


def sign_documents(
    documents: Iterator[tuple[bytes, str]],
    max_documents: int,
    folder: Path,
    permutations: int = PERMUTATIONS,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> SignedDocuments:
    """Sign documents; write the signatures to a file.

    Args:
        documents: doc_id and text of each document.
        max_documents: maximum number of documents.
        folder: folder for the file of 4 bytes per permutation and document.
        permutations: hashes per signature.
        workers: number of processes that sign; the result is the same for any number. None: one
            per core, fewer for few documents.
        progress: function that receives the number of documents done.
    """
    shape = (max(max_documents, 1), permutations)
    signatures = allocated_array(folder / "signatures", np.uint32, shape)
    ids = np.zeros((max_documents, ID_BYTES), np.uint8)
    lengths = np.zeros(max_documents, np.int64)
    n = 0
    workers = workers or min(cores(), 1 + max_documents // WORKER_DOCUMENTS)
    batches = ((permutations, batch) for batch in _batches(documents))
    with WorkerPool(workers) as pool:
        for own_ids, own_lengths, own_signatures in pool.map(_sign_batch, batches):
            end = n + len(own_ids)
            ids[n:end], lengths[n:end], signatures[n:end] = own_ids, own_lengths, own_signatures
            n = end
            progress(n)
    return SignedDocuments(ids[:n], lengths[:n], signatures[:n])


_Batch = list[tuple[bytes, str]]


def _batches(documents: Iterator[tuple[bytes, str]]) -> Iterator[_Batch]:
    while batch := list(islice(documents, _BATCH)):
        yield batch


def _sign_batch(
    task: tuple[int, _Batch],
) -> tuple[npt.NDArray[np.uint8], Ints, npt.NDArray[np.uint32]]:
    """Return ids, lengths and signatures of some documents."""
    permutations, batch = task
    sign = make_signer(permutations)
    ids = np.frombuffer(b"".join(doc_id for doc_id, _ in batch), np.uint8).reshape(-1, ID_BYTES)
    lengths = np.array([len(text) for _, text in batch], np.int64)
    return ids, lengths, np.stack([sign(text) for _, text in batch])


def find_clusters(
    documents: SignedDocuments,
    threshold: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ints:
    """Return the first document of the cluster of each document: int64[n].

    Two documents are linked if they share a band and the share of equal numbers in their signatures
    is at least the threshold; this share estimates the Jaccard similarity of their shingles.
    Clusters are the connected components. Within a band, each document is compared with the first
    and with the previous document.
    """
    n, permutations = documents.signatures.shape
    bands, rows = bands_for(threshold, permutations)
    parents = np.arange(n)
    for band in range(bands):
        keys = _band_keys(documents.signatures[:, band * rows : (band + 1) * rows])
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
        if len(same):
            new = np.ones(n, bool)
            new[same] = False
            heads = np.maximum.accumulate(np.where(new, np.arange(n), 0))
            for others in (order[same - 1], order[heads[same]]):
                _join(parents, order[same], others, documents.signatures, threshold)
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
    """Join the clusters of pairs that reach the threshold."""
    for start in range(0, len(ones), _CHUNK):
        a, b = ones[start : start + _CHUNK], others[start : start + _CHUNK]
        similar = (signatures[a] == signatures[b]).mean(axis=1) >= threshold
        for one, other in zip(a[similar].tolist(), b[similar].tolist(), strict=True):
            first, second = sorted((_root(parents, one), _root(parents, other)))
            parents[second] = first


def _root(parents: Ints, i: int) -> int:
    while parents[i] != i:
        # Path halving makes later lookups shorter.
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i


def representatives(roots: Ints, ranks: Sequence[npt.NDArray[np.float64] | Ints]) -> Ints:
    """Return the representative of the cluster of each document: int64[n].

    Args:
        roots: result of `find_clusters`.
        ranks: criteria, the most important first; the highest value wins, then the first document.
    """
    n = len(roots)
    # lexsort sorts by the last key first: by cluster, and the best document first within it.
    order = np.lexsort((np.arange(n), *(-rank for rank in reversed(ranks)), roots))
    first = np.ones(n, bool)
    first[1:] = roots[order][1:] != roots[order][:-1]
    best = order[np.maximum.accumulate(np.where(first, np.arange(n), 0))]
    chosen = np.empty(n, np.int64)
    chosen[order] = best
    return chosen
