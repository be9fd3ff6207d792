import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.errors import ConfigError
from ixt_train.stream.packing import (
    Collator,
    batch_doc_ids,
    batch_samples,
    batch_tokens,
    best_fit,
    cu_seqlens,
    document_mask,
)

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def samples(sizes: list[int]) -> list[dict]:
    starts = np.cumsum([1, *sizes])
    return [
        {
            "input_ids": np.arange(start, start + size, dtype=np.int32),
            "loss_weights": np.r_[0.0, np.ones(size - 1)].astype(np.float32),
            "doc_id": i.to_bytes(16, "big"),
        }
        for i, (start, size) in enumerate(zip(starts, sizes, strict=False))
    ]


def ids_of(n: int) -> list[bytes]:
    return [i.to_bytes(16, "big") for i in range(n)]


def documents_of(batch: dict) -> list[bytes]:
    return [row.tobytes() for row in batch_doc_ids(batch)]


@given(lengths, st.integers(1, 40))
def test_padding_keeps_a_sample_per_row_and_counts_truncated_tokens(sizes, longest):
    batch = Collator(0, longest)(samples(sizes))
    width = min(max(sizes), longest)
    assert batch["input_ids"].shape == (len(sizes), width)
    assert batch["attention_mask"].sum(1).tolist() == [min(size, longest) for size in sizes]
    assert batch["truncated"] == sum(sizes) - batch_tokens(batch)
    assert batch["doc_ids"] == ids_of(len(sizes))
    assert batch_samples(batch) == len(sizes)


@given(lengths, st.integers(1, 40))
def test_concatenation_loses_no_token_and_no_sample(sizes, width):
    batch = Collator(0, width, "concat")(samples(sizes))
    kept = batch["input_ids"][batch["attention_mask"] == 1]
    assert kept.tolist() == list(range(1, sum(sizes) + 1))
    rows, own_width = batch["input_ids"].shape
    assert rows == -(-sum(sizes) // width)
    assert own_width == width or (own_width % 16 == 0 and (own_width - 16) * rows < sum(sizes))
    assert documents_of(batch) == ids_of(len(sizes))
    assert batch_samples(batch) == len(sizes)
    assert batch_tokens(batch) == sum(sizes)
    assert batch["truncated"] == 0


def test_labels_match_the_loss_weights():
    batch = Collator(0, 8)(samples([3, 1]))
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, -100, -100]]
    assert batch["loss_weights"].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_collator_with_unknown_packing_raises():
    with pytest.raises(ConfigError, match="pad, concat, best_fit"):
        Collator(0, 8, "tight")


@given(lengths, st.integers(8, 40))
def test_best_fit_cuts_only_what_is_longer_than_a_row(sizes, width):
    batch = Collator(0, width, "best_fit", separate_documents=True)(samples(sizes))
    assert sorted(documents_of(batch)) == ids_of(len(sizes))
    assert batch_samples(batch) == len(sizes)
    assert batch["truncated"] == sum(max(size - width, 0) for size in sizes)
    assert batch_tokens(batch) == sum(min(size, width) for size in sizes)
    ends = np.cumsum([0, *sizes])
    begins = {int(end) + 1 for end in ends[:-1]}
    for ids, places, mask in zip(
        batch["input_ids"], batch["position_ids"], batch["attention_mask"], strict=True
    ):
        kept = ids[mask == 1].tolist()
        assert {
            token for token, place in zip(kept, places.tolist(), strict=False) if place == 0
        } <= begins


@given(st.lists(st.integers(1, 100), max_size=60))
def test_best_fit_leaves_no_two_rows_that_fit_into_one(sizes):
    rows = best_fit(sizes, 100)
    filled = sorted(sum(sizes[i] for i in row) for row in rows)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    assert all(total <= 100 for total in filled)
    assert len(filled) < 2 or filled[0] + filled[1] > 100


@given(lengths, st.integers(2, 40), st.sampled_from(["pad", "concat", "best_fit"]))
def test_document_masks_separate_documents(sizes, width, packing):
    batch = Collator(0, width, packing, separate_documents=True)(samples(sizes))
    mask = document_mask(batch)[:, 0]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    for ids, kept, sees in zip(batch["input_ids"], batch["attention_mask"], mask, strict=True):
        n = int(kept.sum())
        own = owner[ids[:n].numpy() - 1]
        expected = (own[:, None] == own[None]) & np.tri(n, dtype=bool)
        assert (sees[:n, :n].numpy() == expected).all()
    ends = cu_seqlens(batch)
    assert ends[0] == 0
    assert ends[-1] == batch_tokens(batch)
    tokens = batch["input_ids"][batch["attention_mask"] > 0].numpy() - 1
    parts = np.split(owner[tokens], ends[1:-1].numpy())
    assert all(len(set(part.tolist())) == 1 for part in parts)


@given(lengths, st.integers(2, 40), st.sampled_from(["long", "fill"]))
def test_split_loses_no_token_and_separates_the_parts(sizes, width, split):
    batch = Collator(0, width, "best_fit", split=split, separate_documents=True)(samples(sizes))
    kept = batch["input_ids"][batch["attention_mask"] == 1]
    assert sorted(kept.tolist()) == list(range(1, sum(sizes) + 1))
    assert sorted(documents_of(batch)) == ids_of(len(sizes))
    assert batch["truncated"] == 0
    rows = len(batch["input_ids"])
    assert rows == -(-sum(sizes) // width) or split == "long"
    # No part is predicted from another one: tokens of one part follow each other.
    ids, positions = batch["input_ids"], batch["position_ids"]
    inner = (positions[:, 1:] > 0) & (batch["attention_mask"][:, 1:] > 0)
    assert (ids[:, 1:][inner] == ids[:, :-1][inner] + 1).all()
    assert not batch["loss_weights"][:, 1:][~inner].any()
    assert not batch["loss_weights"][positions == 0].any()


@pytest.mark.parametrize("documents", [1, 2, 3, 4, 5, 8, 17, 32])
@pytest.mark.parametrize("split", ["never", "fill"])
def test_rows_of_few_documents_are_full(documents, split):
    """Rows of 2,048 would hold 1,200 tokens each without a split."""
    batch = Collator(0, 2048, "best_fit", split=split)(samples([1200] * documents))
    assert batch_tokens(batch) / batch["input_ids"].numel() > 0.99
    rows = documents if split == "never" else -(-documents * 1200 // 2048)
    assert len(batch["input_ids"]) == rows


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_split_fills_rows_of_any_documents(sizes):
    batch = Collator(0, 2048, "best_fit", split="fill")(samples(sizes))
    rows, width = batch["input_ids"].shape
    assert rows == -(-sum(sizes) // 2048)
    # All that is missing is what rounding the width adds.
    assert rows * width - sum(sizes) < rows * 16 + rows


def test_split_of_a_long_document_keeps_all_of_it():
    batch = Collator(0, 10, "best_fit", split="long")(samples([25, 4]))
    assert [int(n) for n in batch["attention_mask"].sum(1)] == [10, 10, 9]
    cut = Collator(0, 10, "best_fit")(samples([25, 4]))
    assert cut["truncated"] == 15


def test_split_without_best_fit_raises():
    with pytest.raises(ConfigError, match="split: fill needs packing best_fit"):
        Collator(0, 8, "concat", split="fill")
