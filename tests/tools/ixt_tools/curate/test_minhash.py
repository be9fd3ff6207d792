"""Signatures and clusters."""

import unicodedata
from pathlib import Path

import numpy as np
from curated_store import changed, text

from ixt_tools.curate.minhash import (
    SignedDocuments,
    find_clusters,
    make_signer,
    representatives,
    shingles,
    sign_documents,
)


def test_signatures_estimate_the_overlap_of_shingles() -> None:
    sign, a = make_signer(), text(0, 400)
    b = changed(a, range(100, 180))
    one, other = set(shingles(" ".join(a)).tolist()), set(shingles(" ".join(b)).tolist())
    true = len(one & other) / len(one | other)
    found = (sign(" ".join(a)) == sign(" ".join(b))).mean()
    assert abs(found - true) < 0.15
    assert len(shingles("two words")) == len(shingles("!?")) == 1


def test_composed_and_decomposed_forms_have_the_same_shingles() -> None:
    text = "Ünïcödé tëxt ïs nørmalized: Ångström, élève, Việt Nam, 가나다"
    forms = {tuple(shingles(unicodedata.normalize(form, text))) for form in ("NFC", "NFD")}
    assert len(forms) == 1


def test_any_number_of_workers_signs_the_same(tmp_path: Path) -> None:
    documents = [(bytes([i % 256]) * 16, " ".join(text(i, 50))) for i in range(600)]
    found = []
    for workers in (1, 3):
        (tmp_path / str(workers)).mkdir()
        folder = tmp_path / str(workers)
        signed = sign_documents(iter(documents), 700, folder, 32, workers)
        found.append(
            [column.tolist() for column in (signed.ids, signed.lengths, signed.signatures)]
        )
    assert found[0] == found[1]
    assert len(found[0][0]) == 600


def test_chains_of_similar_documents_are_one_cluster() -> None:
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 1 << 32, (6, 128), np.uint32)
    signatures[3], signatures[5] = signatures[0], signatures[3]
    signatures[3, :10] = signatures[5, 10:20] = 0
    found = SignedDocuments(np.zeros((6, 16), np.uint8), np.arange(6), signatures)
    roots = find_clusters(found, 0.8)
    assert roots.tolist() == [0, 1, 2, 0, 4, 0]
    assert representatives(roots, [found.lengths]).tolist() == [5, 1, 2, 5, 4, 5]
    assert representatives(roots, []).tolist() == [0, 1, 2, 0, 4, 0]
