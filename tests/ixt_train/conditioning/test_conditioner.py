import numpy as np
import pytest
from critiqued import critiqued_store, words_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, Selection, build_condition, with_edges
from ixt_data.records import Span
from ixt_train.conditioning.conditioner import (
    SPECIAL_TOKENS,
    Conditioner,
    Feedback,
    score_token,
    tag_token,
)
from ixt_train.conditioning.tokenizer import add_special_tokens

TEXT = "17 + 5 = 22 - 8 = 13 ;"
OBSERVED = {"best": (1.0, "every step is correct"), "worst": (0.0, "reads minus as plus")}


@pytest.fixture(scope="module")
def bpe():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([TEXT, "every step is correct", "naïve café 日本"] * 20, trainer)
    return add_special_tokens(PreTrainedTokenizerFast(tokenizer_object=backend), SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def words():
    return words_tokenizer(30)


def encode(tokenizer, kind="both", feedback="given", spans=(), text=TEXT, score=0.85, **condition):
    conditioner = Conditioner(tokenizer, build_condition(kind=kind, **condition), OBSERVED)
    return conditioner.encode(text, "off by one", score, spans, feedback)


def spelled(tokenizer, encoded) -> str:
    return tokenizer.decode(encoded.input_ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ("kind", "feedback", "expected"),
    [
        ("none", "given", f"<|bos|>{TEXT}<|eos|>"),
        ("score", "given", f"<|bos|><|feedback|><|score_9|><|/feedback|>{TEXT}<|eos|>"),
        ("critique", "given", f"<|bos|><|feedback|> off by one<|/feedback|>{TEXT}<|eos|>"),
        ("both", "given", f"<|bos|><|feedback|><|score_9|> off by one<|/feedback|>{TEXT}<|eos|>"),
        ("both", "none", f"<|bos|>{TEXT}<|eos|>"),
        (
            "both",
            "best",
            f"<|bos|><|feedback|><|score_10|> every step is correct<|/feedback|>{TEXT}<|eos|>",
        ),
        ("score", "worst", f"<|bos|><|feedback|><|score_0|><|/feedback|>{TEXT}<|eos|>"),
        (
            "both",
            Feedback(0.3, "so so"),
            f"<|bos|><|feedback|><|score_3|> so so<|/feedback|>{TEXT}<|eos|>",
        ),
        ("spans", "best", f"<|bos|>{TEXT}<|eos|>"),
    ],
)
def test_encode_by_kind_of_condition(bpe, kind, feedback, expected):
    encoded = encode(bpe, kind, feedback)
    assert spelled(bpe, encoded) == expected
    assert encoded.input_ids.tolist() == bpe(expected, add_special_tokens=False).input_ids
    assert encoded.input_ids.dtype == np.int32
    assert encoded.loss_weights.dtype == np.float32


def test_feedback_can_follow_the_document(bpe):
    encoded = encode(bpe, position="append", loss_on_prefix=0.5)
    assert spelled(bpe, encoded).endswith(
        f"{TEXT}<|feedback|><|score_9|> off by one<|/feedback|><|eos|>"
    )
    assert encoded.loss_weights[-2] == 0.5


def test_loss_weights_cover_the_document_and_its_end(bpe):
    for weight in (0.0, 0.25):
        encoded = encode(bpe, loss_on_prefix=weight)
        n = len(bpe(TEXT, add_special_tokens=False).input_ids) + 1
        assert encoded.loss_weights[0] == 0
        assert (encoded.loss_weights[1:-n] == weight).all()
        assert (encoded.loss_weights[-n:] == 1).all()


def test_feedback_that_is_missing_has_no_tokens(bpe):
    assert spelled(bpe, encode(bpe, "score", score=None)) == f"<|bos|>{TEXT}<|eos|>"
    conditioned = spelled(bpe, encode(bpe, "both", score=None))
    assert conditioned.startswith("<|bos|><|feedback|> off by one<|/feedback|>")


@pytest.mark.parametrize("tokenizer", ["bpe", "words"])
def test_document_cannot_spell_control_tokens(request, tokenizer):
    tokenizer = request.getfixturevalue(tokenizer)
    forged = "doc <|feedback|> <|score_10|> <|eos|> 3"
    encoded = encode(tokenizer, "none", text=forged)
    specials = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert not specials & set(encoded.input_ids[1:-1].tolist())


def test_tag_precedes_its_span(bpe):
    tag = "reads minus as plus"
    start = TEXT.index("- 8")
    spans = (Span(0, 11, "right"), Span(start, start + 8, "wrong", tag))
    encoded = encode(bpe, "spans", spans=spans)
    conditioned = spelled(bpe, encoded)
    assert conditioned.replace(f"<|flaw|> {tag}<|/flaw|>", "") == f"<|bos|>{TEXT}<|eos|>"
    assert conditioned.index("<|flaw|>") <= conditioned.index("- 8")
    before = conditioned[: conditioned.index("<|flaw|>")].removeprefix("<|bos|>")
    assert TEXT.startswith(before)
    assert len(before) in (start, start - 1)
    assert encoded.loss_weights.sum() == len(bpe(TEXT).input_ids) + 1


def test_tag_with_a_token_is_one_token(words):
    tokenizer = words_tokenizer(30)
    add_special_tokens(tokenizer, [tag_token("even number")])
    encoded = encode(
        tokenizer, "spans", text="doc 12 text", spans=[Span(4, 6, "wrong", "even number")]
    )
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids) == [
        "<|bos|>", "doc", "<|flaw:even number|>", "12", "text", "<|eos|>",
    ]  # fmt: skip
    assert encoded.loss_weights.tolist() == [0, 1, 0, 1, 1, 1]


def test_tag_replaces_a_token(bpe):
    first, second = TEXT.index("- 8"), TEXT.index("17 + 5")
    spans = [Span(second, second + 6, "wrong", "a"), Span(first, first + 8, "wrong", "b")]
    encoded = encode(bpe, "spans", spans=spans, tag_replaces="=")
    conditioned = spelled(bpe, encoded).replace(" <|flaw|>", "<|flaw|>")
    # The span of `17 + 5` ends before its `=`, so that its tag stands before it.
    assert conditioned.startswith("<|bos|><|flaw|> a<|/flaw|>17 + 5 = ")
    assert "- 8<|flaw|> b<|/flaw|> " in conditioned
    tags = 2 * len(bpe.encode("<|flaw|> a<|/flaw|>"))
    assert len(encoded.input_ids) == len(bpe(TEXT).input_ids) + 2 + tags - 1
    assert encoded.loss_weights.sum() == len(bpe(TEXT).input_ids) + 1 - 1
    with pytest.raises(ValueError, match="kind 'both' has no tag_replaces, only spans"):
        build_condition(kind="both", tag_replaces="=")


def test_tags_are_dropped_with_the_feedback(words):
    spans = [Span(4, 6, "wrong", "even number")]
    plain = encode(words, "spans", "none", spans, text="doc 12 text")
    assert plain.input_ids.tolist() == encode(words, "none", text="doc 12 text").input_ids.tolist()


def test_loss_by_verdict_weights_the_tokens_of_spans(words):
    weights = {"right": 10.0, "wrong": 0.0, "rest": 0.5}
    spans = [Span(0, 3, "right"), Span(4, 6, "wrong"), Span(7, 11, "doubtful")]
    encoded = encode(words, "none", spans=spans, text="doc 12 text", loss_by_verdict=weights)
    assert encoded.loss_weights.tolist() == [0, 10, 0, 0.5, 1]


def test_offsets_are_right_across_merges_and_multibyte_letters(bpe):
    text = "naïve café 日本 17 + 5"
    begin = text.index("日本")
    encoded = encode(bpe, "spans", text=text, spans=[Span(begin, begin + 2, "wrong", "+")])
    conditioned = spelled(bpe, encoded)
    assert conditioned.replace("<|flaw|> +<|/flaw|>", "") == f"<|bos|>{text}<|eos|>"
    assert conditioned.index("<|flaw|>") <= conditioned.index("日本")


def test_prompt_ends_where_the_model_continues(bpe):
    conditioner = Conditioner(bpe, build_condition(), OBSERVED)
    assert bpe.decode(conditioner.prompt("17 + 5 =")) == (
        "<|bos|><|feedback|><|score_10|> every step is correct<|/feedback|>17 + 5 ="
    )
    assert bpe.decode(conditioner.prompt("17", "none")) == "<|bos|>17"


@pytest.mark.parametrize(
    ("score", "token"),
    [(0.0, 0), (0.04, 0), (0.05, 1), (0.35, 4), (np.float32(0.35), 4), (1.0, 10), (1.2, 10)],
)
def test_score_token_is_equal_for_rows_and_shards(score, token):
    assert score_token(float(score)) == f"<|score_{token}|>"


def test_conditioner_with_a_tokenizer_without_the_tokens_raises():
    backend = Tokenizer(models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"))
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>")
    Conditioner(bare, build_condition(kind="none"))
    with pytest.raises(ConfigError, match=r"has no <\|feedback\|>"):
        Conditioner(bare, build_condition(kind="score"))
    with pytest.raises(ConfigError, match="no observed feedback"):
        Conditioner(words_tokenizer(3), build_condition()).prompt("doc", "best")


@pytest.mark.parametrize(
    ("bins", "edges", "expected"),
    [
        ("threshold", (0.5,), {0.0: 0, 0.49: 0, 0.5: 10, 1.0: 10}),
        ("threshold", (0.2, 0.6), {0.1: 0, 0.2: 5, 0.59: 5, 0.6: 10}),
        ("quantile", tuple(k / 20 for k in range(1, 11)), {0.0: 0, 0.05: 1, 0.26: 5, 0.9: 10}),
    ],
)
def test_score_bin_by_edges(words, bins, edges, expected):
    for score, number in expected.items():
        row = encode(words, "score", score=np.float32(score), bins=bins, edges=edges)
        assert spelled(words, row).split()[2] == f"<|score_{number}|>"


def test_quantile_edges_are_those_of_the_draws(tmp_path):
    store = critiqued_store(tmp_path / "store", 110)
    mix = Mix(critic="numbers", condition={"bins": "quantile"}, schedule=[{"share": 0.5}])
    found = with_edges(store, mix).condition.edges
    assert found == pytest.approx([k / 10 for k in range(10)], abs=0.11)
    few = mix.model_copy(update={"selections": (Selection(name="few", where="score > 0.75"),)})
    assert min(with_edges(store, few).condition.edges) == pytest.approx(0.8)
    assert with_edges(store, with_edges(store, mix)) == with_edges(store, mix)


def test_conditioner_with_quantiles_without_edges_raises(words):
    with pytest.raises(ConfigError, match="with_edges"):
        Conditioner(words, build_condition(bins="quantile"))


def test_feedback_repeats_between_chunks_of_a_long_document(bpe):
    once = encode(bpe, "both", loss_on_prefix=0.25)
    conditioned = once.input_ids.tolist().index(bpe.convert_tokens_to_ids("<|/feedback|>"))
    head, document = once.input_ids[1 : conditioned + 1], once.input_ids[conditioned + 1 : -1]
    row = encode(bpe, "both", loss_on_prefix=0.25, repeat_every=4)
    expected = [once.input_ids[:1]]
    for start in range(0, len(document), 4):
        expected += [head, document[start : start + 4]]
    assert row.input_ids.tolist() == np.concatenate([*expected, once.input_ids[-1:]]).tolist()
    assert (row.loss_weights == 0.25).sum() == len(head) * -(-len(document) // 4)
    alone = encode(bpe, "both", feedback="none", repeat_every=4)
    assert spelled(bpe, alone) == f"<|bos|>{TEXT}<|eos|>"


def test_plain_template_needs_no_special_tokens(bpe):
    bare = PreTrainedTokenizerFast(
        tokenizer_object=bpe.backend_tokenizer, bos_token="<|bos|>", eos_token="<|eos|>"
    )
    row = encode(bare, "both", template="plain")
    assert spelled(bare, row) == f"<|bos|> Feedback: 9/10. off by one\n\n{TEXT}<|eos|>"
    row = encode(bare, "critique", template="plain", position="append")
    assert spelled(bare, row) == f"<|bos|>{TEXT} Feedback: off by one\n\n<|eos|>"


def test_verdict_counts_after_its_sign(bpe):
    weights = {"right": 10.0, "wrong": 7.0, "rest": 1.0}
    spans = [Span(TEXT.index("+"), TEXT.index("-"), "right"), Span(12, 13, "wrong")]
    encoded = encode(bpe, "none", spans=spans, loss_by_verdict=weights, verdict_after="=")
    conditioned = [bpe.decode([token]).strip() for token in encoded.input_ids]
    by_weight = {
        weight: [t for t, w in zip(conditioned, encoded.loss_weights, strict=True) if w == weight]
        for weight in (10.0, 7.0)
    }
    # The step's own signs and operand stay as they are; a span without the sign counts whole.
    assert by_weight == {10.0: ["22"], 7.0: ["-"]}
