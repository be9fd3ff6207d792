"""The export for Megatron, read by a reader after Megatron-Core's indexed_dataset.py."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from critiqued import critiqued_store, words_tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

import ixt_data
from ixt_data.cli.app import build
from ixt_data.errors import StoreError
from ixt_data.mix import Mix, plan_mix
from ixt_data.store.store import Store
from ixt_train.conditioning.chat_template import set_chat_template
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.megatron import export_megatron
from ixt_train.stream.mix_stream import MixStream

MIX = Mix(critic="numbers", condition={"dropout": 0.3})


# Megatron-Core's DType: the code of each type of numbers.
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64,
          7: np.float32, 8: np.uint16}  # fmt: skip


class IndexedDataset:
    """Sequences of a `.bin` file by its `.idx`, as Megatron-Core's class of this name reads them.

    The layout: 9 bytes of magic, version as u64, a code of the dtype as u8, number of sequences
    and of document indices as u64, lengths as i32, offsets in bytes as i64, document indices.
    """

    def __init__(self, prefix: Path) -> None:
        index = prefix.with_suffix(".idx").read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        version, code, n_sequences, n_documents = struct.unpack_from("<QBQQ", index, 9)
        assert version == 1
        self.dtype = DTYPES[code]
        at = 9 + struct.calcsize("<QBQQ")
        self.lengths = np.frombuffer(index, np.int32, n_sequences, at)
        at += self.lengths.nbytes
        self.offsets = np.frombuffer(index, np.int64, n_sequences, at)
        at += self.offsets.nbytes
        self.documents = np.frombuffer(index, np.int64, n_documents, at)
        assert at + self.documents.nbytes == len(index)
        self.bin = np.memmap(prefix.with_suffix(".bin"), mode="r", order="C")
        # Megatron-Core checks both of these.
        assert self.documents[-1] == len(self.lengths)
        assert self.offsets[-1] + self.lengths[-1] * np.dtype(self.dtype).itemsize == len(self.bin)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Any:
        return np.frombuffer(
            self.bin, self.dtype, count=self.lengths[number], offset=self.offsets[number]
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return critiqued_store(tmp_path / "store", 200)


def test_megatron_export_is_the_stream_in_draw_order(store: Store, tmp_path: Path) -> None:
    tokenizer = words_tokenizer()
    report = export_megatron(store, MIX, tokenizer, tmp_path / "out", samples=300)
    tokens = IndexedDataset(tmp_path / "out" / "tokens")
    weights = IndexedDataset(tmp_path / "out" / "loss_weights")
    assert (tokens.dtype, weights.dtype) == (np.uint16, np.float32)
    conditioner = Conditioner(tokenizer, MIX.condition)
    plan = plan_mix(MIX, 300, store=store)
    with MixStream(plan, conditioner, store=store.root, local=tmp_path / "l", batch_size=1) as ds:
        samples = list(ds)
    assert len(tokens) == len(weights) == len(samples) == report.sequences == 300
    for number, sample in enumerate(samples):
        assert np.array_equal(tokens[number], sample["input_ids"])
        assert np.array_equal(weights[number], sample["loss_weights"])
    assert report.tokens == tokens.lengths.sum()
    in_loss = sum(int((sample["loss_weights"] > 0).sum()) for sample in samples)
    assert report.tokens_in_loss == in_loss < report.tokens
    with pytest.raises(StoreError, match="--overwrite"):
        export_megatron(store, MIX, tokenizer, tmp_path / "out")


def test_megatron_export_of_a_large_vocabulary_has_32_bits(store: Store, tmp_path: Path) -> None:
    tokenizer = words_tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(66_000)])
    assert export_megatron(store, MIX, tokenizer, tmp_path / "out").dtype == "int32"
    assert IndexedDataset(tmp_path / "out" / "tokens").dtype == np.int32


def test_megatron_export_of_conversations_has_loss_on_the_assistant(tmp_path: Path) -> None:
    store = ixt_data.open_store(tmp_path / "store", create=True)
    talk = {"messages": [{"role": "user", "content": "1 + 1 ="},
                         {"role": "assistant", "content": "2"}]}  # fmt: skip
    (tmp_path / "talks.jsonl").write_text(json.dumps(talk) + "\n")
    ixt_data.ingest(store, "talks", [tmp_path / "talks.jsonl"])
    words_tokenizer().save_pretrained(tmp_path / "tokenizer")
    done = CliRunner().invoke(
        build(),
        ["export", str(tmp_path / "out"), "--format", "megatron", "-O", "stage=sft", "-O",
         f"tokenizer={tmp_path / 'tokenizer'}", "--store", str(store.root), "--output", "json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sequences"] == 1
    tokens = IndexedDataset(tmp_path / "out" / "tokens")[0]
    weights = IndexedDataset(tmp_path / "out" / "loss_weights")[0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    set_chat_template(tokenizer, None)
    assert tokens.tolist() == tokenizer.apply_chat_template(talk["messages"], return_dict=False)
    assert tokenizer.decode(tokens[weights > 0]).split() == ["2", "<|eos|>"]
