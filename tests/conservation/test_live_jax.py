"""Functions of JAX and modules on it: outputs and gradients in float64, and what is a parameter.

Values are compared with formulas in NumPy, with JAX in float64 on functions that were written for
float64, and with central differences.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import framework

jax = framework("jax")
jnp = jax.numpy

from obstruction.conservation.live.base import cotangents  # noqa: E402
from obstruction.conservation.live.float64_jax import in_float64  # noqa: E402
from obstruction.conservation.live.jax import JaxModel  # noqa: E402

GENERATOR = np.random.default_rng(20)
X = GENERATOR.standard_normal((5, 3))
WEIGHTS = {
    "first": {"w": GENERATOR.standard_normal((3, 4)), "b": GENERATOR.standard_normal(4)},
    "last": GENERATOR.standard_normal((4, 2)),
}


def network(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["first"]["w"] + params["first"]["b"]) @ params["last"]


def ran(model: JaxModel, seed: int = 0) -> list[np.ndarray]:
    return model.outputs(model.parameters, model.inputs, seed=seed)


def slope(model: JaxModel, *, seed: int = 0, cotangent: int = 7, step: float = 1e-5) -> tuple:
    """Return the derivative along a random direction by differences, and by the gradient."""
    generator = np.random.default_rng(1)
    way = {name: generator.standard_normal(v.shape) for name, v in model.parameters.items()}
    pulled = cotangents([one.shape for one in ran(model, seed)], cotangent)

    def value(t: float) -> float:
        moved = {name: v + t * way[name] for name, v in model.parameters.items()}
        found = model.outputs(moved, model.inputs, seed=seed)
        return sum(float(np.sum(c * y)) for c, y in zip(pulled, found, strict=True))

    gradients = model.gradients(model.parameters, model.inputs, seed=seed, cotangent=cotangent)
    by_gradient = sum(float(np.sum(g * way[n])) for n, g in gradients.items() if g is not None)
    return (value(step) - value(-step)) / (2 * step), by_gradient


def test_outputs_and_gradients_of_a_network():
    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), WEIGHTS)
    model = JaxModel(network, single, X)
    assert list(model.parameters) == ["first/b", "first/w", "last"]
    assert (model.framework, model.fixed, model.output_axes) == ("JAX", (), {"first/w": -1})
    # by hand, in float64, at values that float32 cannot hold
    values = {name: value + 1e-9 for name, value in model.parameters.items()}
    w, b, v = values["first/w"], values["first/b"], values["last"]
    hidden = np.tanh(X @ w + b)
    (found,) = model.outputs(values, model.inputs, seed=0)
    np.testing.assert_allclose(found, hidden @ v, rtol=1e-14)
    assert found.dtype == np.float64

    (c,) = cotangents([(5, 2)], 3)
    gradients = model.gradients(values, model.inputs, seed=0, cotangent=3)
    back = (c @ v.T) * (1 - hidden**2)
    expected = {"first/b": back.sum(axis=0), "first/w": X.T @ back, "last": hidden.T @ c}
    assert list(gradients) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-12, atol=1e-13)


def test_nothing_of_the_user_changes():
    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), WEIGHTS)
    kept = jax.tree.map(np.array, single)
    before = jax.config.jax_enable_x64, random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002

    def noisy(params: Any, x: Any) -> Any:
        return network(params, x) + np.random.normal() + random.random()  # noqa: NPY002

    model = JaxModel(noisy, single, X)
    ran(model)
    model.gradients(model.parameters, model.inputs, seed=0, cotangent=0)
    assert jax.config.jax_enable_x64 == before[0]
    assert random.getstate() == before[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002
    assert jnp.ones(2).dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, single, kept)
    assert jax.tree.leaves(jax.tree.map(lambda a: a.dtype == jnp.float32, single)) == [True] * 3


def test_a_user_who_works_in_float64():
    with in_float64():
        double = jax.tree.map(jnp.asarray, WEIGHTS)
        model = JaxModel(network, double, jnp.asarray(X))
        inside = ran(model)[0]
    np.testing.assert_array_equal(model.parameters["last"], WEIGHTS["last"])
    np.testing.assert_array_equal(ran(model)[0], inside)
    first = WEIGHTS["first"]
    expected = np.tanh(X @ first["w"] + first["b"]) @ WEIGHTS["last"]
    np.testing.assert_allclose(inside, expected, rtol=1e-13)


def test_the_function_is_traced_twice_and_no_more():
    calls = []

    def counted(params: Any, x: Any) -> Any:
        calls.append(x.shape)
        return network(params, x)

    model = JaxModel(counted, WEIGHTS, X)
    for seed in range(4):
        ran(model, seed)
        model.gradients(model.parameters, model.inputs, seed=seed, cotangent=seed)
    assert calls == [(5, 3)] * 2
    (fewer,) = model.outputs(model.parameters, [X[:2]], seed=0)
    np.testing.assert_allclose(fewer, ran(model)[0][:2], rtol=1e-14)


def narrowed(kind: str) -> Callable[..., Any]:
    def apply(params: Any, x: Any) -> Any:
        hidden = jnp.tanh(x.astype(kind) @ params["first"]["w"].astype(kind))
        hidden = hidden + params["first"]["b"].astype(kind) + jnp.ones(4, kind) / 4
        return (hidden @ params["last"].astype(kind)).astype(jnp.float32)

    return apply


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_conversions_inside_the_model_lose_nothing(kind):
    model = JaxModel(narrowed(kind), WEIGHTS, X)
    p = model.parameters
    expected = (np.tanh(X @ p["first/w"]) + p["first/b"] + 0.25) @ p["last"]
    np.testing.assert_allclose(ran(model)[0], expected, rtol=1e-13)
    differences, gradient = slope(model)
    assert gradient == pytest.approx(differences, rel=1e-8)


def loops(params: Any, x: Any) -> Any:
    """Use loops, branches and solvers, whose bodies and carries have types of their own."""
    w, b = params["w"], params["b"]
    carry = jnp.zeros(4, x.dtype)
    last, steps = jax.lax.scan(lambda c, row: (jnp.tanh(c @ w + row), c.sum()), carry, x)
    many = jax.lax.fori_loop(0, 3, lambda i, c: c * b + i, last)
    chosen = jax.lax.cond(b[0] > 0, lambda c: c**2, lambda c: -c, many)
    solved = jnp.linalg.solve(w + 6 * jnp.eye(4, dtype=x.dtype), chosen)
    mapped = jax.lax.map(jax.checkpoint(lambda row: jnp.sin(row * b)), x)
    placed = jnp.zeros((6, 4), x.dtype).at[jnp.array([1, 3, 3, 0, 5])].add(mapped)
    sorted_ = jnp.sort(placed, axis=0) + jnp.cumsum(placed, axis=1)
    return {"all": sorted_, "more": (steps, jax.nn.logsumexp(solved), jax.jit(jnp.max)(w))}


def test_loops_branches_and_solvers_agree_with_float64():
    generator = np.random.default_rng(2)
    params = {"w": generator.standard_normal((4, 4)), "b": generator.uniform(0.5, 1.5, 4)}
    x = generator.standard_normal((5, 4))
    model = JaxModel(loops, params, x)
    params = {name: value.copy() for name, value in model.parameters.items()}
    with in_float64():
        exact = {name: jnp.asarray(value) for name, value in params.items()}
        expected, pull = jax.vjp(lambda p: jax.tree.leaves(loops(p, jnp.asarray(x))), exact)
        drawn = cotangents([one.shape for one in expected], 5)
        (gradients,) = pull([jnp.asarray(c) for c in drawn])
    for one, other in zip(ran(model), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    found = model.gradients(params, model.inputs, seed=0, cotangent=5)
    for name in params:
        np.testing.assert_allclose(found[name], gradients[name], rtol=1e-11)


@jax.custom_vjp
def rounded(x: Any) -> Any:
    return jnp.round(x)


rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, c: (3 * c,))


@jax.custom_jvp
def doubled(x: Any) -> Any:
    return 2 * x


doubled.defjvp(lambda primals, tangents: (2 * primals[0], 5 * tangents[0]))


def test_rules_of_differentiation_of_the_model_are_kept():
    params = {"backward": X[0], "forward": X[1], "relu": np.zeros(3), "stopped": X[2]}

    def apply(p: Any, x: Any) -> Any:
        stopped = jax.lax.stop_gradient(p["stopped"])
        return rounded(p["backward"]) + doubled(p["forward"]) + jax.nn.relu(p["relu"]) + stopped

    model = JaxModel(apply, params, X)
    (c,) = cotangents([(3,)], 1)
    found = model.gradients(model.parameters, model.inputs, seed=0, cotangent=1)
    assert found["stopped"] is None
    np.testing.assert_array_equal(found["backward"], 3 * c)
    np.testing.assert_array_equal(found["forward"], 5 * c)
    np.testing.assert_array_equal(found["relu"], 0 * c)


@pytest.mark.parametrize("compiled", [False, True])
def test_parameters_without_influence_have_no_gradient(compiled):
    def apply(p: Any, x: Any) -> Any:
        other = jnp.sin(p["unused"]) + p["integer"]
        return network(p, x), jnp.argmax(p["index"]), x.shape[0] + 0 * len(other)

    params = {**WEIGHTS, "unused": X, "index": X[0], "integer": np.arange(3)}
    model = JaxModel(jax.jit(apply) if compiled else apply, params, X)
    assert "integer" not in model.parameters
    assert len(ran(model)) == 1
    found = model.gradients(model.parameters, model.inputs, seed=0, cotangent=0)
    assert [name for name, one in found.items() if one is None] == ["index", "unused"]


def test_inputs_of_every_form():
    def apply(p: Any, x: Any, more: Any, scale: Any = 1.0) -> Any:
        return (network(p, x) + more["bias"] * more["flag"])[more["rows"]] * scale

    more = {"bias": X[:, :2], "rows": np.array([0, 2]), "flag": True, "note": "text", "none": None}
    model = JaxModel(apply, WEIGHTS, (X, more))
    assert [one.dtype for one in model.inputs] == [np.float64, np.float64, np.int64]
    network_of = JaxModel(network, WEIGHTS, X)
    np.testing.assert_allclose(ran(model)[0], (ran(network_of)[0] + X[:, :2])[[0, 2]], rtol=1e-14)
    keywords = JaxModel(apply, WEIGHTS, {"scale": np.float64(2), "more": more, "x": jnp.asarray(X)})
    np.testing.assert_allclose(ran(keywords)[0], 2 * ran(model)[0], rtol=1e-6)
    differences, gradient = slope(keywords)
    assert gradient == pytest.approx(differences, rel=1e-8)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
@pytest.mark.parametrize("where", ["inputs", "params"])
def test_random_keys_depend_on_the_seed_alone(make, where):
    def apply(params: Any, x: Any, key: Any) -> Any:
        key = params.get("key", key)
        many = jax.random.split(key, len(x))
        return network(params, x) * jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (2,)))(many)

    inside = {"key": make(3)} if where == "params" else {}
    model = JaxModel(apply, {**WEIGHTS, **inside}, (X, make(1) if where == "inputs" else None))
    assert len(model.inputs) == 1
    assert len(model.parameters) == 3
    masks = [ran(model, seed)[0] == 0 for seed in (0, 1, 0, 2**70)]
    np.testing.assert_array_equal(masks[0], masks[2])
    assert (masks[0] != masks[1]).any()
    assert (masks[0] != masks[3]).any()
    found = [
        model.gradients(model.parameters, model.inputs, seed=seed, cotangent=0)["last"]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    differences, gradient = slope(model, seed=4)
    assert gradient == pytest.approx(differences, rel=1e-8)


def test_complex_parameters_are_pairs_of_real_ones():
    generator = np.random.default_rng(5)
    a = generator.standard_normal((3, 2)) + 1j * generator.standard_normal((3, 2))
    model = JaxModel(lambda p, x: jnp.fft.fft(x @ p["a"], axis=0) * p["s"], {"a": a, "s": 2.0}, X)
    assert {name: one.shape for name, one in model.parameters.items()} == {
        "a": (3, 2, 2),
        "s": (1,),
    }
    parts = model.parameters["a"]
    expected = 2 * np.fft.fft(X @ (parts[..., 0] + 1j * parts[..., 1]), axis=0)
    real, imaginary = ran(model)
    np.testing.assert_allclose(real + 1j * imaginary, expected, rtol=1e-12)
    differences, gradient = slope(model)
    assert gradient == pytest.approx(differences, rel=1e-8)


def test_numbers_are_parameters_in_plain_trees_only():
    class Module:
        def __init__(self, weight: Any, rate: Any) -> None:
            self.weight, self.rate = weight, rate

    jax.tree_util.register_pytree_with_keys(
        Module,
        lambda m: (
            [(jax.tree_util.GetAttrKey(n), getattr(m, n)) for n in ("weight", "rate")],
            None,
        ),
        lambda _, children: Module(*children),
    )
    model = JaxModel(lambda m, x: x @ m.weight.T * m.rate, Module(X[:2], 0.5), X)
    assert list(model.parameters) == ["weight"]
    assert model.output_axes == {"weight": 0}
    plain = JaxModel(lambda p, x: x * p[0] + p[1]["b"], [0.5, {"b": 1.0}], X)
    assert plain.parameters == {"0": 0.5, "1/b": 1.0}
    alone = JaxModel(lambda w, x: x @ w, X.T, X)
    assert list(alone.parameters) == ["params"]


def test_what_cannot_be_run_is_refused_in_plain_words():
    with pytest.raises(ValueError, match=r"^params: holds no array of floats"):
        JaxModel(lambda p, x: x, {"a": np.arange(3)}, X)
    with pytest.raises(ValueError, match=r"^model: its output holds no array of floats"):
        JaxModel(lambda p, x: jnp.argmax(x @ p), X.T, X)
    with pytest.raises(ValueError, match=r"^inputs\[1\]\['a'\]\[2\] = nan: inputs must be finite"):
        JaxModel(network, WEIGHTS, (X, {"a": np.array([0.0, 1.0, np.nan])}))
    with pytest.raises(ValueError, match=r"^inputs is empty: it has the shape \(0, 3\)"):
        JaxModel(network, WEIGHTS, X[:0])
    with pytest.raises(ValueError, match=r"^inputs = 'x': holds no array; inputs may be an array"):
        JaxModel(network, WEIGHTS, "x")
    with pytest.raises(ValueError, match=r"inputs of shape \(5, 2\)\. TypeError: .*") as caught:
        JaxModel(network, WEIGHTS, X[:, :2])
    assert len(str(caught.value).splitlines()) == 1
