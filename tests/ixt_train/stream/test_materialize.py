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
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.materialize import materialize_mix
from ixt_train.stream.mix_stream import MixStream

MIX = Mix(critic="numbers", selections=[{"name": "good", "where": "score > 0.5"}])


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def store(tmp_path):
    return critiqued_store(tmp_path / "store", 200)


def test_materialized_samples_are_read_by_stock_streaming_in_order(store, tmp_path):
    tokenizer = words_tokenizer()
    report = materialize_mix(store, MIX, tokenizer, tmp_path / "out", 32, shard_bytes=4096)
    baked = StreamingDataset(local=str(tmp_path / "out"), batch_size=1)
    # As llm-foundry reads it: StreamingTextDataset._read_binary_tokenized_sample.
    found = [np.frombuffer(row["tokens"], np.int64) for row in baked]
    assert len(found) == report.rows > 20
    assert {len(row) for row in found} == {32}
    plan = plan_mix(MIX, store=store)
    conditioner = Conditioner(tokenizer, MIX.condition)
    with MixStream(
        plan, conditioner, store=store.root, local=tmp_path / "l", batch_size=1
    ) as stream:
        expected = np.concatenate([sample["input_ids"] for sample in stream])
    assert np.array_equal(np.concatenate(found), expected[: report.rows * 32])
    assert report.leftover_tokens == len(expected) - report.rows * 32


def test_materialize_a_mix_that_fills_no_row_raises(store, tmp_path):
    with pytest.raises(ConfigError, match="do not fill"):
        materialize_mix(store, MIX, words_tokenizer(), tmp_path / "out", 1 << 20)
    assert not (tmp_path / "out").exists()


def run(*arguments: object):
    return CliRunner().invoke(build(), [*map(str, arguments), "--output", "json"])


def test_materialize_on_the_command_line(store, tmp_path):
    words_tokenizer().save_pretrained(tmp_path / "tokenizer")
    baked = ["export", tmp_path / "all", "--format", "mds", "--baked", "--max-length", 64,
             "--tokenizer", tmp_path / "tokenizer", "--store", store.root]  # fmt: skip
    done = run(*baked, "--where", "score > 0.5")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    plan = plan_mix(Mix(critic="numbers", selections=[MIX.selections[0]]), store=store)
    assert found["samples"] == plan.samples
    taken = run(*baked)
    assert "--overwrite" in str(taken.exception)
    mix = tmp_path / "mix.yaml"
    mix.write_text(yaml.safe_dump({"store": store.root, "critic": "numbers"}))
    done = run(*baked, "--overwrite", "--mix", mix, "--samples", 90, "--holdout", 0.2)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["samples"] == 90


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "parquet", "--baked"], "--format mds"),
        (["--format", "mds", "--baked"], "--tokenizer"),
        (["--format", "mds", "--tokenizer", "x"], "--baked"),
        (["--format", "mds", "--baked", "--tokenizer", "x", "--mix", "m", "--where", "true"],
         "the mix says"),
    ],
)  # fmt: skip
def test_materialize_with_conflicting_options_raises(arguments, said):
    done = CliRunner().invoke(build(), ["export", "out", *arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("\u2502", "").split())
