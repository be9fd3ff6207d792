import json
import tempfile

import numpy as np
import pytest
import yaml
from critiqued import critiqued_store, words_tokenizer
from streaming import StreamingDataset
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, plan_mix
from ixt_train.bake import bake
from ixt_train.conditioning import Conditioner
from ixt_train.stream import MixStream

MIX = Mix(critic="numbers", selections=[{"name": "good", "where": "score > 0.5"}])


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def store(tmp_path):
    return critiqued_store(tmp_path / "store", 200)


def test_stock_streaming_reads_the_samples_in_order(store, tmp_path):
    tokenizer = words_tokenizer()
    report = bake(store, MIX, tokenizer, tmp_path / "out", 32, shard_bytes=4096)
    baked = StreamingDataset(local=str(tmp_path / "out"), batch_size=1)
    # As llm-foundry reads it: StreamingTextDataset._read_binary_tokenized_sample.
    found = [np.frombuffer(row["tokens"], np.int64) for row in baked]
    assert len(found) == report.rows > 20
    assert {len(row) for row in found} == {32}
    plan = plan_mix(store, MIX)
    conditioner = Conditioner(tokenizer, MIX.condition)
    with MixStream(store.root, plan, conditioner, local=tmp_path / "l", batch_size=1) as stream:
        expected = np.concatenate([sample["input_ids"] for sample in stream])
    assert np.array_equal(np.concatenate(found), expected[: report.rows * 32])
    assert report.left_over == len(expected) - report.rows * 32


def test_a_mix_that_fills_no_row_leaves_nothing(store, tmp_path):
    with pytest.raises(ConfigError, match="do not fill"):
        bake(store, MIX, words_tokenizer(), tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def test_the_command_line_bakes(store, tmp_path):
    words_tokenizer().save_pretrained(tmp_path / "tokenizer")
    mix = tmp_path / "mix.yaml"
    mix.write_text(yaml.safe_dump({"store": store.root, "critic": "numbers"}))
    arguments = ["bake", str(mix), str(tmp_path / "out"), "--max-length", "64", "--samples", "90",
                 "--tokenizer", str(tmp_path / "tokenizer"), "--output", "json"]  # fmt: skip
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"] == 90
