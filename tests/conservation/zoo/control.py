"""Actors and critics of reinforcement learning, and models of sequences of observations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .entry import Built, Zoo

ZOO = Zoo("stable-baselines3", "2.9.2")


def _spaces(observations: int, actions: int) -> tuple[Any, Any]:
    import numpy as np
    from gymnasium import spaces

    seen = spaces.Box(-1, 1, (observations,), np.float32)
    return seen, spaces.Box(-1, 1, (actions,), np.float32)


def _states(width: int) -> tuple[torch.Tensor]:
    return (torch.randn(4, width),)


class _Values(nn.Module):
    """The critic of a policy that has both; its forward pass would draw actions as well."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, states: torch.Tensor) -> Any:
        return self.policy.predict_values(states)


class _Pair(nn.Module):
    """Mean of the actions and value of the state, as PPO trains them together."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, states: torch.Tensor) -> Any:
        policy = self.policy
        return policy.get_distribution(states).distribution.mean, policy.predict_values(states)


def _ppo(activation: type[nn.Module], widths: list[int]) -> Any:
    from stable_baselines3.common.policies import ActorCriticPolicy

    seen, acted = _spaces(3, 1)
    return ActorCriticPolicy(
        seen, acted, lambda _: 3e-4, net_arch={"pi": widths, "vf": widths}, activation_fn=activation
    )


@ZOO.add("sb3/ppo_tanh", "actor and critic as shipped: two layers of 64, 3 observations")
def _ppo_tanh() -> Built:
    return _Pair(_ppo(nn.Tanh, [64, 64])), _states(3)


@ZOO.add("sb3/ppo_relu", "actor and critic, two layers of 64, 3 observations")
def _ppo_relu() -> Built:
    return _Pair(_ppo(nn.ReLU, [64, 64])), _states(3)


@ZOO.add("sb3/ppo_critic_relu_1", "critic, one layer of 64, 3 observations")
def _ppo_critic() -> Built:
    return _Values(_ppo(nn.ReLU, [64])), _states(3)


@ZOO.add("sb3/ppo_nature_cnn", "actor and critic on four frames of 84 x 84, six actions")
def _ppo_cnn() -> Built:
    import numpy as np
    from gymnasium import spaces
    from stable_baselines3.common.policies import ActorCriticCnnPolicy

    seen = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    policy = ActorCriticCnnPolicy(seen, spaces.Discrete(6), lambda _: 3e-4)
    policy = _Logits(policy)
    return policy, (torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8),)


class _Logits(_Pair):
    """Logits of the actions and value of the state."""

    def forward(self, states: torch.Tensor) -> Any:
        policy = self.policy
        return policy.get_distribution(states).distribution.logits, policy.predict_values(states)


@ZOO.add("sb3/sac_actor", "two layers of 256, 3 observations")
def _sac_actor() -> Built:
    from stable_baselines3.sac.policies import SACPolicy

    return SACPolicy(*_spaces(3, 1), lambda _: 3e-4).actor, _states(3)


@ZOO.add("sb3/sac_critic", "two critics, two layers of 256, 3 observations and 1 action")
def _sac_critic() -> Built:
    from stable_baselines3.sac.policies import SACPolicy

    critic = SACPolicy(*_spaces(3, 1), lambda _: 3e-4).critic
    return critic, (torch.randn(4, 3), torch.randn(4, 1))


@ZOO.add("sb3/td3_actor", "layers of 400 and 300, 4 observations")
def _td3_actor() -> Built:
    from stable_baselines3.td3.policies import TD3Policy

    return TD3Policy(*_spaces(4, 2), lambda _: 3e-4).actor, _states(4)


@ZOO.add("sb3/dqn", "two layers of 64, 4 observations, 2 actions")
def _dqn() -> Built:
    from gymnasium import spaces
    from stable_baselines3.dqn.policies import DQNPolicy

    return DQNPolicy(_spaces(4, 1)[0], spaces.Discrete(2), lambda _: 3e-4).q_net, _states(4)


@ZOO.add(
    "sb3_contrib/tqc_critic", "25 quantiles, 2 critics", package="sb3-contrib", version="2.9.2"
)
def _tqc() -> Built:
    from sb3_contrib.tqc.policies import TQCPolicy

    critic = TQCPolicy(*_spaces(3, 1), lambda _: 3e-4).critic
    return critic, (torch.randn(4, 3), torch.randn(4, 1))


@ZOO.add(
    "torchrl/dueling_mlp_dqn", "as shipped, 4 observations", package="torchrl", version="0.14.1"
)
def _dueling() -> Built:
    from torchrl.modules.models import DuelingMlpDQNet

    model = DuelingMlpDQNet(2, mlp_kwargs_feature={"in_features": 4})
    states = _states(4)
    model(*states)
    return model, states


@ZOO.add("torchrl/dt_actor", "64 wide, 2 layers", package="torchrl", version="0.14.1")
def _decision_transformer() -> Built:
    from torchrl.modules import DTActor

    options = {
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 128,
        "n_positions": 64,
        "activation": "relu",
        "resid_pdrop": 0.1,
        "attn_pdrop": 0.1,
    }
    model = DTActor(state_dim=4, action_dim=2, transformer_config=options)
    return model, (torch.randn(2, 6, 4), torch.randn(2, 6, 2), torch.randn(2, 6, 1))


@ZOO.add("tianshou/critic", "ReLU, two layers of 64", package="tianshou", version="2.0.1")
def _tianshou() -> Built:
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import ContinuousCritic

    body = Net(state_shape=(3,), action_shape=(1,), hidden_sizes=(64, 64), concat=True)
    return ContinuousCritic(preprocess_net=body), (torch.randn(4, 3), torch.randn(4, 1))


@ZOO.add("ncps/cfc", "closed-form recurrent circuit, 32 neurons", package="ncps", version="1.0.1")
def _cfc() -> Built:
    from ncps.torch import CfC

    return CfC(4, 32, proj_size=2), (torch.randn(2, 6, 4),)
