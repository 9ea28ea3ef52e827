"""Studies of models that a factory makes: how often their own initialisation freezes a sign.

`single_sides` evaluates the balances of a draw in which one scalar is alone on a side,
`data_sides` does so on the span of training data, `draws` makes the draws by the code of the
library, `counting` counts them, and `model_study` has the result, which `sampling_models` makes.

These modules may import `obstruction.conservation`, `obstruction.sampling` and `obstruction.tools`.
They must never import a framework that the caller has not loaded, nor know an exact value.
"""
