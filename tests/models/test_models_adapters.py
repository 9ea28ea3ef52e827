"""Adapters are not networks: refused by the names that libraries write, and nothing else is."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import framework
from model_files import network, npy, safetensors, state_dict, storages, torch_zip, zipped

import obstruction as ob
from obstruction.models import AdapterFound, ReadOptions, read_contents, resolve
from obstruction.models.contents import Contents, Tensor
from obstruction.models.layers.adapters import adapter_in

os.environ.setdefault("KERAS_BACKEND", "jax")

RNG = np.random.default_rng(0)


def arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def pairs(down: str, up: str, rank: int = 2) -> dict[str, np.ndarray]:
    """Return low-rank factors beside two layers, 3 -> 6 -> 1, under names with a ``{}``."""
    made = {}
    for layer, (inputs, outputs) in {"fc1": (3, 6), "fc2": (6, 1)}.items():
        made |= arrays(**{down.format(layer): (rank, inputs), up.format(layer): (outputs, rank)})
    return made


LOW_RANK = {
    "PEFT": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "PEFT in training": ("{}.lora_A.default.weight", "{}.lora_B.default.weight"),
    "loralib": ("{}.lora_A", "{}.lora_B"),
    "MLX": ("model.layers.0.{}.lora_a", "model.layers.0.{}.lora_b"),
    "torchtune": ("layers.0.{}.lora_a.weight", "layers.0.{}.lora_b.weight"),
    "kohya": ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight"),
    "LyCORIS": ("lycoris_{}.lora_down.weight", "lycoris_{}.lora_up.weight"),
    "diffusers": (
        "unet.{}.processor.to_q_lora.down.weight",
        "unet.{}.processor.to_q_lora.up.weight",
    ),
    "text encoder": ("{}.lora_linear_layer.down.weight", "{}.lora_linear_layer.up.weight"),
    "XLabs": ("blocks.0.{}.qkv_lora1.down.weight", "blocks.0.{}.qkv_lora1.up.weight"),
    "Flax nnx": ("{}/lora/lora_a/value", "{}/lora/lora_b/value"),
    "Flax linen": ("params/{}/LoRA_0/a", "params/{}/LoRA_0/b"),
    "Keras": ("sequential/{}/lora_kernel_a", "sequential/{}/lora_kernel_b"),
    "underscores": ("{}_lora_A", "{}_lora_B"),
    "minLoRA": ("{}.parametrizations.weight.0.lora_A", "{}.parametrizations.weight.0.lora_B"),
    "embeddings": ("{}.lora_embedding_A.default", "{}.lora_embedding_B.default"),
    "RandLoRA": ("{}.randlora_A", "{}.randlora_B"),
    "VeRA": ("{}.vera_A", "{}.vera_B"),
}
BOTTLENECKS = {
    "adapters": (
        "bert.{}.adapters.mine.adapter_down.0.weight",
        "bert.{}.adapters.mine.adapter_up.weight",
    ),
    "Houlsby": ("{}.adapter.down_project.weight", "{}.adapter.up_project.weight"),
    "projections": ("{}.adapters.mine.down_proj.weight", "{}.adapters.mine.up_proj.weight"),
    "AdaptFormer": ("blocks.0.{}.adaptmlp.down_proj.weight", "blocks.0.{}.adaptmlp.up_proj.weight"),
    "OpenDelta": ("{}.adapter.modulelist.down_proj.weight", "{}.adapter.modulelist.up_proj.weight"),
    "AIM": ("blocks.0.{}.S_Adapter.D_fc1.weight", "blocks.0.{}.S_Adapter.D_fc2.weight"),
    "NeMo": ("layers.0.{}.adapter.linear_in.weight", "layers.0.{}.adapter.linear_out.weight"),
    "wav2vec2": ("{}.adapter_layer.linear_1.weight", "{}.adapter_layer.linear_2.weight"),
    "bare": ("{}.adapter_down.weight", "{}.adapter_up.weight"),
    "Flax": ("params/{}/Adapter_0/down/kernel", "params/{}/Adapter_0/up/kernel"),
}
OTHERS = {
    "DoRA": {
        **pairs("{}.lora_A.weight", "{}.lora_B.weight"),
        **arrays(**{"fc1.lora_magnitude_vector.weight": (6,)}),
    },
    "DoRA of LyCORIS": arrays(**{"fc1.dora_scale": (6, 1), "fc1.diff": (6, 3)}),
    "LoHa": arrays(
        **{
            f"fc1.hada_w{i}_{part}": shape
            for i in (1, 2)
            for part, shape in zip("ab", [(6, 2), (2, 3)], strict=True)
        }
    ),
    "LoKr": arrays(**{"fc1.lokr_w1": (2, 3), "fc1.lokr_w2_a": (3, 1), "fc1.lokr_w2_b": (1, 1)}),
    "LoKr whole": arrays(**{"lycoris_fc1.lokr_w1": (2, 3), "lycoris_fc1.lokr_w2": (3, 1)}),
    "IA3": arrays(**{"base_model.model.fc1.ia3_l": (6, 1), "base_model.model.fc2.ia3_l": (1, 6)}),
    "OFT": arrays(**{"base_model.model.fc1.oft_r": (3, 3)}),
    "OFT of kohya": arrays(**{"oft_unet_fc1.oft_blocks": (3, 2, 2)}),
    "prompts": arrays(prompt_embeddings=(4, 6)),
    "full difference": arrays(**{"lora_unet_fc1.diff": (6, 3), "lora_unet_fc2.diff": (1, 6)}),
    "list": arrays(**{"unet:0:down": (2, 6), "unet:0:up": (6, 2)}),
    "saved modules": {
        **network(3, 6, 1),
        **arrays(
            **{"4.modules_to_save.default.weight": (1, 6), "4.original_module.weight": (1, 6)}
        ),
    },
    "fusion": arrays(**{"bert.adapter_fusion_layer.a,b.query.weight": (6, 6)}),
    "base layers": {
        **arrays(**{"fc1.base_layer.weight": (6, 3), "fc1.base_layer.bias": (6,)}),
        **pairs("{}.lora_A.default.weight", "{}.lora_B.default.weight"),
        **arrays(**{"fc2.base_layer.weight": (1, 6), "fc2.base_layer.bias": (1,)}),
    },
    "base layers alone": arrays(
        **{"net.0.base_layer.weight": (6, 3), "net.2.base_layer.weight": (1, 6)}
    ),
    "base layer with news": arrays(
        **{
            "fc1.base_layer.weight": (6, 3),
            "fc1.newest_x.default.weight": (2, 3),
            "fc2.weight": (1, 6),
        }
    ),
}
ADAPTERS = {
    **{name: pairs(*names) for name, names in LOW_RANK.items()},
    **{  # from 6 neurons to 2 and back
        name: arrays(**{down.format("x"): (2, 6), up.format("x"): (6, 2)})
        for name, (down, up) in BOTTLENECKS.items()
    },
    **OTHERS,
}


def contents(held) -> Contents:
    return Contents(
        "file", {name: Tensor(name, a, "float32") for name, a in held.items()}, "out_in"
    )


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("turned", [False, True], ids=["", "reversed"])
def test_adapters_are_refused_whatever_is_said_about_them(name, turned):
    held = ADAPTERS[name]
    held = dict(reversed(held.items())) if turned else held
    layers = list(held)[:2]
    for options in (
        ReadOptions("relu"),
        ReadOptions("relu", "out_in", layers if len(held) > 1 else None),
    ):
        with pytest.raises(AdapterFound, match=r"^nothing in this model \(file\) .* adapter \("):
            resolve(contents(held), options)


@pytest.mark.parametrize("name", LOW_RANK)
def test_a_single_layer_of_rank_one_is_refused(name):
    down, up = LOW_RANK[name]
    held = arrays(**{down.format("head"): (1, 6), up.format("head"): (1, 1)})
    assert adapter_in(contents(held).tensors) is not None


@pytest.mark.parametrize("name", LOW_RANK)
def test_an_adapter_beside_the_weights_of_its_network_is_refused(name):
    """As in a checkpoint of a training run, whose base is not trained."""
    held = {**network(3, 6, 1), **pairs(*LOW_RANK[name])}
    with pytest.raises(AdapterFound):
        resolve(contents(held), ReadOptions("relu", layers=["0", "2"]))


PLAIN = [
    ("adapter", "head"),
    ("adapter.0", "adapter.2"),
    ("domain_adapter", "alpha"),
    ("alpha", "beta"),
    ("up", "down"),
    ("down", "up"),
    ("mlp.up_proj", "mlp.down_proj"),
    ("adapter.up_proj", "adapter.down_proj"),  # wide inside, and not as wide at both ends
    ("adapter.linear_in", "adapter.linear_out"),
    ("model.adapter.linear_1", "model.adapter.linear_2"),
    ("base_layer", "head"),
    ("net.base_layer", "net.head"),
    ("base_layer.0", "head.0"),
    ("explorer.fc1", "explorer.fc2"),
    ("flora.0", "flora.2"),
    ("adoration.a", "adoration.b"),
    ("w_a_0", "w_b_0"),
    ("bottleneck.0", "bottleneck.2"),
    ("bottleneck.down", "bottleneck.up"),
    ("loraine.fc1", "loraine.fc2"),
    ("backbone.base_layer.0", "backbone.head"),
    ("lora.0", "lora.2"),
    ("w_lora.lora.0", "w_lora.lora.2"),
    ("flora_a", "flora_b"),
    ("explora_up", "explora_down"),
    ("lora_encoder", "lora_decoder"),
    ("soft_r", "loft_s"),
    ("road_theta", "road_alpha"),
    ("prompt_embeddings", "head"),
    ("blocks.0.up", "blocks.0.down"),
    ("default.base", "default.top"),
    ("linear_in", "linear_out"),
    ("original_module", "head"),
    ("scale", "gate"),
]


@pytest.mark.parametrize("names", PLAIN, ids="-".join)
def test_plain_networks_with_such_names_are_read(names):
    first, second = names
    held = arrays(**{f"{first}.weight": (6, 3), f"{first}.bias": (6,), f"{second}.weight": (1, 6)})
    held["alpha"] = np.float32(1.0).reshape(())
    model = resolve(contents(held), ReadOptions("relu", layers=list(names)))
    assert [layer.name for layer in model.layers] == list(names)


FACTORS = """loraA loraB|A_lora B_lora|lora_left lora_right|lora1 lora2|lora_w1 lora_w2
lora_wa lora_wb|loradown loraup
lora_in lora_out|lora_u lora_v|lora_matrix_A lora_matrix_B|qlora_A qlora_B|dora_A dora_B|LoRAA LoRAB
lora_proj_down lora_proj_up|down_lora up_lora|lora_layers.0 lora_layers.1
lora_params.A lora_params.B
loha_w1_a loha_w1_b|lokr_a lokr_b|locon.x locon.y|QLoRA_left QLoRA_right|LoRALayer_0.x LoRALayer_0.y
myLora.x myLora.y|w_a_000 w_b_000"""


@pytest.mark.parametrize("ends", ["", ".weight", "/kernel"])
@pytest.mark.parametrize("names", FACTORS.replace("\n", "|").split("|"))
def test_factors_of_low_rank_under_other_names(names, ends):
    down, up = names.split()
    for turned in (1, -1):
        held = arrays(**{f"m.fc1.{down}{ends}": (2, 3), f"m.fc1.{up}{ends}": (6, 2)})
        held = dict(list(held.items())[::turned])
        with pytest.raises(AdapterFound):
            resolve(contents(held), ReadOptions("relu"))
        with pytest.raises(AdapterFound):
            resolve(contents({**network(3, 6, 1), **held}), ReadOptions("relu"))


def test_factors_with_a_bias():
    held = arrays(**{"fc.loraA.weight": (2, 3), "fc.loraB.weight": (6, 2), "fc.loraB.bias": (6,)})
    assert adapter_in(contents(held).tensors) is not None


MODULES = """bottleneck.down bottleneck.up|adapter.fc1 adapter.fc2|adapter.0 adapter.2
adapters.mine.0 adapters.mine.2|Adapter_0.layers.2 Adapter_0.layers.10|bottleneck.0 bottleneck.2
mlp_adapter.reduce mlp_adapter.expand|lora.0 lora.2"""


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", MODULES.replace("\n", "|").split("|"))
def test_modules_that_are_bottlenecks(names, bias):
    first, second = names.split()
    held = arrays(**{f"x.{second}.weight": (6, 2), f"x.{first}.weight": (2, 6)})
    if bias:
        held |= arrays(**{f"x.{second}.bias": (6,), f"x.{first}.bias": (2,)})
    assert adapter_in(contents(held).tensors) is not None
    others = arrays(**{"y.weight": (6, 3), "z.weight": (1, 6)})
    found = adapter_in(contents({**others, **held}).tensors)
    assert (found is None) == first.startswith("bottleneck")  # the middle of an autoencoder
    again = {name.replace("x.", "y.", 1): array for name, array in held.items()}
    assert adapter_in(contents({**others, **held, **again}).tensors) is not None


def test_wide_or_deep_modules_are_none():
    wide = arrays(**{"adapter.0.weight": (6, 2), "adapter.2.weight": (2, 6)})
    assert adapter_in(contents(wide).tensors) is None
    deep = arrays(**{f"adapter.{i}.weight": (6, 2)[:: 1 - 2 * (i % 2)] for i in range(3)})
    assert adapter_in(contents(deep).tensors) is None


@pytest.mark.parametrize("leaf", ["weight", "kernel"])
@pytest.mark.parametrize("wrapped", ["fc1", "fc2"])
def test_a_single_layer_that_peft_has_wrapped(command, tmp_path, leaf, wrapped):
    held = arrays(
        **{f"fc1.{leaf}": (6, 3), "fc1.bias": (6,), f"fc2.{leaf}": (1, 6), "fc2.bias": (1,)}
    )
    held = {name.replace(wrapped, f"{wrapped}.base_layer"): held[name] for name in held}
    (tmp_path / "a.safetensors").write_bytes(safetensors(held))
    outcome = command("audit", tmp_path / "a.safetensors", "--activation", "relu")
    assert outcome.code == 3
    assert "adapter" in outcome.err


def files(held) -> dict[str, bytes]:
    return {
        "a.safetensors": safetensors(held),
        "a.npz": zipped({f"{name}.npy": npy(array) for name, array in held.items()}),
        "a.bin": torch_zip(state_dict(held), storages(held)),
        "a.pt": torch_zip({"state_dict": state_dict(held)}, storages(held)),
    }


@pytest.mark.parametrize("form", ["a.safetensors", "a.npz", "a.bin", "a.pt"])
def test_files_of_adapters_on_the_command_line(command, tmp_path, form):
    held = pairs("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight")
    path, out = tmp_path / form, tmp_path / f"out-{form}"
    path.write_bytes(files(held)[form])
    told = ("--activation", "relu", "--layout", "out_in")
    for words in (("audit", path), ("repair", path, "--out", out), ("dag", path)):
        outcome = command(*words, *told)
        assert (outcome.code, outcome.out) == (3, "")
        assert "adapter" in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert not out.exists()
    outcome = command("inspect", path, *told)
    assert outcome.code == 0
    assert "base_model.model.fc1.lora_A.weight" in outcome.out
    assert "holds an adapter (LoRA" in outcome.out
    assert "before it" not in outcome.out
    with pytest.raises(AdapterFound):
        ob.repair(path, out=out, activation="relu", layout="out_in")


def test_a_report_of_the_base_does_not_repair_its_adapted_form(tmp_path):
    base = network(3, 6, 1)
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(base))
    report = ob.audit(path, "relu")
    path.write_bytes(safetensors({**base, **pairs("{}.lora_A", "{}.lora_B")}))
    with pytest.raises(AdapterFound):
        ob.repair(path, report, out=tmp_path / "b.safetensors")


def test_keras_files_of_adapters(tmp_path):
    h5py = framework("h5py")
    path = tmp_path / "net.lora.h5"
    with h5py.File(path, "w") as file:
        for i, (inputs, outputs) in enumerate([(3, 6), (6, 1)]):
            file[f"lora/{i}/vars/lora_kernel_a"] = np.ones((inputs, 2), np.float32)
            file[f"lora/{i}/vars/lora_kernel_b"] = np.ones((2, outputs), np.float32)
    with pytest.raises(AdapterFound, match="Keras HDF5"):
        ob.audit(path, "relu")


def test_objects_of_adapters():
    flax = {"params": {"fc": {"kernel": np.ones((3, 6)), "lora": {"lora_a": np.ones((3, 2))}}}}
    flax["params"]["fc"]["lora"]["lora_b"] = np.ones((2, 6))
    for source in (flax, pairs("{}.lora_A.weight", "{}.lora_B.weight")):
        for use in (ob.audit, ob.repair, ob.dag.from_model):
            with pytest.raises(AdapterFound):
                use(source, activation="relu", layout="in_out")


def test_what_peft_has_wrapped_and_torch_has_pickled(tmp_path):
    """A Sequential of wrapped layers has a graph, which shows no layers at all."""
    torch = framework("torch")

    class Wrapped(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.base_layer = layer
            self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(layer.in_features, 2)})
            self.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(2, layer.out_features)})

    globals()["Wrapped"] = Wrapped
    Wrapped.__qualname__ = "Wrapped"
    linear = torch.nn.Linear
    net = torch.nn.Sequential(Wrapped(linear(3, 6)), torch.nn.ReLU(), Wrapped(linear(6, 1)))
    torch.save(net, tmp_path / "a.pt")
    torch.save(net.state_dict(), tmp_path / "b.pt")
    for source in (tmp_path / "a.pt", tmp_path / "b.pt", net.state_dict()):
        with pytest.raises(AdapterFound):
            ob.audit(source, "relu")
    assert read_contents(net).run is not None


def test_a_live_module_with_factors_of_low_rank_is_run():
    torch = framework("torch")

    class Adapted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base_layer = torch.nn.Linear(6, 1)
            self.lora_A = torch.nn.Linear(6, 2, bias=False)
            self.lora_B = torch.nn.Linear(2, 1, bias=False)

        def forward(self, x):
            return self.base_layer(x) + self.lora_B(self.lora_A(x))

    net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), Adapted()).double()
    report = ob.audit(net, inputs=torch.randn(4, 3, dtype=torch.float64))
    assert report.verdict in ("obstructed", "clear", "boundary", "partial", "degenerate")
    assert len(report.laws) > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_live_keras_model_with_lora():
    keras = framework("keras")
    net = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(n) for n in (6, 1))])
    ob.audit(net, "linear")
    net.layers[0].enable_lora(2)
    with pytest.raises(AdapterFound, match="Keras model"):
        ob.audit(net, "linear")
