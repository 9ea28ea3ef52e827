"""Transformers with one score, from the configurations of their packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import images, numbers
from obstruction.wild.libraries import library

ZOO: Final = Zoo("transformers")
LANGUAGE: Final = Zoo("language")

_VOCABULARY: Final = 64
_TINY: Final[dict[str, Any]] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "pad_token_id": 0,
}
_GROUPED: Final = {**_TINY, "num_key_value_heads": 2}
_LATENT: Final = {
    **_TINY,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
# The smallest of the family, 24 layers: 896 wide, 14 heads, 2 of keys, 4,864 in the middle.
_QWEN2: Final = {
    **_TINY,
    "hidden_size": 896,
    "num_hidden_layers": 1,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
}


def configured(model: str, config: str, options: dict[str, Any]) -> Any:
    """Return a model of transformers from the names of its class and of its configuration."""
    package = library("transformers")
    made = getattr(package, config)(**options)
    made.num_labels = 1
    made.use_cache = False
    made._experts_implementation = "eager"  # grouped products of matrices know no float64
    return getattr(package, model)(made)


def _tokens(**more: int) -> Callable[[], dict[str, Any]]:
    """Return a function that returns tokens under the name of each input."""
    lengths = {"input_ids": 8, **more}
    return lambda: {name: numbers(_VOCABULARY, 2, length) for name, length in lengths.items()}


_SMALL_NOTE: Final = "one score, 64 wide, 2 layers, a vocabulary of 64"

for _name, _model, _config, _options, _note in (
    ("llama", "LlamaForSequenceClassification", "LlamaConfig", _GROUPED, _SMALL_NOTE),
    (
        "mistral",
        "MistralForSequenceClassification",
        "MistralConfig",
        {**_GROUPED, "head_dim": 16},
        _SMALL_NOTE,
    ),
    (
        "qwen2",
        "Qwen2ForSequenceClassification",
        "Qwen2Config",
        _QWEN2,
        "one score, widths of the model with 0.5 billion, 1 of 24 layers, a vocabulary of 64",
    ),
    (
        "qwen3",
        "Qwen3ForSequenceClassification",
        "Qwen3Config",
        {**_GROUPED, "head_dim": 16},
        _SMALL_NOTE,
    ),
    (
        "gemma",
        "GemmaForSequenceClassification",
        "GemmaConfig",
        {**_GROUPED, "head_dim": 16},
        _SMALL_NOTE,
    ),
    (
        "deepseek_v3",
        "DeepseekV3ForSequenceClassification",
        "DeepseekV3Config",
        _LATENT,
        f"{_SMALL_NOTE}, 4 experts",
    ),
    (
        "mixtral",
        "MixtralForSequenceClassification",
        "MixtralConfig",
        {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
        f"{_SMALL_NOTE}, 4 experts",
    ),
    (
        "gpt2",
        "GPT2ForSequenceClassification",
        "GPT2Config",
        {
            "vocab_size": _VOCABULARY,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "pad_token_id": 0,
        },
        _SMALL_NOTE,
    ),
    (
        "opt",
        "OPTForSequenceClassification",
        "OPTConfig",
        {**_TINY, "ffn_dim": 128, "word_embed_proj_dim": 64},
        _SMALL_NOTE,
    ),
    ("bert", "BertForSequenceClassification", "BertConfig", _TINY, _SMALL_NOTE),
    ("roberta", "RobertaForSequenceClassification", "RobertaConfig", _TINY, _SMALL_NOTE),
    (
        "distilbert",
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"vocab_size": _VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
        _SMALL_NOTE,
    ),
    (
        "deberta_v2",
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**_TINY, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        _SMALL_NOTE,
    ),
    (
        "electra",
        "ElectraForPreTraining",
        "ElectraConfig",
        {**_TINY, "embedding_size": 32},
        _SMALL_NOTE,
    ),
    (
        "mamba",
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": _VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
        "32 wide, 2 layers, a vocabulary of 64",
    ),
):
    LANGUAGE.add(f"transformers/{_name}", _tokens(), _note)(
        lambda model=_model, config=_config, options=_options: configured(model, config, options)
    )

LANGUAGE.add(
    "transformers/t5",
    _tokens(decoder_input_ids=6),
    "512 wide as shipped, 1 of 6 layers, a vocabulary of 64",
)(
    lambda: configured(
        "T5ForConditionalGeneration", "T5Config", {"vocab_size": _VOCABULARY, "num_layers": 1}
    )
)

_IMAGES: Final[dict[str, Any]] = {
    "image_size": 32,
    "patch_size": 16,
    "hidden_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
}

for _name, _model, _config, _options, _note in (
    ("vit", "ViTForImageClassification", "ViTConfig", _IMAGES, "one score"),
    (
        "dinov2",
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {k: v for k, v in _IMAGES.items() if k != "intermediate_size"},
        "one score",
    ),
    ("dinov3_vit", "DINOv3ViTModel", "DINOv3ViTConfig", _IMAGES, "features"),
):
    ZOO.add(
        f"transformers/{_name}",
        lambda: {"pixel_values": images(32)()},
        f"{_note}, 384 wide, 2 of 12 layers, 32 x 32",
    )(lambda model=_model, config=_config, options=_options: configured(model, config, options))

_SIZE: Final[dict[str, Any]] = {
    "image_size": 32,
    "patch_size": 8,
    "num_classes": 1,
    "dim": 64,
    "depth": 2,
    "heads": 4,
    "mlp_dim": 128,
}

for _name, _options in (
    ("vit.ViT", {}),
    ("simple_vit.SimpleViT", {}),
    ("cait.CaiT", {"cls_depth": 1}),
    ("deepvit.DeepViT", {}),
    ("parallel_vit.ViT", {"num_parallel_branches": 2}),
):
    _module, _class = _name.split(".")

    ZOO.add(f"vit-pytorch/{_module}", images(32), "one output, 64 wide, 2 layers, 32 x 32")(
        lambda module=_module, made=_class, options=_options: getattr(
            library(f"vit_pytorch.{module}"), made
        )(**_SIZE, **options)
    )
