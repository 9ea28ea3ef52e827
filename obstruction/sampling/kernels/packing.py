"""Moving the marked entries of an array to its front, sixteen at a time where the processor can.

Which rows stay and which count is a coin toss that no branch predictor learns, so a loop that
copies the chosen ones is held up at every step. Processors with AVX-512 have an instruction for
just this, those with AVX2 one that permutes a vector; elsewhere a loop without branches does the
same, a few times slower. All give the same arrays, but for what comes behind the last entry.

numba's cache on the disk does not notice a change in this file alone: touch `kernels.py` with it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

LANES = 16
"""Entries moved at a time. Arrays must have room for so many more than are asked for."""


def may_use(feature: str) -> bool:
    """Whether code that numba compiles here may use a feature of the processor, in LLVM's words."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


def _compress(builder, values, marks):
    """Move the marked ones of a vector of 512 bits to its front: an instruction of AVX-512."""
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
    """Move the marked ones of a vector of 256 bits to its front, whose order a table knows.

    AVX2 permutes eight words of 32 bits; the table has a row for every number made of marks.
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
    """Move the marked ones of ``source[i : i + LANES]`` to ``out[to:]``; return how many.

    What follows those in ``out`` is overwritten.
    """
    bits = source.dtype.bitwidth
    signature = types.intp(marks, source, out, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        def lanes(array, index, element, count):
            """Return a pointer to so many elements of an array."""
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
    """Let loops of the calling function use vectors of 512 bits; LLVM avoids them by itself."""

    def codegen(context, builder, signature, arguments):
        if may_use("avx512f"):
            # LLVM's own attribute, which llvmlite passes on but does not have in its list
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


def prefer_wide():
    """Have the calling function use vectors of 512 bits, where the processor has them.

    That took a third of the time from the generator and a quarter from the normal law.
    """


@overload(prefer_wide, inline="always")
def _compiled_prefer_wide():
    return lambda: _prefer_wide()  # type: ignore[call-arg]


def pack(marks, n, source, out, to):
    """Move the marked ones of ``source[:n]`` to ``out[to:]``, in their order.

    Returns how many were moved. ``marks`` is ``uint8``, 1 or 0, with zeros from ``n`` on up to a
    multiple of `LANES`; ``source`` and ``out`` are of one type of 4 or 8 bytes and have room for
    `LANES` more. They may overlap if ``out[to]`` is ``source[0]`` or comes before it. What follows
    the moved entries in ``out`` is lost.
    """
    found = np.uint64(to)  # unsigned, or compiled code would look for negative indices
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
