"""Models of transformers from their configurations, with random weights."""

from __future__ import annotations

from typing import Any

import torch

from .entry import Built, Zoo, images, tokens

ZOO = Zoo("transformers", "5.24.0")

VOCABULARY = 96
_NOTE = "64 to 128 wide, 2 layers, a vocabulary of 96"
_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "pad_token_id": 0,
}
_GROUPED = {**_BASE, "num_key_value_heads": 2}

# class of the model, class of its configuration, options of the configuration
_TEXT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", "BertConfig", _BASE),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", _BASE),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"vocab_size": VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    ),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**_BASE, "embedding_size": 32}),
    "electra": ("ElectraForPreTraining", "ElectraConfig", {**_BASE, "embedding_size": 32}),
    "deberta_v2": (
        "DebertaV2ForTokenClassification",
        "DebertaV2Config",
        {**_BASE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", _BASE),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _BASE),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {**_BASE, "ffn_dim": 128, "word_embed_proj_dim": 64},
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", _BASE),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _GROUPED),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_GROUPED, "head_dim": 16}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_GROUPED, "head_dim": 16}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**_GROUPED, "head_dim": 16}),
    "phi": ("PhiForCausalLM", "PhiConfig", _BASE),
    "mixtral": (
        "MixtralForCausalLM",
        "MixtralConfig",
        {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **_BASE,
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
        },
    ),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": VOCABULARY,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
        },
    ),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            "vocab_size": VOCABULARY,
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
        },
    ),
}


def _configured(model: str, config: str, options: dict[str, Any]) -> Any:
    import transformers

    made = getattr(transformers, config)(**options)
    made.use_cache = False
    made._experts_implementation = "eager"  # products of groups of matrices know no float64
    return getattr(transformers, model)(made)


def _text(name: str) -> Built:
    model, config, options = _TEXT[name]
    inputs = {"input_ids": tokens(VOCABULARY)}
    if name in ("t5", "bart"):
        inputs["decoder_input_ids"] = tokens(VOCABULARY, 8)
    return _configured(model, config, options), inputs


for _name in _TEXT:
    ZOO.add(f"transformers/{_name}", _NOTE)(lambda name=_name: _text(name))

_IMAGES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_SEGFORMER = {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]}
_VISION: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", _IMAGES),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", _IMAGES),
    "dinov3_vit": ("DINOv3ViTModel", "DINOv3ViTConfig", {**_IMAGES, "use_gated_mlp": True}),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        {"hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 2, 1], "image_size": 64},
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"hidden_sizes": [16, 32, 48, 64], "decoder_hidden_size": 32, **_SEGFORMER},
    ),
}


def _vision(name: str) -> Built:
    model, config, options = _VISION[name]
    (pixels,) = images(32 if "patch_size" in options else 64)
    return _configured(model, config, options), {"pixel_values": pixels}


for _name in _VISION:
    ZOO.add(f"transformers/{_name}", "reduced widths, 2 to 5 layers")(
        lambda name=_name: _vision(name)
    )


@ZOO.add("transformers/clip", "both towers 64 wide, 2 layers")
def _clip() -> Built:
    import transformers

    config = transformers.CLIPConfig(
        text_config={**_BASE, "eos_token_id": 95, "max_position_embeddings": 32},
        vision_config=_IMAGES,
        projection_dim=32,
    )
    model = transformers.CLIPModel(config)
    return model, {"input_ids": tokens(VOCABULARY), "pixel_values": images(32)[0]}


@ZOO.add("transformers/wav2vec2", "convolutions 32, encoder 64 wide, 2 layers")
def _wav2vec2() -> Built:
    options = {
        **_BASE,
        "conv_dim": [32, 32, 32],
        "conv_stride": [5, 2, 2],
        "conv_kernel": [10, 3, 3],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_feat_extract_layers": 3,
        "apply_spec_augment": False,
    }
    model = _configured("Wav2Vec2ForCTC", "Wav2Vec2Config", options)
    return model, {"input_values": torch.randn(2, 1600)}


@ZOO.add("transformers/whisper", "64 wide, 2 layers, 40 frames")
def _whisper() -> Built:
    options = {
        "vocab_size": VOCABULARY,
        "num_mel_bins": 16,
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "max_source_positions": 20,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    model = _configured("WhisperForConditionalGeneration", "WhisperConfig", options)
    inputs = {"input_features": torch.randn(2, 16, 40), "decoder_input_ids": tokens(VOCABULARY, 8)}
    return model, inputs


@ZOO.add("transformers/patchtst", "64 wide, 2 layers, 3 channels of 32 steps")
def _patchtst() -> Built:
    options = {
        "num_input_channels": 3,
        "context_length": 32,
        "prediction_length": 8,
        "patch_length": 8,
        "patch_stride": 8,
        "d_model": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "loss": "mse",
    }
    model = _configured("PatchTSTForPrediction", "PatchTSTConfig", options)
    return model, {"past_values": torch.randn(2, 32, 3)}
