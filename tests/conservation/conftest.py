"""The zoo and the independent search need PyTorch, and have no doctests to collect."""

collect_ignore_glob = [
    "zoo",
    "zoo/*",
    "independent_search.py",
    "plain_model.py",
    "relations.py",
    "slices.py",
]
