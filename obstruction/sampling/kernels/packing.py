"""Compiled function that moves the marked entries of an array to the front.

Which entries are marked is as unpredictable as a coin toss, so a loop with a branch would
mispredict it again and again. Processors with AVX-512 have an instruction that moves the marked
entries of a vector, and processors with AVX2 have one that permutes a vector. On all others a loop
without branches does the same, a few times slower. The moved entries are the same in all cases;
only what is written behind the last of them may differ.

Numba's cache on disk does not notice a change in this file: touch `networks.py` as well.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

LANES = 16
"""Entries that are moved at a time. Arrays must be longer than asked for by as many."""


def may_use(feature: str) -> bool:
    """Return whether numba compiles for a processor with a feature, named as in LLVM."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


def _compress(builder, values, marks):
    """Move the marked entries of a vector of 512 bits to its front by an AVX-512 instruction."""
    kind = values.type
    marks = builder.trunc(marks, ir.IntType(kind.count))
    mask = builder.bitcast(marks, ir.VectorType(ir.IntType(1), kind.count))
    compress = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [kind, kind, mask.type]),
        f"llvm.x86.avx512.mask.compress.v{kind.count}{kind.element}",
    )
    return builder.call(compress, [values, ir.Constant(kind, None), mask])


def _permute(builder, values, marks):
    """Move the marked entries of a vector of 256 bits to its front by an AVX2 instruction.

    The instruction permutes eight words of 32 bits. A table holds the permutation for every
    combination of marks, read as a binary number.
    """
    kind, count = values.type, values.type.count
    words = 8 // count
    byte, word = ir.IntType(8), ir.IntType(32)
    rows = []
    for number in range(2**count):
        chosen = [i for i in range(count) if number >> i & 1]
        order = [words * i + j for i in chosen for j in range(words)]
        rows.append(ir.Constant(ir.ArrayType(byte, 8), bytearray(order + [0] * (8 - len(order)))))
    table = cgutils.global_constant(
        builder.module,
        f"order_of_{count}_lanes",
        ir.Constant(ir.ArrayType(rows[0].type, len(rows)), rows),
    )
    pointer = builder.gep(table, [ir.Constant(marks.type, 0), marks])
    order = builder.load(builder.bitcast(pointer, ir.VectorType(byte, 8).as_pointer()), align=1)
    eight = ir.VectorType(word, 8)
    permute = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(eight, [eight, eight]), "llvm.x86.avx2.permd"
    )
    moved = builder.call(permute, [builder.bitcast(values, eight), builder.zext(order, eight)])
    return builder.bitcast(moved, kind)


@intrinsic
def _pack_lanes(typingctx, marks, source, out, i, to):
    """Move the marked entries of ``source[i : i + LANES]`` to ``out[to:]``; return their number.

    Entries of ``out`` behind them are overwritten.
    """
    bits = source.dtype.bitwidth
    signature = types.intp(marks, source, out, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        def lanes(array, index, element, count):
            """Return a pointer to ``count`` elements of an array, as one vector."""
            data = context.make_array(signature.args[array])(context, builder, arguments[array])
            pointer = builder.gep(data.data, [index])
            return builder.bitcast(pointer, ir.VectorType(element, count).as_pointer())

        wide = may_use("avx512f")
        move, width = (_compress, 512 // bits) if wide else (_permute, 256 // bits)
        _, _, _, i, to = arguments
        mark = builder.load(lanes(0, i, ir.IntType(8), LANES), align=1)
        marked = builder.icmp_unsigned("!=", mark, ir.Constant(mark.type, None))
        number = builder.zext(builder.bitcast(marked, ir.IntType(LANES)), to.type)
        element = ir.IntType(bits)
        moved = ir.Constant(to.type, 0)
        for start in range(0, LANES, width):
            at = builder.add(i, ir.Constant(i.type, start))
            values = builder.load(lanes(1, at, element, width), align=bits // 8)
            part = builder.and_(number, ir.Constant(to.type, 2**width - 1))
            number = builder.lshr(number, ir.Constant(to.type, width))
            pointer = lanes(2, builder.add(to, moved), element, width)
            builder.store(move(builder, values, part), pointer, align=bits // 8)
            moved = builder.add(moved, builder.ctpop(part))
        return moved

    return signature, codegen


@intrinsic
def _prefer_wide(typingctx):
    """Let LLVM use vectors of 512 bits in the calling function, which it avoids by default."""

    def codegen(context, builder, signature, arguments):
        if may_use("avx512f"):
            # llvmlite passes this attribute on to LLVM, but its own list does not contain it.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


def prefer_wide():
    """Let the calling function use vectors of 512 bits if the processor has them.

    This shortens the time of the generator by a third and that of the normal law by a quarter.
    """


@overload(prefer_wide, inline="always")
def _compiled_prefer_wide():
    return lambda: _prefer_wide()  # type: ignore[call-arg]


def pack(marks, n, source, out, to):
    """Move the marked entries of ``source[:n]`` to ``out[to:]`` in order; return their number.

    ``marks`` is ``uint8``, 1 or 0, with zeros from ``n`` up to the next multiple of `LANES`.
    ``source`` and ``out`` have the same type of 4 or 8 bytes and at least `LANES` more entries than
    are used. They may overlap if ``out[to]`` is ``source[0]`` or comes before it. Entries of
    ``out`` behind the moved ones are overwritten.
    """
    found = np.uint64(to)  # a signed index would be compiled with a check for negative values
    for i in range(np.uint64(n)):
        out[found] = source[np.uint64(i)]
        found += np.uint64(marks[i])
    return np.intp(found) - to


def _pack_wide(marks, n, source, out, to):
    found = to
    for i in range(0, n, LANES):
        found += _pack_lanes(marks, source, out, i, found)  # type: ignore[call-arg]
    return found - to


@overload(pack)
def _compiled_pack(marks, n, source, out, to):
    return _pack_wide if may_use("avx2") else pack
