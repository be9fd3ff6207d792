"""A tiny model of every decoder family of the installed transformers."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
_LATENT = {
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "num_key_value_heads": 4,
}
_EXPERTS = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_FEW_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "codegen": {"rotary_dim": 4},
    "deepseek_v2": _LATENT | _EXPERTS,
    "deepseek_v3": _LATENT | _EXPERTS,
    "dots1": _EXPERTS,
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32},
    "falcon": {"head_dim": None},
    "falcon_h1": _MAMBA | {"mamba_d_ssm": 64},
    "glm4_moe": _EXPERTS,
    "gptj": {"rotary_dim": 4},
    "gpt_oss": _FEW_EXPERTS,
    "granitemoehybrid": _MAMBA | {"layer_types": ["mamba", "attention"]},
    "jamba": {"use_mamba_kernels": False, "mamba_d_state": 4, "num_experts": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": _LATENT
    | {
        "num_layers": 2,
        "n_routed_experts": 4,
        "moe_topk": 2,
        "expert_ffn_hidden_size": 32,
        "ffn_hidden_size": 64,
        "zero_expert_num": 2,
    },
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "qwen2_moe": _FEW_EXPERTS | {"moe_intermediate_size": 32},
    "qwen3_moe": _FEW_EXPERTS | {"moe_intermediate_size": 32},
    "qwen3_next": _FEW_EXPERTS
    | {
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "zamba": {
        "layers_block_type": ["mamba", "hybrid"],
        "use_mamba_kernels": False,
        "n_mamba_heads": 2,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "use_mamba_kernels": False,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_d_state": 4,
        "mamba_ngroups": 1,
    },
}
# Not a decoder of text alone, without a language model of its own, or with packages of their own.
_OTHERS = set(
    """
    aria_text bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small blt
    camembert code_llama cpmant data2vec-text electra emu3 ernie fuyu gemma3 gemma3n git got_ocr2
    llama4 marian mbart mega megatron-bert mllama moshi musicgen musicgen_melody mvp pegasus
    phi4_multimodal plbart prophetnet qdqbert reformer rembert roberta roberta-prelayernorm roc_bert
    roformer speech_to_text_2 transfo-xl trocr whisper xlm xlm-prophetnet xlm-roberta xlm-roberta-xl
    xlnet xmod
    """.split()
)
FAMILIES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - _OTHERS)


def tiny_model(family: str, **changes: Any) -> Any:
    """A model in evaluation mode, with weights large enough that every part of it counts."""
    settings = SIZES | _OWN_SIZES.get(family, {}) | changes
    config = AutoConfig.for_model(family, **{k: v for k, v in settings.items() if v is not None})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.7 / weight.shape[-1] ** 0.5)
    return model
