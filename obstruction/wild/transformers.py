"""Transformers with one score, from the configurations of their packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from obstruction.wild.architecture import Exact, Zoo
from obstruction.wild.examples import behind_gains, behind_norm, head, images, numbers
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
_SMOL: Final = {
    **_TINY,
    "hidden_size": 576,
    "num_hidden_layers": 1,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
}
_QWEN3: Final = {
    **_TINY,
    "hidden_size": 1024,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
}
_GPT2: Final = {
    "vocab_size": _VOCABULARY,
    "n_layer": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
_OPT: Final = {"vocab_size": _VOCABULARY, "num_hidden_layers": 1, "pad_token_id": 0}
_BERT: Final = {
    **_TINY,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "intermediate_size": 512,
}
_DISTILBERT: Final = {
    "vocab_size": _VOCABULARY,
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 128,
}
_DEBERTA: Final = {**_TINY, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_QWEN2: Final = {
    **_TINY,
    "hidden_size": 896,
    "num_hidden_layers": 1,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
}


def _normal_head(width: int) -> Exact:
    """Return the exact value of a score with weights of 0.02 behind a norm with gains of 1."""
    return behind_gains("normal", 0.02, width)


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


_SMALL: Final = "64 wide, 2 layers"

# name, class of the model, class of its configuration, note, options, exact value
_SCORES: Final[tuple[tuple[str, str, str, dict[str, Any], Exact | None], ...]] = (
    ("llama", "Llama", "widths of SmolLM-135M, 1 of 30 layers", _SMOL, None),
    ("qwen2", "Qwen2", "widths of the model with 0.5 billion, 1 of 24 layers", _QWEN2, None),
    ("qwen3", "Qwen3", "widths of the model with 0.6 billion, 1 of 28 layers", _QWEN3, None),
    ("gemma", "Gemma", _SMALL, {**_GROUPED, "head_dim": 16}, None),
    ("deepseek_v3", "DeepseekV3", f"{_SMALL}, 4 experts", _LATENT, None),
    ("gpt2", "GPT2", "768 wide as shipped, 1 of 12 layers", _GPT2, _normal_head(768)),
    ("opt", "OPT", "768 wide as the smallest, 1 of 12 layers", _OPT, _normal_head(768)),
    ("bert", "Bert", "128 wide, 2 layers as the smallest", _BERT, None),
    ("distilbert", "DistilBert", _SMALL, _DISTILBERT, head("normal_002", 64, 64)),
    ("deberta_v2", "DebertaV2", _SMALL, _DEBERTA, None),
)

for _name, _class, _note, _options, _exact in _SCORES:
    LANGUAGE.add(
        f"transformers/{_name}",
        _tokens(),
        f"one score, {_note}, a vocabulary of 64",
        exact=_exact,
        most=200 if _options in (_SMOL, _QWEN2, _QWEN3) else None,  # millions of weights each
    )(
        lambda made=_class, options=_options: configured(
            f"{made}ForSequenceClassification", f"{made}Config", options
        )
    )

LANGUAGE.add(
    "transformers/mamba", _tokens(), "768 wide as the smallest, 1 of 24 layers, a vocabulary of 64"
)(
    lambda: configured(
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": _VOCABULARY, "hidden_size": 768, "num_hidden_layers": 1},
    )
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
        exact=_normal_head(384) if _name == "vit" else None,
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

    ZOO.add(
        f"vit-pytorch/{_module}",
        images(32),
        "one output, 64 wide, 2 layers, 32 x 32",
        exact=None if _module == "cait" else behind_norm(64),
    )(
        lambda module=_module, made=_class, options=_options: getattr(
            library(f"vit_pytorch.{module}"), made
        )(**_SIZE, **options)
    )
