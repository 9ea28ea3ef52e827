"""Attention with hand-derived laws."""

from __future__ import annotations

import math

from kind import Kind, Of, along, columns, draws, gains, nn, rows, torch


def heads(x, count):
    """Return (batch, time, width) as (batch, heads, time, width of a head)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def rotated(x, interleaved):
    """Turn pairs of channels by angles that grow with time, two frequencies or more."""
    half = x.shape[-1] // 2
    time = torch.arange(x.shape[-2], dtype=x.dtype)
    angle = time[:, None] * 0.7 ** (1 + 2 * torch.arange(half, dtype=x.dtype))
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    pairs = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    return torch.stack(pairs, -1).flatten(-2) if interleaved else torch.cat(pairs, -1)


def attention(count, groups, width, *, bias=True, rotary=None, causal=False, norm=None, size=2):
    """Return attention on one input with `count` heads of queries and `groups` of keys."""

    def forward(self, x):
        q, k, v = heads(self.q(x), count), heads(self.k(x), groups), heads(self.v(x), groups)
        if norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = (rotated(part, rotary == "interleaved") for part in (q, k))
        k, v = (part.repeat_interleave(count // groups, 1) for part in (k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(width)
        if causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        mixed = scores.softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).flatten(-2))

    parts = {"q": nn.Linear(size, count * width, bias=bias)}
    parts |= {name: nn.Linear(size, groups * width, bias=bias) for name in ("k", "v")}
    parts["o"] = nn.Linear(count * width, size, bias=bias)
    if norm is not None:
        parts |= {"q_norm": norm(width), "k_norm": norm(width)}
    return Of(forward, **parts), draws(3, 4, size)


def fused():
    """Return attention by PyTorch's fused function, queries, keys and values from one layer."""

    def forward(self, x):
        q, k, v = (heads(part, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).flatten(-2))

    return Of(forward, qkv=nn.Linear(2, 12), o=nn.Linear(4, 2)), draws(3, 4, 2)


def module(weights):
    def forward(self, x):
        mixed, attended = self.attention(x, x, x, need_weights=weights)
        return (mixed, attended) if weights else mixed

    return Of(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True)), draws(3, 4, 4)


def crossed():
    """Return attention with three inputs, whose keys and values have other widths."""

    def forward(self, queries, keys, values):
        return self.attention(queries, keys, values, need_weights=False)[0]

    layer = nn.MultiheadAttention(4, 2, kdim=2, vdim=3, batch_first=True)
    inputs = draws(2, 3, 4), draws(2, 4, 2, seed=6), draws(2, 4, 3, seed=7)
    return Of(forward, attention=layer), inputs


def of_rotary(count, groups, width, interleaved):
    """Return the function of the balances of rotary pairs."""

    def pairs(layer, number):
        split = rows(layer).view(number, width)
        shape = (number, width // 2, 2) if interleaved else (number, 2, width // 2)
        return split.view(shape).sum(2 if interleaved else 1)

    def found(model):
        queries = pairs(model.q, count).unflatten(0, (groups, -1)).sum(1)
        return (queries - pairs(model.k, groups)).flatten()

    return found


def normalised(model):
    return model.q_norm.weight.detach().square() - model.k_norm.weight.detach().square()


def of_heads(model):
    lengths = [rows(layer).view(2, 2).sum(1) for layer in (model.q, model.k)]
    return torch.cat(lengths)


def transformer():
    """Return an embedding of floats, one block with layer norms and GELU, a norm and a head."""

    def forward(self, x):
        x = self.inward(x)
        y = self.before(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.up(nn.functional.gelu(self.down(self.middle(x))))
        return self.out(self.final(x))

    norms = {name: nn.LayerNorm(4) for name in ("before", "middle", "final")}
    parts = {"inward": nn.Linear(2, 4), "attention": nn.MultiheadAttention(4, 2, batch_first=True)}
    parts |= {"down": nn.Linear(4, 5), "up": nn.Linear(5, 4), "out": nn.Linear(4, 2)}
    return Of(forward, **norms, **parts), draws(3, 4, 2)


def of_transformer(model):
    before = gains(model.before) - along(model.attention.in_proj_weight, 1)
    middle = gains(model.middle) - columns(model.down)
    return torch.cat([before, middle, gains(model.final) - columns(model.out)])


def of_transformer_scale(model):
    writers = rows(model.inward).sum() + rows(model.attention.out_proj).sum()
    return (writers + rows(model.up).sum())[None]


def llama():
    """Return one block with RMS norms, rotary grouped queries and SwiGLU, a norm and a head."""
    inner = attention(2, 1, 4, bias=False, rotary="half", causal=True, size=3)[0]

    def forward(self, x):
        x = self.inward(x)
        x = x + self.attention(self.before(x))
        y = self.middle(x)
        x = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return self.out(self.final(x))

    norms = {name: nn.RMSNorm(3) for name in ("before", "middle", "final")}
    parts = {"gate": nn.Linear(3, 4, bias=False), "up": nn.Linear(3, 4, bias=False)}
    parts |= {"down": nn.Linear(4, 3, bias=False), "out": nn.Linear(3, 2, bias=False)}
    return Of(
        forward, inward=nn.Linear(2, 3, bias=False), attention=inner, **norms, **parts
    ), draws(3, 4, 2)


def of_llama(model):
    inner = model.attention
    read = columns(inner.q) + columns(inner.k) + columns(inner.v)
    middle = columns(model.gate) + columns(model.up)
    parts = [gains(model.before) - read, gains(model.middle) - middle]
    parts += [gains(model.final) - columns(model.out), rows(model.up) - columns(model.down)]
    return torch.cat([*parts, of_rotary(2, 1, 4, False)(inner)])


def of_llama_scale(model):
    writers = rows(model.inward).sum() + rows(model.attention.o).sum()
    return (writers + rows(model.down).sum())[None]


HEADS = (
    "2 heads of width 2: invertible mixings between queries and keys, and between values and "
    "outputs: 4 blocks of side 2. A key bias adds one number to all scores of a query: constant."
)
PAIRS = (
    "Rotations commute only with a common scale of each rotary pair: a number for every pair of "
    "the keys. Values and outputs keep their blocks. With positions a key bias is seen."
)

ATTENTION = [
    Kind("attention", lambda: attention(2, 2, 2), HEADS, {"constant": 4}, (2, 2, 2, 2)),
    Kind(
        "attention without biases",
        lambda: attention(2, 2, 2, bias=False),
        "4 blocks of side 2, as with biases.",
        blocks=(2, 2, 2, 2),
    ),
    Kind(
        "causal attention",
        lambda: attention(2, 2, 2, causal=True),
        HEADS,
        {"constant": 4},
        (2,) * 4,
    ),
    Kind("fused attention", fused, HEADS, {"constant": 4}, (2,) * 4),
    Kind("torch.nn.MultiheadAttention", lambda: module(False), HEADS, {"constant": 4}, (2,) * 4),
    Kind(
        "attention weights as outputs",
        lambda: module(True),
        HEADS,
        {"constant": 4},
        (2,) * 4,
    ),
    Kind("cross-attention", crossed, HEADS, {"constant": 4}, (2,) * 4),
    Kind(
        "grouped queries",
        lambda: attention(4, 2, 2),
        "2 heads of keys and values of width 2, each read by 2 heads of queries and outputs: 4 "
        "blocks of side 2; 4 key biases.",
        {"constant": 4},
        (2,) * 4,
    ),
    *(
        Kind(
            f"rotary attention, {style}{', biases' if bias else ''}{', groups' * (groups < 2)}",
            lambda style=style, bias=bias, groups=groups: attention(
                2, groups, 4, bias=bias, rotary=style
            ),
            PAIRS,
            {"balance": 2 * groups},
            (4,) * groups,
            values={"balance": of_rotary(2, groups, 4, style == "interleaved")},
        )
        for style in ("half", "interleaved")
        for bias, groups in ((False, 2), (True, 2), (False, 1))
    ),
    Kind(
        "normalised queries and keys",
        lambda: attention(2, 2, 2, norm=nn.RMSNorm),
        "The rows of each head of queries and of keys are a block (4); the gains of queries and "
        "keys are shared by the heads and multiply each other (2); 2 blocks of values and "
        "outputs.",
        {"scale": 4, "balance": 2},
        (2, 2),
        values={"scale": of_heads, "balance": normalised},
    ),
    Kind(
        "transformer block",
        transformer,
        "3 x 4 gains; 4 blocks of side 2 and 4 key biases of the attention; what writes the "
        "stream is one block, and its mean is never read: 2 + 1, 4 + 1 and 5 + 1 sums. GELU "
        "leaves no balance of neurons.",
        {"balance": 12, "scale": 1, "constant": 4, "shift": 14},
        (2,) * 4,
        values={"balance": of_transformer, "scale": of_transformer_scale},
    ),
    Kind(
        "Llama block",
        llama,
        "3 x 3 gains, 4 up rows, 2 rotary pairs of one head of keys; one block of side 4 of "
        "values and outputs; what writes the stream is one block.",
        {"balance": 15, "scale": 1},
        (4,),
        values={"balance": of_llama, "scale": of_llama_scale},
    ),
]
