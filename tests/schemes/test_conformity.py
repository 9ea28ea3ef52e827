"""Real layers of the installed frameworks against the schemes that bear their names.

Many layers of each framework are drawn and pooled. Weights and biases of both layers must have the
mean, mean square, third and fourth moment of the scheme within `SIGMAS` standard errors, respect
the law's bound and come as close to it as so many draws do, and be zero where the scheme says so.
Five standard errors make one comparison of a right scheme fail once in 1.7 million; the largest
weight fails once in 5 million (`RARE`). There are some 600 comparisons and all seeds are fixed.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import scipy.stats
from conftest import framework

import obstruction as ob
from obstruction.schemes import LayerRule, scheme_names, scheme_origin
from obstruction.schemes.laws import CONSTANT

D, L = 24, 300
SIGMAS = 5.0
RARE = 1e-7

STANDARD = {
    "normal": scipy.stats.norm(),
    "uniform": scipy.stats.uniform(-math.sqrt(3.0), 2.0 * math.sqrt(3.0)),
    "truncated_normal": scipy.stats.truncnorm(
        -2.0, 2.0, scale=1.0 / scipy.stats.truncnorm(-2, 2).std()
    ),
}

Draws = dict[str, np.ndarray | None]


# --- the yardstick ------------------------------------------------------------------------------


@cache
def moment(law: str, order: int) -> float:
    return float(STANDARD[law].moment(order))


def misfits(
    name: str,
    rule: LayerRule | None,
    fans: tuple[int, int],
    x: np.ndarray | None,
    leak: float = 0.0,
) -> list[str]:
    """Say in what a tensor differs from its rule, of which a share may leak over the bound."""
    if rule is None or x is None:
        return [] if rule is None and x is None else [f"{name}: one has it and the other not"]
    x = np.asarray(x, dtype=np.float64).ravel()
    n = x.size
    std = math.sqrt(rule.variance(*(np.float64(fan) for fan in fans)))
    if std == 0.0 or rule.law == CONSTANT:
        return [] if np.all(x == std) else [f"{name}: not always {std}"]
    law, x = STANDARD[rule.law.name], x / std
    found = []
    for order in (1, 2, 3, 4):
        mean = 0.0 if order % 2 else moment(rule.law.name, order)
        error = math.sqrt((moment(rule.law.name, 2 * order) - mean**2) / n)
        off = (np.mean(x**order) - mean) / error
        if abs(off) > SIGMAS:
            found.append(f"{name}: moment {order} is {off:+.1f} standard errors off")
    bound = rule.law.bound * (1.0 + 1e-6)  # float32
    beyond = np.count_nonzero(np.abs(x) > bound)
    if beyond > (scipy.stats.binom.isf(RARE, n, leak) if leak else 0):
        found.append(f"{name}: {beyond} sizes above {bound:.5g}")
    largest = np.abs(x[np.abs(x) <= bound]).max(initial=0.0)
    low, high = law.ppf((1.0 + np.exp(np.log([RARE, 1.0 - RARE]) / n)) / 2.0)
    if not low <= largest <= high * (1.0 + 1e-6):
        found.append(f"{name}: largest size {largest:.5g}, not in [{low:.5g}, {high:.5g}]")
    zeros = np.count_nonzero(x == 0.0)
    if zeros > 3:  # float32 from 23 bits: once in 8 million
        found.append(f"{name}: {zeros} zeros")
    return found


def differences(scheme: ob.InitScheme, draws: Draws, leak: float = 0.0) -> list[str]:
    """Say in what the draws of networks differ from a scheme."""
    places = {
        "W1": (scheme.hidden, (D, L)),
        "b1": (scheme.bias, (D, L)),
        "W2": (scheme.output, (L, 1)),
        "b2": (scheme.bias, (L, 1)),
    }
    assert draws.keys() >= {"W1", "b1", "W2"}
    return [text for name, x in draws.items() for text in misfits(name, *places[name], x, leak)]


def drawn_here(scheme: ob.InitScheme, seed: int = 0, draws: int = 30) -> Draws:
    """The networks of a scheme by NumPy's generator."""
    generator = np.random.default_rng(seed)

    def tensor(rule: LayerRule | None, fan_in: int, fan_out: int, size: int):
        if rule is None:
            return None
        std = math.sqrt(rule.variance(np.float64(fan_in), np.float64(fan_out)))
        if std == 0.0 or rule.law == CONSTANT:
            return np.full(size, std)
        return std * STANDARD[rule.law.name].rvs(size, random_state=generator)

    return {
        "W1": tensor(scheme.hidden, D, L, draws * D * L),
        "b1": tensor(scheme.bias, D, L, draws * L),
        "W2": tensor(scheme.output, L, 1, draws * L),
        "b2": tensor(scheme.bias, L, 1, draws),
    }


def pooled(networks: list[Draws]) -> Draws:
    """Join the tensors of many networks."""
    joined: Draws = {}
    for name in networks[0]:
        parts = [network[name] for network in networks]
        joined[name] = None if parts[0] is None else np.concatenate([np.ravel(p) for p in parts])
    return joined


# --- PyTorch ------------------------------------------------------------------------------------


def torch_networks(change: Callable | None = None, *, bias: bool = True, draws: int = 60) -> Draws:
    torch = framework("torch")
    torch.manual_seed(1)
    networks = []
    with torch.no_grad():
        for _ in range(draws):
            layers = torch.nn.Linear(D, L, bias=bias), torch.nn.Linear(L, 1, bias=bias)
            if change is not None:
                change(torch.nn.init, *layers)
            networks.append(torch_tensors(*layers))
    return pooled(networks)


def torch_tensors(hidden, output) -> Draws:
    def array(tensor):
        return None if tensor is None else tensor.detach().numpy().copy()

    return {
        "W1": array(hidden.weight),
        "b1": array(hidden.bias),
        "W2": array(output.weight),
        "b2": array(output.bias),
    }


def torch_init(function: str, *, bias: bool = True, **options) -> Callable[[], Draws]:
    def change(init, hidden, output):
        for layer in (hidden, output):
            getattr(init, function)(layer.weight, **options)

    return lambda: torch_networks(change, bias=bias)


def torch_zero_bias() -> Draws:
    def change(init, hidden, output):
        init.zeros_(hidden.bias)
        init.zeros_(output.bias)

    return torch_networks(change)


def torch_gains() -> Draws:
    def change(init, hidden, output):
        init.xavier_normal_(hidden.weight, gain=init.calculate_gain("relu"))
        init.xavier_normal_(output.weight, gain=0.5)

    return torch_networks(change)


def torch_zero_output() -> Draws:
    return torch_networks(lambda init, hidden, output: init.zeros_(output.weight))


def torch_bert() -> Draws:
    """What BERT's ``_init_weights`` does to a linear layer."""

    def change(init, hidden, output):
        for layer in (hidden, output):
            init.normal_(layer.weight, mean=0.0, std=0.02)
            init.zeros_(layer.bias)

    return torch_networks(change)


def mup_networks(*, base: int, output_mult: float, effective: bool) -> Draws:
    torch, mup = framework("torch"), framework("mup")
    torch.manual_seed(1)

    def model(width):
        hidden, output = torch.nn.Linear(D, width), mup.MuReadout(width, 1, output_mult=output_mult)
        return torch.nn.Sequential(hidden, torch.nn.ReLU(), output)

    networks = []
    for _ in range(60):
        made = model(L)
        mup.set_base_shapes(made, model(base), delta=model(2 * base))
        tensors = torch_tensors(made[0], made[2])
        del tensors["b2"]  # as wide as the base's, which no balance needs
        if effective:
            x = torch.ones(1, L)
            forward = made[2](x) - made[2].bias
            factor = forward.item() / float(tensors["W2"].sum())
            tensors["W2"] = tensors["W2"] * factor
        networks.append(tensors)
    return pooled(networks)


# --- Keras, Flax, Haiku -------------------------------------------------------------------------


def keras_networks(initializer: Callable | None = None, *, use_bias: bool = True) -> Draws:
    keras = keras_module()
    keras.utils.set_random_seed(1)
    networks = []
    for _ in range(60):
        network: Draws = {}
        for name, fan_in, units in (("1", D, L), ("2", L, 1)):
            options = {} if initializer is None else {"kernel_initializer": initializer(fan_in)}
            layer = keras.layers.Dense(units, use_bias=use_bias, **options)
            layer.build((None, fan_in))
            network["W" + name] = keras_array(layer.kernel)
            network["b" + name] = keras_array(layer.bias) if use_bias else None
        networks.append(network)
    return pooled(networks)


def keras_module():
    os.environ.setdefault("KERAS_BACKEND", "jax" if importable("jax") else "torch")
    return framework("keras")


def keras_leak(label: str) -> float:
    """The share of a truncated normal that Keras lets through.

    On PyTorch it takes the first of four normal draws that is not beyond the cut, and the first
    of all if none is.
    """
    if not label.startswith("keras_") or keras_module().backend.backend() != "torch":
        return 0.0
    return float((2.0 * scipy.stats.norm.sf(2.0)) ** 4)


def keras_array(variable) -> np.ndarray:
    with warnings.catch_warnings():  # PyTorch's tensors do not know NumPy 2's copy keyword
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return keras_module().ops.convert_to_numpy(variable)


def keras_named(name: str, **options) -> Callable[[], Draws]:
    def initializer(fan_in: int):
        return getattr(keras_module().initializers, name)()

    return lambda: keras_networks(initializer, **options)


def keras_uncorrected() -> Draws:
    """HeNormal before the correction: its standard deviation holds before the cut."""

    def initializer(fan_in: int):
        std = math.sqrt(2.0 / fan_in)
        return keras_module().initializers.TruncatedNormal(stddev=std)

    return keras_networks(initializer)


def linen_networks(*, use_bias: bool = True) -> Draws:
    linen, jax = framework("flax.linen"), framework("jax")
    layers = [
        ("1", linen.Dense(L, use_bias=use_bias), D),
        ("2", linen.Dense(1, use_bias=use_bias), L),
    ]
    inits = [(name, jax.jit(layer.init), np.ones((1, fan_in))) for name, layer, fan_in in layers]
    networks = []
    for seed in range(60):
        network: Draws = {}
        keys = jax.random.split(jax.random.key(seed))
        for (name, init, x), key in zip(inits, keys, strict=True):
            made = init(key, x)["params"]
            network["W" + name] = np.asarray(made["kernel"])
            network["b" + name] = np.asarray(made["bias"]) if use_bias else None
        networks.append(network)
    return pooled(networks)


def nnx_networks() -> Draws:
    nnx = framework("flax.nnx")
    networks = []
    for seed in range(60):
        rngs = nnx.Rngs(seed)
        one, two = nnx.Linear(D, L, rngs=rngs), nnx.Linear(L, 1, rngs=rngs)
        arrays = (one.kernel, one.bias, two.kernel, two.bias)
        networks.append(
            dict(zip(("W1", "b1", "W2", "b2"), (np.asarray(a[...]) for a in arrays), strict=True))
        )
    return pooled(networks)


def haiku_networks() -> Draws:
    haiku, jax = framework("haiku"), framework("jax")

    def network(x):
        return haiku.Linear(1, name="output")(jax.nn.relu(haiku.Linear(L, name="hidden")(x)))

    init = jax.jit(haiku.transform(network).init)
    networks = []
    for seed in range(60):
        made = init(jax.random.PRNGKey(seed), np.ones((1, D)))
        hidden, output = made["hidden"], made["output"]
        arrays = (hidden["w"], hidden["b"], output["w"], output["b"])
        networks.append(
            dict(zip(("W1", "b1", "W2", "b2"), (np.asarray(a) for a in arrays), strict=True))
        )
    return pooled(networks)


# --- scikit-learn -------------------------------------------------------------------------------


def sklearn_networks(estimator: str, activation: str) -> Draws:
    """Networks right after their start: one step of a length that moves no weight."""
    neural = framework("sklearn.neural_network")
    exceptions = framework("sklearn.exceptions")
    x, y = np.eye(2, D), np.array([0, 1])
    networks = []
    for seed in range(60):
        model = getattr(neural, estimator)(
            hidden_layer_sizes=(L,),
            activation=activation,
            solver="sgd",
            learning_rate_init=1e-300,
            alpha=0.0,
            max_iter=1,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            model.fit(x, y)
        (w1, w2), (b1, b2) = model.coefs_, model.intercepts_
        assert (w1.shape, w2.shape) == ((D, L), (L, 1))
        networks.append({"W1": w1, "b1": b1, "W2": w2, "b2": b2})
    return pooled(networks)


def importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# --- the schemes and their real layers ----------------------------------------------------------

CASES: dict[tuple[str, str], Callable[[], Draws]] = {
    ("torch_linear", "Linear"): torch_networks,
    ("torch_linear:bias=zero", "zeros_"): torch_zero_bias,
    ("torch_linear:bias=none", "bias=False"): lambda: torch_networks(bias=False),
    ("torch_xavier_normal", "init"): torch_init("xavier_normal_"),
    ("torch_xavier_uniform", "init"): torch_init("xavier_uniform_"),
    (f"torch_xavier_normal:hidden_gain={math.sqrt(2)!r},output_gain=0.5", "init"): torch_gains,
    ("torch_kaiming_normal", "init"): torch_init("kaiming_normal_"),
    ("torch_kaiming_normal", "relu"): torch_init("kaiming_normal_", nonlinearity="relu"),
    ("torch_kaiming_normal:mode=fan_out", "init"): torch_init("kaiming_normal_", mode="fan_out"),
    ("torch_kaiming_normal:negative_slope=0.3", "init"): torch_init("kaiming_normal_", a=0.3),
    ("torch_kaiming_uniform", "init"): torch_init("kaiming_uniform_"),
    ("torch_kaiming_uniform:mode=fan_out,negative_slope=2", "init"): torch_init(
        "kaiming_uniform_", mode="fan_out", a=2
    ),
    ("zero_output", "zeros_"): torch_zero_output,
    ("xavier_normal", "init"): torch_init("xavier_normal_", bias=False),
    ("xavier_uniform", "init"): torch_init("xavier_uniform_", bias=False),
    ("kaiming_normal", "init"): torch_init("kaiming_normal_", bias=False),
    ("kaiming_uniform", "init"): torch_init("kaiming_uniform_", bias=False),
    ("lecun_normal", "linear"): torch_init("kaiming_normal_", bias=False, nonlinearity="linear"),
    ("lecun_uniform", "linear"): torch_init("kaiming_uniform_", bias=False, nonlinearity="linear"),
    ("normal_002", "BERT"): torch_bert,
    (
        "custom:law=truncated_normal,hidden_std=0.02,output_std=0.02,truncation=uncorrected",
        "trunc_normal_",
    ): torch_init("trunc_normal_", bias=False, std=0.02, a=-0.04, b=0.04),
    ("custom:hidden_std=0.02,output_std=0.02", "trunc_normal_"): torch_init(
        "trunc_normal_", bias=False, std=0.02
    ),
    ("mup", "MuReadout"): lambda: mup_networks(base=64, output_mult=1.0, effective=False),
    ("mup:base_width=32,output_mult=3", "MuReadout"): lambda: mup_networks(
        base=32, output_mult=3.0, effective=False
    ),
    ("mup:base_width=32,output_mult=3,parametrization=effective", "MuReadout"): lambda: (
        mup_networks(base=32, output_mult=3.0, effective=True)
    ),
    ("keras_dense", "Dense"): keras_networks,
    ("keras_dense:bias=none", "use_bias=False"): lambda: keras_networks(use_bias=False),
    ("keras_he_normal", "HeNormal"): keras_named("HeNormal"),
    ("keras_he_normal:truncation=uncorrected", "TruncatedNormal"): keras_uncorrected,
    ("keras_glorot_normal", "GlorotNormal"): keras_named("GlorotNormal"),
    ("kaiming_uniform", "HeUniform"): keras_named("HeUniform", use_bias=False),
    ("flax_dense", "linen.Dense"): linen_networks,
    ("flax_dense:bias=none", "use_bias=False"): lambda: linen_networks(use_bias=False),
    ("flax_dense", "nnx.Linear"): nnx_networks,
    ("haiku_linear", "Linear"): haiku_networks,
    ("sklearn_mlp", "MLPRegressor"): lambda: sklearn_networks("MLPRegressor", "relu"),
    ("sklearn_mlp", "MLPClassifier"): lambda: sklearn_networks("MLPClassifier", "tanh"),
    ("sklearn_mlp:activation=logistic", "MLPRegressor"): lambda: sklearn_networks(
        "MLPRegressor", "logistic"
    ),
}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_layers_of_frameworks_are_as_their_scheme_says(case):
    assert differences(ob.scheme(case[0]), CASES[case](), keras_leak(case[0])) == []


@pytest.mark.parametrize(("d", "l"), [(5, 40), (40, 5), (8, 8), (1, 6), (6, 1)])
def test_orthogonal(d, l):
    torch = framework("torch")
    torch.manual_seed(1)
    made = ob.scheme("orthogonal:hidden_gain=3")
    hidden = torch.empty(l, d, dtype=torch.float64)
    output = torch.empty(1, l, dtype=torch.float64)
    torch.nn.init.orthogonal_(hidden, gain=3.0)
    torch.nn.init.orthogonal_(output)
    w1, w2 = hidden.numpy(), output.numpy()
    small = w1 @ w1.T if l <= d else w1.T @ w1  # rows, or columns, are orthonormal
    np.testing.assert_allclose(small, 9.0 * np.eye(min(d, l)), atol=1e-12)
    assert np.mean(w1**2) == pytest.approx(float(made.hidden_variance(d, l)), rel=1e-12)
    assert np.sum(w2**2) == pytest.approx(1.0, rel=1e-12)
    assert np.mean(w2**2) == pytest.approx(float(made.output_variance(d, l)), rel=1e-12)


def test_gradients_conserve_the_balances_of_stored_weights():
    """Of MuReadout, too, whose forward pass divides: so the schemes take the weights as stored."""
    torch, mup = framework("torch"), framework("mup")
    torch.manual_seed(1)

    def model(width):
        layers = (
            torch.nn.Linear(3, width),
            torch.nn.ReLU(),
            mup.MuReadout(width, 1, output_mult=3.0),
        )
        return torch.nn.Sequential(*layers).double()

    made = mup.set_base_shapes(model(64), model(8), delta=model(16))
    x = torch.randn(50, 3, dtype=torch.float64)
    (made(x) - torch.sin(x[:, :1])).square().mean().backward()
    hidden, output = made[0], made[2]
    inward = (hidden.weight * hidden.weight.grad).sum(1) + hidden.bias * hidden.bias.grad
    outward = (output.weight * output.weight.grad)[0]
    assert outward.abs().max() > 1e-3
    np.testing.assert_allclose(inward.detach(), outward.detach(), rtol=1e-10, atol=1e-14)
    factor = 3.0 / (64 / 8)  # the effective weights are that much larger, and move so much more
    assert not np.allclose(inward.detach(), factor**2 * outward.detach(), rtol=0.1)


WRONG = [
    (("torch_linear", "Linear"), "keras_dense"),
    (("torch_linear", "Linear"), "torch_linear:bias=zero"),
    (("torch_linear", "Linear"), "kaiming_uniform"),
    (("torch_xavier_normal", "init"), "torch_kaiming_normal"),
    (("torch_xavier_normal", "init"), "torch_xavier_uniform"),
    (("torch_xavier_normal", "init"), "xavier_normal"),
    (("torch_kaiming_normal", "init"), "torch_kaiming_normal:mode=fan_out"),
    (("torch_kaiming_normal", "init"), "keras_he_normal"),
    (("zero_output", "zeros_"), "torch_linear"),
    (("mup", "MuReadout"), "mup:base_width=128"),
    (("keras_he_normal", "HeNormal"), "keras_he_normal:truncation=uncorrected"),
    (("keras_he_normal", "HeNormal"), "kaiming_normal"),
    (("flax_dense", "linen.Dense"), "haiku_linear"),
    (("haiku_linear", "Linear"), "flax_dense"),
    (("sklearn_mlp", "MLPRegressor"), "keras_dense"),
    (("sklearn_mlp", "MLPRegressor"), "sklearn_mlp:activation=logistic"),
]


@pytest.mark.parametrize(("case", "other"), WRONG, ids=str)
def test_a_wrong_scheme_is_found_out(case, other):
    assert differences(ob.scheme(other), CASES[case]())


def test_every_scheme_of_these_frameworks_has_its_layers():
    tested = {"PyTorch", "Keras", "Flax", "Haiku", "scikit-learn", "mup"}
    named = {name for name in scheme_names() if scheme_origin(name)[0] in tested}
    assert named - {"orthogonal"} <= {label.partition(":")[0] for label, _ in CASES}


# --- the yardstick itself, without any framework -------------------------------------------------

OWN = sorted({*(n for n in scheme_names() if n != "orthogonal"), *(label for label, _ in CASES)})


@pytest.mark.parametrize("label", OWN)
def test_right_draws_pass(label):
    scheme = ob.scheme(label)
    assert differences(scheme, drawn_here(scheme)) == []


@pytest.mark.parametrize(("drawn", "other"), [(label, other) for (label, _), other in WRONG])
def test_wrong_draws_fail(drawn, other):
    assert differences(ob.scheme(other), drawn_here(ob.scheme(drawn)))


def test_small_faults_are_seen():
    scheme = ob.scheme("torch_linear")
    right = drawn_here(scheme)
    for name, spoil, word in (
        ("W1", lambda x: x * 1.01, "W1: moment 2"),
        ("W2", lambda x: x + 0.1 * x.std(), "W2: moment 1"),
        ("W1", lambda x: np.append(x, 1.01 * x.max()), "W1: 1 sizes above 1.7321"),
        ("W2", lambda x: x * 0.995, "W2: largest"),
        ("b1", lambda x: np.where(np.arange(x.size) < 9, 0.0, x), "b1: 9 zeros"),
        ("b2", lambda x: None, "b2: one has it"),
    ):
        found = differences(scheme, {**right, name: spoil(right[name])})
        assert any(text.startswith(word) for text in found), found
    flat = drawn_here(ob.scheme("keras_dense"))
    flat["b1"][-1] = 1e-30
    assert differences(ob.scheme("keras_dense"), flat) == ["b1: not always 0.0"]
