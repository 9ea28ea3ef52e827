"""Critics and value functions of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from obstruction import exact
from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import behind_norm, head, noise, rows
from obstruction.wild.libraries import library

ZOO: Final = Zoo("rl")


def _pair() -> tuple[Any, Any]:
    """Return states of 3 observations, and one action each."""
    return noise(8, 3), noise(8, 1, seed=1)


def _spaces(observations: int, actions: int = 1) -> tuple[Any, Any]:
    spaces = library("gymnasium.spaces")
    return (
        spaces.Box(-1.0, 1.0, (observations,)),
        spaces.Box(-1.0, 1.0, (actions,)),
    )


def _critic(module: str, policy: str, **options: Any) -> Any:
    """Return the critic of an off-policy algorithm."""
    made = getattr(library(module), policy)(*_spaces(3), lambda _: 3e-4, **options)
    return made.critic


_SAC: Final = ("stable_baselines3.sac.policies", "SACPolicy")
_TD3: Final = ("stable_baselines3.td3.policies", "TD3Policy")

ZOO.add(
    "stable-baselines3/sac_critic",
    _pair,
    "two critics, two layers of 256, 3 observations, 1 action",
    exact=head("torch_linear", 256, 256, copies=2),
)(lambda: _critic(*_SAC))
ZOO.add(
    "stable-baselines3/sac_critic-one_layer",
    _pair,
    "two critics, one layer of 64, 3 observations, 1 action",
    exact=head("torch_linear", 4, 64, copies=2),
)(lambda: _critic(*_SAC, net_arch=[64]))
ZOO.add(
    "stable-baselines3/td3_critic",
    _pair,
    "two critics, layers of 400 and 300, 3 observations, 1 action",
    exact=head("torch_linear", 400, 300, copies=2),
)(lambda: _critic(*_TD3))
ZOO.add(
    "stable-baselines3/td3_critic-one_layer",
    _pair,
    "two critics, one layer of 64, 3 observations, 1 action",
    exact=head("torch_linear", 4, 64, copies=2),
)(lambda: _critic(*_TD3, net_arch=[64]))
ZOO.add(
    "stable-baselines3/ddpg_critic",
    _pair,
    "layers of 400 and 300, 3 observations, 1 action",
    exact=head("torch_linear", 400, 300),
)(lambda: _critic(*_TD3, n_critics=1))
ZOO.add(
    "stable-baselines3/ddpg_critic-one_layer",
    _pair,
    "one layer of 64, 3 observations, 1 action",
    exact=head("torch_linear", 4, 64),
)(lambda: _critic(*_TD3, n_critics=1, net_arch=[64]))


def _value(observations: int, widths: list[int]) -> Any:
    """Return the value function of PPO, whose policy has both; its own pass draws actions."""
    nn = library("torch.nn")
    policies = library("stable_baselines3.common.policies")
    policy = policies.ActorCriticPolicy(
        *_spaces(observations),
        lambda _: 3e-4,
        net_arch={"pi": [8], "vf": widths},
        activation_fn=nn.ReLU,
    )
    return nn.Sequential(policy.mlp_extractor.value_net, policy.value_net)


_PPO: Final = f"orthogonal:hidden_gain={2.0**0.5!r}"
"""Stable-baselines3 draws hidden layers of its policies with this gain, and the value with 1."""


def _orthogonal(width: int, inputs: int) -> Callable[[], float]:
    """Return the share of frozen weights behind orthogonal ones with the gains of PPO."""
    return lambda: float(exact.pathological_probability(_PPO, inputs, width))


for _name, _observations, _widths in (
    ("ppo_value", 3, [64, 64]),
    ("ppo_value-one_layer_d=3", 3, [64]),
    ("ppo_value-one_layer_d=2", 2, [64]),
):
    _layers = "two layers of 64" if len(_widths) == 2 else "one layer of 64"
    ZOO.add(
        f"stable-baselines3/{_name}",
        rows(_observations),
        f"ReLU instead of tanh, {_layers}, {_observations} observations",
        exact_share=_orthogonal(_widths[-1], (_observations, *_widths)[-2]),
    )(lambda observations=_observations, widths=_widths: _value(observations, widths))


@ZOO.add(
    "stable-baselines3/dqn",
    rows(4),
    "two layers of 64, 4 observations, one action",
    exact=head("torch_linear", 64, 64),
)
def _dqn() -> Any:
    spaces, policies = library("gymnasium.spaces"), library("stable_baselines3.dqn.policies")
    policy = policies.DQNPolicy(_spaces(4)[0], spaces.Discrete(1), lambda _: 3e-4)
    return policy.q_net


@ZOO.add(
    "sb3-contrib/tqc_critic",
    _pair,
    "two critics, one quantile, 3 observations, 1 action",
    exact=head("torch_linear", 256, 256, copies=2),
)
def _tqc() -> Any:
    return _critic("sb3_contrib.tqc.policies", "TQCPolicy", n_quantiles=1)


@ZOO.add(
    "sb3-contrib/crossq_critic",
    _pair,
    "two critics, one layer of 64, 3 observations, 1 action",
    exact=behind_norm(64),
)
def _crossq() -> Any:
    return _critic("sb3_contrib.crossq.policies", "CrossQPolicy", net_arch=[64])


@ZOO.add("torchrl/mlp", rows(4), "as shipped with tanh, three layers of 32, 4 observations")
def _mlp() -> Any:
    return library("torchrl.modules").MLP(in_features=4, out_features=1, depth=3, num_cells=32)


@ZOO.add(
    "torchrl/mlp-relu",
    rows(4),
    "ReLU instead of tanh, one layer of 32, 4 observations",
    exact=head("torch_linear", 4, 32),
)
def _mlp_relu() -> Any:
    relu = library("torch").nn.ReLU
    made = library("torchrl.modules").MLP
    return made(in_features=4, out_features=1, depth=1, num_cells=32, activation_class=relu)


@ZOO.add(
    "torchrl/ddpg_mlp_q",
    _pair,
    "ReLU instead of ELU, layers of 400 and 300, 3 observations, 1 action",
)
def _ddpg_q() -> Any:
    relu = {"activation_class": library("torch").nn.ReLU}
    first, second = {**relu, "in_features": 3}, {**relu, "in_features": 401}
    return library("torchrl.modules").DdpgMlpQNet(first, second)


@ZOO.add(
    "torchrl/dueling_dqn",
    rows(4),
    "ReLU instead of ELU, layers of 64, 4 observations, 1 action",
    exact=head("torch_linear:bias=zero", 64, 64),
)
def _dueling() -> Any:
    relu = {"activation_class": library("torch").nn.ReLU}
    features = {**relu, "in_features": 4, "num_cells": [64], "out_features": 64}
    output = {**relu, "in_features": 64, "num_cells": 64}
    return library("torchrl.modules.models").DuelingMlpDQNet(1, 1, features, output)


def _tianshou(*widths: int) -> Any:
    """Return the layers of a critic, which turns its own inputs into float32."""
    net = library("tianshou.utils.net.common").Net((3,), (1,), widths, concat=True)
    critic = library("tianshou.utils.net.continuous").Critic(net)
    return library("torch").nn.Sequential(critic.preprocess.model, critic.last)


ZOO.add(
    "tianshou/critic",
    rows(4),
    "two layers of 64, 3 observations, 1 action",
    exact=head("torch_linear", 64, 64),
)(lambda: _tianshou(64, 64))
ZOO.add(
    "tianshou/critic-one_layer",
    rows(4),
    "one layer of 64, 3 observations, 1 action",
    exact=head("torch_linear", 4, 64),
)(lambda: _tianshou(64))


@ZOO.add(
    "skrl/deterministic_model",
    rows(3),
    "two layers of 64, ReLU, 3 observations",
    exact=head("torch_linear", 64, 64),
)
def _skrl() -> Any:
    """Return the layers of a model, which takes a dictionary and a role."""
    make = library("skrl.utils.model_instantiators.torch").deterministic_model
    seen, acted = _spaces(3)
    layers = {"name": "net", "input": "OBSERVATIONS", "layers": [64, 64], "activations": "relu"}
    model = make(
        observation_space=seen,
        state_space=seen,
        action_space=acted,
        device="cpu",
        network=[layers],
        output="ONE",
    )
    model.net_container(noise(2, 3))  # its layers have no weights before
    return model.net_container


@ZOO.add(
    "pfrl/fcsa_q",
    _pair,
    "two layers of 64, 3 observations, 1 action",
    exact=head("lecun_normal", 64, 64),
)
def _pfrl() -> Any:
    return library("pfrl.q_functions").FCSAQFunction(3, 1, 64, 2)


@ZOO.add(
    "pfrl/mlp_value",
    rows(3),
    "one layer of 64, 3 observations",
    exact=head("lecun_normal", 3, 64),
)
def _pfrl_v() -> Any:
    return library("pfrl.nn").MLP(3, 1, [64])
