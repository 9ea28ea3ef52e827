"""Critics and value functions of reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from obstruction.wild.architecture import Zoo, library
from obstruction.wild.examples import head, noise, rows

ZOO: Final = Zoo("rl")


def _pair() -> tuple[Any, Any]:
    """Return states of 3 observations, and one action each."""
    return noise(4, 3), noise(4, 1, seed=1)


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
    "two critics, one layer of 256, 3 observations, 1 action",
    exact=head("torch_linear", 4, 256, copies=2),
)(lambda: _critic(*_SAC, net_arch=[256]))
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
    )(lambda observations=_observations, widths=_widths: _value(observations, widths))


def _spread(module: Any) -> Callable[[], Any]:
    return lambda: module


@ZOO.add("stable-baselines3/dqn", rows(4), "two layers of 64, 4 observations, one action")
def _dqn() -> Any:
    spaces, policies = library("gymnasium.spaces"), library("stable_baselines3.dqn.policies")
    policy = policies.DQNPolicy(_spaces(4)[0], spaces.Discrete(1), lambda _: 3e-4)
    return policy.q_net


@ZOO.add("sb3-contrib/tqc_critic", _pair, "two critics, one quantile, 3 observations, 1 action")
def _tqc() -> Any:
    return _critic("sb3_contrib.tqc.policies", "TQCPolicy", n_quantiles=1)


@ZOO.add(
    "sb3-contrib/crossq_critic", _pair, "two critics, one layer of 64, 3 observations, 1 action"
)
def _crossq() -> Any:
    return _critic("sb3_contrib.crossq.policies", "CrossQPolicy", net_arch=[64])


@ZOO.add(
    "torchrl/mlp",
    rows(4),
    "its default activation, three layers of 32, 4 observations",
)
def _mlp() -> Any:
    return library("torchrl.modules").MLP(in_features=4, out_features=1, depth=3, num_cells=32)


@ZOO.add("torchrl/ddpg_mlp_q", _pair, "layers of 400 and 300, 3 observations, 1 action")
def _ddpg_q() -> Any:
    model = library("torchrl.modules").DdpgMlpQNet()
    model(*_pair())
    return model


@ZOO.add(
    "torchrl/dueling_dqn", rows(4), "as shipped, 4 observations, 1 action"
)
def _dueling() -> Any:
    models = library("torchrl.modules.models")
    model = models.DuelingMlpDQNet(1, mlp_kwargs_feature={"in_features": 4})
    model(rows(4)())
    return model


@ZOO.add(
    "tianshou/continuous_critic",
    _pair,
    "two layers of 64, 3 observations, 1 action",
    exact=head("torch_linear", 64, 64),
)
def _tianshou() -> Any:
    net = library("tianshou.utils.net.common").Net(
        state_shape=(3,), action_shape=(1,), hidden_sizes=(64, 64), concat=True
    )
    return library("tianshou.utils.net.continuous").ContinuousCritic(preprocess_net=net)


@ZOO.add(
    "tianshou/continuous_critic-one_layer",
    _pair,
    "one layer of 64, 3 observations, 1 action",
    exact=head("torch_linear", 4, 64),
)
def _tianshou_one() -> Any:
    net = library("tianshou.utils.net.common").Net(
        state_shape=(3,), action_shape=(1,), hidden_sizes=(64,), concat=True
    )
    return library("tianshou.utils.net.continuous").ContinuousCritic(preprocess_net=net)


@ZOO.add("skrl/deterministic_model", rows(3), "two layers of 64, ReLU, 3 observations")
def _skrl() -> Any:
    torch = library("torch")
    make = library("skrl.utils.model_instantiators.torch").deterministic_model
    network = [
        {"name": "net", "input": "OBSERVATIONS", "layers": [64, 64], "activations": "relu"}
    ]
    model = make(
        observation_space=_spaces(3)[0],
        state_space=_spaces(3)[0],
        action_space=_spaces(3)[1],
        device="cpu",
        network=network,
        output="ONE",
    )
    model(torch.zeros(1, 3)) if False else None
    return model


@ZOO.add("pfrl/fcsa_q", _pair, "two layers of 64, 3 observations, 1 action")
def _pfrl() -> Any:
    return library("pfrl.q_functions").FCSAQFunction(3, 1, 64, 2)


@ZOO.add("pfrl/fc_v", rows(3), "one layer of 64, 3 observations")
def _pfrl_v() -> Any:
    return library("pfrl.nn").MLP(3, 1, [64])
