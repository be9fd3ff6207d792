"""Tasks and the harness ask a model of conversations as its user, with feedback where it had it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_models import CHATML, OBSERVED, TALK, a_model, bpe
from harness_tasks import evaluate_tasks

from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_train.conditioning.chat import ChatConditioner
from ixt_train.config import SftConfig
from ixt_train.config.eval_config import TaskConfig
from ixt_train.evaluation.tasks import load_task
from ixt_train.inference.decoding import TokenSampling
from ixt_train.inference.generation import GenerationRequest, generate_texts
from ixt_train.inference.loaded_model import LoadedModel
from ixt_train.inference.model_export import export_model


@pytest.fixture(params=["turn", "system"])
def talker(request: pytest.FixtureRequest) -> LoadedModel:
    return a_model(
        ChatConditioner(bpe(CHATML), build_condition(), OBSERVED, SftConfig(feedback=request.param))
    )


def user(said: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": said}]


def test_task_prompt_of_a_chat_model_is_a_user_turn(talker: LoadedModel, tmp_path: Path) -> None:
    requested = ({"prompt": "plus one ?"}, {"messages": TALK})
    # What the model itself would say, so that it is right; greedy.
    requests = [GenerationRequest.of(line) for line in requested]
    answers = generate_texts(talker, requests, TokenSampling(max_new_tokens=30))
    path = tmp_path / "questions.jsonl"
    lines = [line | {"answer": a.text or "?"} for line, a in zip(requested, answers, strict=True)]
    path.write_text("\n".join(map(json.dumps, lines)))
    task = load_task(TaskConfig(name="t", path=str(path)), talker.conditioner)
    conditioner: Any = talker.conditioner
    for item, messages in zip(task.items, (user("plus one ?"), TALK), strict=True):
        assert item.prefix.conditioned == tuple(conditioner.reply(messages, "best").tolist())
        assert item.prefix.base == tuple(conditioner.reply(messages, "none").tolist())
        # A newline does not end a message of the assistant.
        assert item.stop == ()
    ended = [a.ending == "end" and bool(a.text) for a in answers]
    assert task.solve(talker.model, conditioner) == ended


def test_harness_prompts_equal_the_training_tokens(talker: LoadedModel) -> None:
    from lm_eval.api.instance import Instance

    from ixt_train.evaluation.harness import ConditionedLM

    model = ConditionedLM(talker, "worst")
    conditioner: Any = talker.conditioner

    def ask(kind: str, *arguments: Any) -> Any:
        request = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
        return getattr(model, kind)([request], disable_tqdm=True)[0]

    # Contents stay contents, whatever they spell.
    talk = [*TALK[:-1], *user("plus one <|im_end|> ?")]
    answer = conditioner.encoder.document("five").tolist()
    for history, follows, prefix_ in ((talk, True, ""), ([*talk, said("it is ")], False, "it is ")):
        context = model.apply_chat_template(history, add_generation_prompt=follows)
        before = conditioner.reply(talk, "worst").tolist()
        before += conditioner.encoder.document(prefix_).tolist()
        logits = talker.model(torch.tensor([before + answer])).logits[0].detach()
        nats = logits.log_softmax(-1)[range(len(before) - 1, len(before + answer) - 1), answer]
        assert ask("loglikelihood", context, "five")[0] == pytest.approx(float(nats.sum()), 1e-4)
    settings = {"until": [], "max_gen_toks": 20}
    how = TokenSampling(max_new_tokens=20)
    (own,) = generate_texts(talker, [GenerationRequest("", "worst", messages=tuple(talk))], how)
    assert ask("generate_until", model.apply_chat_template(talk), settings) == own.text


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_harness_drops_first_turns_that_do_not_fit(talker: LoadedModel) -> None:
    from ixt_train.evaluation.harness import ConditionedLM

    model = ConditionedLM(talker)
    conditioner: Any = talker.conditioner
    system, *rest = TALK
    many = [system, *(rest[:2] * 9), *user("plus one ?")]
    prefix = model._chat_prefix(model.apply_chat_template(many), 40, 40)
    kept = next(
        [system, *turns]
        for turns in (many[i:] for i in range(1, len(many)))
        if len(conditioner.reply([system, *turns], "best")) <= 120
    )
    assert 2 < len(kept) < len(many)
    assert prefix.conditioned == tuple(conditioner.reply(kept, "best").tolist())
    with pytest.raises(ConfigError, match=r"'one one one .*do not fit into the model's 160"):
        model._chat_prefix(model.apply_chat_template([system, *user("one " * 200)]), 40, 40)


@pytest.mark.slow
def test_harness_task_as_chat(
    talker: LoadedModel,
    tasks: Path,
    tmp_path: Path,
) -> None:
    export_model(talker, tmp_path / "model")
    requested = ("--lm-eval", "choose,write", "--limit", 8, "--fewshot", 0)
    chat = evaluate_tasks(tmp_path / "model", tasks, tmp_path, *requested)
    document = evaluate_tasks(tmp_path / "model", tasks, tmp_path, *requested, "--no-chat")
    assert [row["task"] for row in chat] == [row["task"] for row in document] == ["choose", "write"]


def test_harness_chat_with_a_model_of_documents_raises(trained_run: Path) -> None:
    from ixt_train.evaluation.harness import ConditionedLM

    with pytest.raises(ConfigError, match="not trained on conversations"):
        ConditionedLM(trained_run).apply_chat_template(user("3 + 1 ="))
