"""Kernels of the near-duplicate search: shingle hashes, MinHash, band chains, set similarity, joins, union-find.

Plain numba: they read Arrow string buffers through addresses, hold no interpreter lock and run over ranges of rows, so
that any thread or process may call them and the result does not depend on how the ranges are cut. What they compute is
said in `shingles` (texts, hashes, sets) and `sketch` (pairs). Each is compiled once, into a cache on disk.
"""

# mypy: disable-error-code="call-arg,call-overload,var-annotated,assignment,no-untyped-def"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

U32, U64 = np.uint32, np.uint64
K0, K1, K2 = U64(0x9E3779B97F4A7C15), U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
ONE = U64(1)
LANES = 64              # permutations a pass of the inner loop; their number is rounded up to it, never down
MET, FULL, ENDLESS = 1, 2, 3        # how full the buckets of a row were, see `collect`
GLIMPSE = 64            # low bytes of the first minima kept a row: enough to tell a chance collision from a pair
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_V16 = ir.VectorType(_I32, 16)
_V64 = ir.VectorType(_I8, 64)

# ------------------------------------------------------------------ vector instructions that numba has no words for
def _at(builder: Any, address: Any, type_: Any) -> Any:
    return builder.inttoptr(address, ir.PointerType(type_))


@intrinsic
def _load64(_context, address):
    """Eight bytes at any address, little-endian."""
    def codegen(context, builder, signature, args):
        x = builder.load(_at(builder, args[0], _I64))
        x.align = 1
        return x
    return types.uint64(types.intp), codegen


@intrinsic
def load8(_context, address):
    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(_at(builder, args[0], _I8)), _I64)
    return types.uint64(types.intp), codegen


@intrinsic
def _first_bytes(_context, address, n):
    """The first of the n bytes at the address, eight at most, little-endian; eight are read."""
    def codegen(context, builder, signature, args):
        x = builder.load(_at(builder, args[0], _I64))
        x.align = 1
        beyond = builder.shl(_I64(-1), builder.shl(args[1], _I64(3)))
        some = builder.select(builder.icmp_signed(">", args[1], _I64(0)), builder.and_(x, builder.not_(beyond)), _I64(0))
        return builder.select(builder.icmp_signed("<", args[1], _I64(8)), some, x)
    return types.uint64(types.intp, types.intp), codegen


@intrinsic
def _address(_context, array):
    """Where the data of an array lie, as array.ctypes.data says, which takes longer to compile."""
    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, args[0]).data, _I64)
    return types.intp(array), codegen


def _mixed(builder: Any, x: Any, *steps: tuple[int, int]) -> Any:
    """x with its higher bits brought down: a shift, and a product where the factor is not 0, for each step."""
    for shift, factor in steps:
        x = builder.xor(x, builder.lshr(x, x.type(shift)))
        x = builder.mul(x, x.type(factor)) if factor else x
    return x


@intrinsic
def mix(_context, x):
    def codegen(context, builder, signature, args):
        return _mixed(builder, args[0], (32, int(K0)), (29, 0))
    return types.uint64(types.uint64), codegen


@intrinsic
def _fmix32(_context, x):
    """MurmurHash3's finaliser of the low half: the pre-mix of datasketch's "affine32" scheme."""
    def codegen(context, builder, signature, args):
        return _mixed(builder, builder.trunc(args[0], _I32), (16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 0))
    return types.uint32(types.uint64), codegen


@intrinsic
def _trailing_zeros(_context, x):
    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))
    return types.uint64(types.uint64), codegen


@intrinsic
def _leading_zeros(_context, x):
    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
    return types.uint64(types.uint64), codegen


@intrinsic
def _ones(_context, x):
    """Number of bits set."""
    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])
    return types.uint64(types.uint64), codegen


@intrinsic
def _agree64(_context, one, two):
    """How many of the 64 bytes at two addresses are equal."""
    def codegen(context, builder, signature, args):
        x, y = (builder.load(_at(builder, a, _V64)) for a in args)
        x.align = y.align = 1
        return builder.ctpop(builder.bitcast(builder.icmp_unsigned("==", x, y), _I64))
    return types.uint64(types.intp, types.intp), codegen


@intrinsic
def _lower64(_context, source, target):
    """Store 64 bytes ASCII lower-cased at `target`; return the mask of white space (what str.split splits on)."""
    def splat(value):
        return ir.Constant(_V64, [value] * 64)

    def codegen(context, builder, signature, args):
        x = builder.load(_at(builder, args[0], _V64))
        x.align = 1

        def between(low, n):
            return builder.icmp_unsigned("<", builder.sub(x, splat(low)), splat(n))
        blank = builder.or_(builder.icmp_unsigned("==", x, splat(32)), builder.or_(between(9, 5), between(28, 4)))
        y = builder.select(between(65, 26), builder.add(x, splat(32)), x)
        builder.store(y, _at(builder, args[1], _V64)).align = 1
        return builder.bitcast(blank, _I64)
    return types.uint64(types.intp, types.intp), codegen


@intrinsic
def _minima64(_context, hashes, n, a, b, minima):
    """minima[j] = min(h * a[j] + b[j] mod 2^32 over n hashes h) for 64 permutations, kept in registers."""
    def codegen(context, builder, signature, args):
        hashes, n, a, b, minima = args

        def vectors(base):
            out = []
            for k in range(4):
                v = builder.load(_at(builder, builder.add(base, _I64(k * 64)), _V16))
                v.align = 4
                out.append(v)
            return out
        va, vb = vectors(a), vectors(b)
        entry = builder.block
        loop, body, done = (builder.append_basic_block("minhash." + x) for x in ("loop", "body", "done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(_I64(0), entry)
        best = [builder.phi(_V16) for _ in range(4)]
        for x in best:
            x.add_incoming(ir.Constant(_V16, [0xFFFFFFFF] * 16), entry)
        builder.cbranch(builder.icmp_signed("<", i, n), body, done)
        builder.position_at_end(body)
        h = builder.load(_at(builder, builder.add(hashes, builder.mul(i, _I64(4))), _I32))
        undefined = ir.Constant(_V16, ir.Undefined)
        spread = builder.shuffle_vector(builder.insert_element(undefined, h, _I32(0)), undefined,
                                        ir.Constant(_V16, [0] * 16))
        for k in range(4):
            v = builder.add(builder.mul(spread, va[k]), vb[k])
            best[k].add_incoming(builder.select(builder.icmp_unsigned("<", v, best[k]), v, best[k]), body)
        i.add_incoming(builder.add(i, _I64(1)), body)
        builder.branch(loop)
        builder.position_at_end(done)
        for k in range(4):
            builder.store(best[k], _at(builder, builder.add(minima, _I64(k * 64)), _V16)).align = 4
        return context.get_dummy_value()
    return types.void(types.intp, types.intp, types.intp, types.intp, types.intp), codegen


# ------------------------------------------------------------------ kernels
#: For what only kernels call: without the ways in from Python and C, a third of the seconds that compiling it takes.
_kernel = njit(nogil=True, cache=True, no_cfunc_wrapper=True)
_inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_inner
def _word_hash(p, k):
    """64-bit hash of the k >= 1 bytes at address p; 16 bytes behind them must be readable."""
    h = (_first_bytes(p, k) ^ K1) * K2 + (_first_bytes(p + 8, k - 8) ^ (U64(k) << U64(56))) * K0
    for q in range(16, k, 8):
        h = mix(h ^ _first_bytes(p + q, k - q))
    return mix(h)


@_inner
def _words(address, size, low, edges, out):
    """Hash every word of the text into `out`, return their number. `low`, `edges`: scratch."""
    n = 0
    before = U64(0)
    base = _address(low)
    for i in range(0, size, 64):
        solid = ~_lower64(address + i, base + i)
        if size - i < 64:
            solid &= (ONE << U64(size - i)) - ONE
        turn = solid ^ ((solid << ONE) | before)
        before = solid >> U64(63)
        while turn != U64(0):
            edges[n] = i + np.int64(_trailing_zeros(turn))
            n += 1
            turn &= turn - ONE
    if n & 1:
        edges[n] = size
        n += 1
    n >>= 1
    for j in range(n):
        start = np.int64(edges[2 * j])
        out[j] = _word_hash(base + start, np.int64(edges[2 * j + 1]) - start)
    return n


@_inner
def _chars(address, size, low, out):
    """Code points of the text, white space collapsed and stripped, ASCII lower-cased, into `out`; their number."""
    n = 0
    base = _address(low)
    pending = False
    for i in range(0, size, 64):
        blank = _lower64(address + i, base + i)
        for j in range(min(64, size - i)):
            if (blank >> U64(j)) & ONE:
                pending = n > 0
                continue
            c = U64(low[i + j])
            if c >> U64(6) == U64(2):       # goes on with the character before
                out[n - 1] = (out[n - 1] << U64(6)) | (c & U64(0x3F))
                continue
            if pending:
                out[n] = U64(32)
                n += 1
                pending = False
            if c >= U64(0xC0):
                c &= U64(0x1F) if c < U64(0xE0) else (U64(0x0F) if c < U64(0xF0) else U64(0x07))
            out[n] = c
            n += 1
    return n


@_inner
def _shingles(address, size, unit, ngram, tag, low, edges, parts, out):
    """64-bit hashes of the text's shingles, in order, with repeats, into `out`; their number.

    `tag` > 0 sets the shingles of one column apart from those of another.
    """
    if unit == 0:
        n = _words(address, size, low, edges, parts)
    else:
        n = _chars(address, size, low, parts)
    if n == 0:
        return 0
    width = min(n, ngram)
    m = n - width + 1
    salt = U64(tag) * K2
    if width == 5:      # independent products instead of the rolling chain
        c2 = K1 * K1
        c3 = c2 * K1
        c4 = c3 * K1
        for i in range(m):
            out[i] = mix((parts[i] * c4 + parts[i + 1] * c3 + parts[i + 2] * c2 + parts[i + 3] * K1 + parts[i + 4])
                          ^ salt)
        return m
    power = ONE
    for _ in range(width - 1):
        power *= K1
    h = U64(0)
    for i in range(width - 1):
        h = h * K1 + parts[i]
    for i in range(m):
        h = h * K1 + parts[i + width - 1]
        out[i] = mix(h ^ salt)
        h -= parts[i] * power
    return m


@_kernel
def sketch(address, size, lo, hi, unit, ngram, a, b, perms, width, low, edges, parts, hashes, mixed, first, minima,
           dealt, keys, signature, glimpse, identity, count):
    """MinHash of rows [lo, hi): signatures, band keys, identity of the shingle sets, shingle counts.

    address, size: (columns, rows) int64. a, b: permutations, a multiple of 64; `perms` minima are wanted. They are dealt
    in turn to the columns of the row that have a shingle: with one column they are its MinHash signature; with two,
    minimum 0 is the first of the first column, minimum 1 the first of the second, minimum 2 the second of the first ...
    keys: (bands, rows) uint32, of `width` minima each and of which columns are empty. signature: (rows, perms) uint32 or
    (rows, 0). glimpse: (rows, GLIMPSE) uint8 or (rows, 0): low bytes of the first minima, 0 where there are fewer.
    identity: (rows, 2) uint64, equal for rows with the same shingles in every column. count: (columns, rows) int32.
    low, edges, parts, hashes: scratch of `shingles.scratch`; mixed (uint32, for the shingles of a row),
    first (int64, one more than columns), minima and dealt (uint32, as long as a and `perms`): scratch too.
    """
    columns = size.shape[0]
    for r in range(lo, hi):
        total = U64(0)
        squares = U64(0)
        pattern = U64(0)
        filled = 0
        first[0] = 0
        for c in range(columns):
            n = _shingles(address[c, r], size[c, r], unit, ngram, c + 1 if columns > 1 else 0, low, edges, parts, hashes)
            count[c, r] = n
            if n == 0:
                continue
            at = first[filled]
            for j in range(n):
                h = hashes[j]
                mixed[at + j] = _fmix32(h)
                total += h
                squares += h * (h | ONE)
            pattern |= ONE << U64(c)
            filled += 1
            first[filled] = at + n
        identity[r, 0] = total
        identity[r, 1] = squares
        for f in range(filled):
            wanted = (perms - f + filled - 1) // filled
            for j in range(0, wanted, LANES):
                _minima64(_address(mixed) + 4 * first[f], first[f + 1] - first[f], _address(a) + 4 * j,
                          _address(b) + 4 * j, _address(minima) + 4 * j)
            for j in range(wanted):
                dealt[j * filled + f] = minima[j]
        if filled == 0:
            for j in range(perms):
                dealt[j] = U32(0xFFFFFFFF)
        for j in range(signature.shape[1]):
            signature[r, j] = dealt[j]
        for j in range(glimpse.shape[1]):
            glimpse[r, j] = dealt[j] & U32(255) if j < perms else U32(0)
        for t in range(keys.shape[0]):
            h = U64(t + 1) ^ (pattern << U64(32))
            for j in range(width):
                h = (h ^ U64(dealt[t * width + j])) * K0
                h ^= h >> U64(29)
            keys[t, r] = U32(h >> U64(32))


@_inner
def _sorted_unique(x, n, tmp, heads):
    """Sort x[:n] (hashes, so evenly spread) in place and drop repeats; the number left. tmp, heads: scratch >= n."""
    bits = 1
    while (1 << bits) < n:
        bits += 1
    shift = U64(64 - bits)
    for i in range((1 << bits) + 1):
        heads[i] = 0
    for i in range(n):
        heads[np.int64(x[i] >> shift) + 1] += 1
    for i in range(1 << bits):
        heads[i + 1] += heads[i]
    for i in range(n):
        k = np.int64(x[i] >> shift)
        tmp[heads[k]] = x[i]
        heads[k] += 1
    m = 0
    for i in range(n):
        h = tmp[i]
        j = i
        while j > 0 and tmp[j - 1] > h:
            tmp[j] = tmp[j - 1]
            j -= 1
        tmp[j] = h
    for i in range(n):
        if i == 0 or tmp[i] != tmp[i - 1]:
            x[m] = tmp[i]
            m += 1
    return m


@_kernel
def sets(address, size, rows, lo, hi, unit, ngram, here, low, edges, parts, hashes, heads, start, flat, count):
    """Sorted shingle sets of rows[lo:hi]; set (c, i) goes to flat[start[c, i]:][:count[c, i]], where here[c, i] == i.

    low, edges, parts, hashes: scratch of `shingles.scratch`; heads: scratch, int32, twice as long as `parts` and two more.
    """
    columns = size.shape[0]
    for i in range(lo, hi):
        r = rows[i]
        for c in range(columns):
            if here[c, i] != i:
                continue
            n = _shingles(address[c, r], size[c, r], unit, ngram, c + 1 if columns > 1 else 0, low, edges, parts, hashes)
            n = _sorted_unique(hashes, n, parts, heads)
            for j in range(n):
                flat[start[c, i] + j] = hashes[j]
            count[c, i] = n


@_inner
def _bytes_hash(p, k):
    """64-bit hash of the k bytes at address p; no byte behind them is read."""
    h = U64(k) * K1 + K2
    i = 0
    while i + 8 <= k:
        h = (h ^ _load64(p + i)) * K0
        h ^= h >> U64(32)
        i += 8
    while i < k:
        h = (h ^ load8(p + i)) * K2
        i += 1
    return mix(h)


@_inner
def _bytes_equal(p, q, k):
    i = 0
    while i + 8 <= k and _load64(p + i) == _load64(q + i):
        i += 8
    if i + 8 <= k:
        return False
    while i < k and load8(p + i) == load8(q + i):
        i += 1
    return i == k


@_kernel
def same_texts(address, size, first):
    """first[i] = the first row whose every column has the bytes of row i. address, size: (columns, rows) int64."""
    columns, n = size.shape
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    marks = np.empty(n, np.uint64)
    for i in range(n):
        h = K1
        for c in range(columns):
            h = mix(h ^ _bytes_hash(address[c, i], size[c, i])) * K2
        marks[i] = h
        p = np.int64(mix(h) >> U64(64 - bits))
        while True:
            q = table[p]
            if q < 0:
                table[p] = i
                first[i] = i
                break
            equal = marks[q] == h
            for c in range(columns):
                equal = equal and size[c, q] == size[c, i] and _bytes_equal(address[c, q], address[c, i], size[c, i])
            if equal:
                first[i] = q
                break
            p = (p + 1) & ((1 << bits) - 1)


@_kernel
def first_equal(identity, first):
    """first[i] = the first row with the identity of row i."""
    n = identity.shape[0]
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    for i in range(n):
        p = np.int64(mix(identity[i, 0] ^ (identity[i, 1] * K1)) >> U64(64 - bits))
        while True:
            q = table[p]
            if q < 0:
                table[p] = i
                first[i] = i
                break
            if identity[q, 0] == identity[i, 0] and identity[q, 1] == identity[i, 1]:
                first[i] = q
                break
            p = (p + 1) & ((1 << bits) - 1)


@_inner
def _sieve(n):
    """Return (bits of an open table for n keys, bits of a sieve that lets one key in 64 pass by chance at most)."""
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    fine = max(bits, 6)
    while (1 << fine) < 64 * n and fine < 27:
        fine += 1
    return bits, fine


@_inner
def _place(table, bits, h, identity, one, two):
    """Where the identity (one, two) of hash h stands in the open table of rows of `identity`, or will."""
    p = np.int64(h >> U64(64 - bits))
    while table[p] >= 0 and (identity[table[p], 0] != one or identity[table[p], 1] != two):
        p = (p + 1) & ((1 << bits) - 1)
    return p


@_kernel
def first_behind(identity, more, first):
    """first[i] = the first row with the identity of row i of `more`, rows that come behind those of `identity`."""
    known = identity.shape[0]
    bits, fine = _sieve(more.shape[0])
    table = np.full(1 << bits, -1, np.int32)
    sieve = np.zeros(1 << (fine - 6), np.uint64)
    for i in range(more.shape[0]):
        h = mix(more[i, 0] ^ (more[i, 1] * K1))
        bit = h >> U64(64 - fine)
        sieve[bit >> U64(6)] |= ONE << (bit & U64(63))
        p = _place(table, bits, h, more, more[i, 0], more[i, 1])
        if table[p] < 0:
            table[p] = i
        first[i] = table[p]
    earlier = np.full(more.shape[0], -1, np.int32)
    for i in range(known):
        h = mix(identity[i, 0] ^ (identity[i, 1] * K1))
        bit = h >> U64(64 - fine)
        if (sieve[bit >> U64(6)] >> (bit & U64(63))) & ONE:
            q = table[_place(table, bits, h, more, identity[i, 0], identity[i, 1])]
            if q >= 0 and earlier[q] < 0:
                earlier[q] = i
    for i in range(more.shape[0]):
        q = first[i]
        first[i] = earlier[q] if earlier[q] >= 0 else known + q


@_kernel
def meets(keys, use, more, more_use, met):
    """met[i] = 1 for each row i that shares a band key with one of the rows `more`; other places stay as they are.

    keys, more: the band's key of each row. Rows without `use` take no part. Other threads may write the same there.
    """
    n = more.size
    bits, fine = _sieve(n)
    table = np.full(1 << bits, -1, np.int32)
    sieve = np.zeros(1 << (fine - 6), np.uint64)
    for i in range(n):
        if more_use[i]:
            h = U64(more[i]) * K0
            bit = h >> U64(64 - fine)
            sieve[bit >> U64(6)] |= ONE << (bit & U64(63))
            p = np.int64(h >> U64(64 - bits))
            while table[p] >= 0 and more[table[p]] != more[i]:
                p = (p + 1) & ((1 << bits) - 1)
            table[p] = i
    for i in range(keys.size):
        h = U64(keys[i]) * K0
        bit = h >> U64(64 - fine)
        if not (sieve[bit >> U64(6)] >> (bit & U64(63))) & U64(use[i] != 0):
            continue
        p = np.int64(h >> U64(64 - bits))
        while table[p] >= 0 and more[table[p]] != keys[i]:
            p = (p + 1) & ((1 << bits) - 1)
        if table[p] >= 0:
            met[i] = 1


@_kernel
def link(keys, use, first, before):
    """before[i] = the row before i with the same band key, or -1; rows with use[i] == 0 are left out.

    With `first` > 0 only rows that share a key with one from `first` on are filled in: what the chains of those meet.
    """
    n = keys.size
    bits = 4
    while (1 << bits) < 64 * (n - first) and bits < 24:     # few of the others pass by chance
        bits += 1
    wanted = np.zeros(1 << bits if first else 1, np.uint8)
    if first:
        for i in range(first, n):
            wanted[np.int64((U64(keys[i]) * K0) >> U64(64 - bits))] = 1
    taken = np.empty(n, np.int32)
    m = 0
    for i in range(n):
        if use[i] and (first == 0 or wanted[np.int64((U64(keys[i]) * K0) >> U64(64 - bits))]):
            taken[m] = i
            m += 1
        elif first == 0:
            before[i] = -1
    bits = 4
    while (1 << bits) < 2 * m:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    for x in range(m):
        i = taken[x]
        before[i] = -1
        p = np.int64((U64(keys[i]) * K0) >> U64(64 - bits))
        while True:
            q = table[p]
            if q < 0:
                break
            if keys[q] == keys[i]:
                before[i] = q
                break
            p = (p + 1) & ((1 << bits) - 1)
        table[p] = i


@_kernel
def cut(left, right, text, size, limit, ends):
    """Cut pairs into blocks whose distinct texts have `limit` at most together, one pair at least; write where each ends.

    Returns how many blocks there are. text: (columns, rows) int32, equal for equal texts, numbers of rows; size: of each
    text; ends: (pairs,) int64.
    """
    last = np.full(text.shape, -1, np.int64)
    n = 0
    held = 0
    for p in range(left.size):
        a, b = left[p], right[p]
        for _again in range(2):
            more = 0
            for c in range(text.shape[0]):
                x, y = text[c, a], text[c, b]
                more += (size[c, a] if last[c, x] != n else 0) + (size[c, b] if last[c, y] != n and x != y else 0)
            if held + more <= limit or held == 0:
                break
            ends[n] = p
            n += 1
            held = 0
        for c in range(text.shape[0]):
            last[c, text[c, a]] = n
            last[c, text[c, b]] = n
        held += more
    if left.size:
        ends[n] = left.size
        n += 1
    return n


@_inner
def _wider(x, room):
    out = np.empty(room, np.uint64)
    for i in range(x.size):
        out[i] = x[i]
    return out


@_inner
def _mark(before, first, last, met):
    while first > last:
        met[first] = MET
        first = before[first]
    met[last] = MET


@_kernel
def collect(before, use, glimpse, least, lo, hi, chain, few, steps, hot, met):
    """Distinct candidates of rows [lo, hi) as row << 32 | earlier row: all earlier members of a bucket if these are `chain`
    at most, else the last `few`.

    before: (bands, rows) of `link`. Members with fewer than `least` equal bytes of their glimpses met by chance and do
    not count. hot[i] = FULL where there are more than `chain`, ENDLESS where `steps` were looked at and there are more.
    met[j] = MET for members that a full chain came by: other threads may write there too.
    """
    bands = before.shape[0]
    base = _address(glimpse)
    out = np.empty(1 << 12, np.uint64)
    n = 0
    seen = np.empty(bands * chain, np.int32)
    for i in range(lo, hi):
        if use[i] == 0:
            continue
        m = 0
        for t in range(bands):
            j = before[t, i]
            d = 0
            step = 0
            kept = m
            while j >= 0:
                if d == chain or step == steps:
                    hot[i] = max(hot[i], FULL if d == chain else ENDLESS)
                    if d == chain:
                        m = kept
                        _mark(before[t], before[t, i], j, met)
                    break
                step += 1
                known = False
                for x in range(m):
                    if seen[x] == j:
                        known = True
                        break
                if known:
                    d += 1
                elif _agree64(base + GLIMPSE * i, base + GLIMPSE * j) >= least:
                    seen[m] = j
                    m += 1
                    d += 1
                if d <= few:
                    kept = m
                j = before[t, j]
        if n + m > out.size:
            out = _wider(out, 2 * out.size + m)
        for x in range(m):
            out[n] = (U64(i) << U64(32)) | U64(seen[x])
            n += 1
    return out[:n]


@_inner
def _common(flat, s, n, t, m):
    """Size of the intersection of the sorted sets flat[s:s+n] and flat[t:t+m]."""
    i = 0
    while i < min(n, m) and flat[s + i] == flat[t + i]:     # sets are often equal, and this is five times faster
        i += 1
    j = i
    c = i
    while i < n and j < m:
        x = flat[s + i]
        y = flat[t + j]
        c += x == y
        i += x <= y
        j += y <= x
    return c


@_kernel
def jaccard(left, right, lo, hi, flat, start, count, floor, fields, score):
    """Exact Jaccard of pairs [lo, hi), column by column; score = the smallest of them.

    Two empty columns count as equal (1.0), one empty one as 0. A pair that falls below `floor` is left at score -1.
    """
    for p in range(lo, hi):
        u = left[p]
        v = right[p]
        worst = 1.0
        for c in range(count.shape[0]):
            n = np.int64(count[c, u])
            m = np.int64(count[c, v])
            if max(n, m) == 0:
                s = 1.0
            elif min(n, m) < floor * max(n, m):
                s = 0.0
            elif start[c, u] == start[c, v]:
                s = 1.0     # one text
            else:
                k = _common(flat, start[c, u], n, start[c, v], m)
                s = k / (n + m - k)
            fields[p, c] = s
            worst = min(worst, s)
            if worst < floor:
                worst = -1.0
                break
        score[p] = worst


@njit(nogil=True)
def _reaches(flat, s, n, t, m, floor):
    """Whether the sorted sets flat[s:s+n] and flat[t:t+m] have Jaccard >= floor; given up as soon as they cannot."""
    i = 0
    while i < min(n, m) and flat[s + i] == flat[t + i]:
        i += 1
    j = i
    c = i
    while i < n and j < m:
        left = min(n - i, m - j)
        if c + left < floor * (n + m - c - left):
            return False
        for _step in range(min(left, 16)):
            x = flat[s + i]
            y = flat[t + j]
            c += x == y
            i += x <= y
            j += y <= x
    return c >= floor * (n + m - c)


@_inner
def _holds(flat, start, count, u, v, floor):
    """Whether every column of sets u and v has Jaccard >= floor."""
    for c in range(count.shape[0]):
        n = np.int64(count[c, u])
        m = np.int64(count[c, v])
        if max(n, m) == 0 or start[c, u] == start[c, v]:
            continue
        if min(n, m) < floor * max(n, m):
            return False
        if not _reaches(flat, start[c, u], n, start[c, v], m, floor):
            return False
    return True


@_inner
def _root(root, a):
    while root[a] != a:
        root[a] = root[root[a]]
        a = root[a]
    return a


@_inner
def _join(root, a, b):
    """Join two roots; the smaller one stays."""
    root[max(a, b)] = min(a, b)


@njit(nogil=True)
def _meetings(shingle):
    """Times that two of the sets meet, over all runs of equal shingles."""
    total = 0
    run = 0
    for x in range(1, shingle.size):
        run = run + 1 if shingle[x] == shingle[x - 1] else 0
        total += run
    return total


@_inner
def _near(glimpse, sets, least):
    """One bit for each pair of sets, in the row of the larger: whether at least `least` bytes of their glimpses agree."""
    base = _address(glimpse)
    out = np.zeros((sets, (sets + 63) // 64), np.uint64)
    for i in range(sets):
        for j in range(i):
            if _agree64(base + GLIMPSE * i, base + GLIMPSE * j) >= least:
                out[i, j >> 6] |= U64(1) << U64(j & 63)
    return out


@_inner
def _telling(flat, start, count, floor, root, tried, most, i, j):
    """Whether sets i and j have Jaccard >= floor and are to be told of; then they are joined. See `share_rare`."""
    a = _root(root, i)
    b = _root(root, j)
    if a == b and tried[i] >= most:
        return False
    tried[i] += a == b
    if not _holds(flat, start, count, i, j, floor):
        return False
    _join(root, a, b)
    return True


@_inner
def _share_listed(shingle, owner, near, flat, start, count, floor, root, tried, most):
    """What `share_rare` gives where the pairs worth a look are listed in the bits of `near`: they are taken off the list.

    Of the sets met so far at a shingle a bit is set in `mask`, words `word` of a row of `near`, so that 64 sets cost one
    look. A set meets the earlier ones from last to first.
    """
    out = np.empty(1 << 12, np.uint64)
    n = 0
    word = np.empty(near.shape[1], np.int64)
    mask = np.empty(near.shape[1], np.uint64)
    words = 0
    for x in range(shingle.size):
        if x and shingle[x] != shingle[x - 1]:
            words = 0
        i = np.int64(owner[x])
        for k in range(words - 1, -1, -1):
            w = word[k]
            bits = near[i, w] & mask[k]
            if bits:
                near[i, w] ^= bits
            while bits:
                b = U64(63) - _leading_zeros(bits)
                bits ^= ONE << b
                j = (w << 6) | np.int64(b)
                if _telling(flat, start, count, floor, root, tried, most, i, j):
                    if n == out.size:
                        out = _wider(out, 2 * n)
                    out[n] = (U64(i) << U64(32)) | U64(j)
                    n += 1
        if words == 0 or word[words - 1] != i >> 6:
            word[words] = i >> 6
            mask[words] = U64(0)
            words += 1
        mask[words - 1] |= ONE << U64(i & 63)
    return out[:n]


@_kernel
def share_rare(shingle, owner, glimpse, least, flat, start, count, floor, root, tried, most):
    """Pairs of sets that hold the same shingle and whose columns all have Jaccard >= floor: larger << 32 | smaller.

    shingle: equal ones one behind the other, the rarest first, each held by few sets; owner: the set of each, ascending.
    root: union-find of the sets, to which the pairs are added. Of two sets that are joined already a pair says little: a
    set is held against `most` of these, at its rarest shingles, which are counted in `tried`. Two alike sets meet at
    hundreds of shingles: where the sets are so few that this costs more than to hold all glimpses against each other, that
    comes first, and a pair is then taken off the list; else a table of the pairs met last keeps most repeats out.
    """
    sets = start.shape[1]
    if sets <= 1 << 15 and 2 * sets * sets < _meetings(shingle):
        return _share_listed(shingle, owner, _near(glimpse, sets, least), flat, start, count, floor, root, tried, most)
    met = np.zeros(1 << 20, np.uint64)
    base = _address(glimpse)
    out = np.empty(1 << 12, np.uint64)
    n = 0
    for x in range(shingle.size):
        i = np.int64(owner[x])
        y = x - 1
        while y >= 0 and shingle[y] == shingle[x]:
            j = np.int64(owner[y])
            y -= 1
            if i == j:
                continue
            pair = (U64(max(i, j)) << U64(32)) | U64(min(i, j))
            slot = np.int64((pair * K0) >> U64(44))
            if met[slot] == pair:
                continue
            met[slot] = pair
            if _root(root, i) == _root(root, j) and tried[i] >= most:
                continue
            if _agree64(base + GLIMPSE * i, base + GLIMPSE * j) < least:
                continue
            if _telling(flat, start, count, floor, root, tried, most, i, j):
                if n == out.size:
                    out = _wider(out, 2 * n)
                out[n] = pair
                n += 1
    return out[:n]


@_inner
def _slot(table, keys, h):
    """Where the number of shingle h stands in the open table, or will."""
    p = np.int64((h * K0) >> U64(32)) & (table.size - 1)
    while table[p] >= 0 and keys[table[p]] != h:
        p = (p + 1) & (table.size - 1)
    return p


@_kernel
def numbered(flat, start, count, lo, hi):
    """Number the distinct shingles in [lo, hi] in the order met; return (shingle of each number, how often each is met,
    number of each shingle met, its set): sets ascending, all columns of a set together."""
    total = 0
    for i in range(count.shape[1]):
        for c in range(count.shape[0]):
            for x in range(start[c, i], start[c, i] + count[c, i]):
                total += lo <= flat[x] <= hi
    number = np.empty(total, np.int32)
    owner = np.empty(total, np.int32)
    keys = np.empty(1 << 12, np.uint64)
    times = np.zeros(1 << 12, np.int64)
    table = np.full(1 << 13, -1, np.int32)
    n = 0
    m = 0
    for i in range(count.shape[1]):
        for c in range(count.shape[0]):
            for x in range(start[c, i], start[c, i] + count[c, i]):
                h = flat[x]
                if not lo <= h <= hi:
                    continue
                p = _slot(table, keys, h)
                if table[p] < 0:
                    if n == keys.size:
                        keys = _wider(keys, 2 * n)
                        more = np.zeros(2 * n, np.int64)
                        more[:n] = times
                        times = more
                        table = np.full(4 * n, -1, np.int32)
                        for k in range(n):
                            table[_slot(table, keys, keys[k])] = k
                        p = _slot(table, keys, h)
                    table[p] = n
                    keys[n] = h
                    n += 1
                times[table[p]] += 1
                number[m] = table[p]
                owner[m] = i
                m += 1
    return keys[:n], times[:n], number, owner


@_kernel
def dealt(number, owner, place, out):
    """out[place[k]:] = the sets that hold shingle number k, ascending; place[k] < 0: none are wanted."""
    for x in range(number.size):
        k = number[x]
        if place[k] >= 0:
            out[place[k]] = owner[x]
            place[k] += 1


@_inner
def _same_bits(bits, i, j):
    differ = U64(0)
    for w in range(bits.shape[1]):
        differ += _ones(bits[i, w] ^ bits[j, w])
    return 64 * bits.shape[1] - np.int64(differ)


@_inner
def _too_unlike(size, tail, other_size, other_tail, floor):
    """Whether two sets of these sizes cannot reach `floor` with that much in common at most; other_size <= size."""
    needed = floor / (1.0 + floor) * (size + other_size) - 1e-9
    return other_size < floor * size - 1e-9 or min(tail, other_tail) < needed


@_inner
def _joined(root, row, first, last):
    """Whether the sets of entries [first, last) are all joined."""
    a = _root(root, row[first])
    j = first + 1
    while j < last and _root(root, row[j]) == a:
        j += 1
    return j == last


@_kernel
def share_common(row, size, tail, classes, own, place, bits, least, budget, flat, start, count, floor, root):
    """Return (pairs that join sets, comparisons left out) among sets that hold a common shingle.

    A pair, larger << 32 | smaller, has Jaccard >= floor in every column. root: union-find of the sets, to which the pairs
    are added; sets that are joined already are not held against each other.

    One entry for each set of each list (the sets that hold one shingle), lists one behind the other, each in order of
    (size, tail). row: the set of each entry; size: its shingles over all columns; tail: how many of these are at or
    behind the list's shingle in the order from rare to common, which bounds what a pair that shares nothing rarer has in
    common. classes: first entry of each run of one (size, tail), and the end; own: first class of the entry's list; a
    class that cannot reach `floor`, or is joined to the set as a whole, is passed over whole. place: index of the entry's
    set in bits (sets, words) uint64, one bit of each minimum; two sets with fewer than `least` equal bits are not looked
    at. Every entry is held against those before it in its list. `budget`: comparisons a set may spend over all its
    entries, a similarity counted as 64.
    """
    whole = np.empty(classes.size - 1, np.bool_)
    for k in range(whole.size):
        whole[k] = _joined(root, row, classes[k], classes[k + 1])
    spent = np.zeros(root.size, np.int64)
    out = np.empty(1 << 12, np.uint64)
    n = 0
    left_out = 0
    low = 0
    for i in range(row.size):
        u = row[i]
        low = max(low, own[i])
        while size[classes[low]] < floor * size[i] - 1e-9:
            low += 1
        for k in range(low, whole.size):
            first = classes[k]
            if first >= i:
                break
            if spent[u] > budget:
                left_out += i - first
                break
            spent[u] += 1
            if _too_unlike(size[i], tail[i], size[first], tail[first], floor):
                continue
            a = _root(root, u)
            if whole[k] and _root(root, row[first]) == a:
                continue
            last = min(i, classes[k + 1])
            for j in range(first, last):
                v = row[j]
                spent[u] += 1
                b = _root(root, v)
                if a == b or _same_bits(bits, place[i], place[j]) < least:
                    continue
                spent[u] += 64
                if _holds(flat, start, count, u, v, floor):
                    if n == out.size:
                        out = _wider(out, 2 * n)
                    out[n] = (U64(max(u, v)) << U64(32)) | U64(min(u, v))
                    n += 1
                    _join(root, a, b)
                    a = min(a, b)
            if not whole[k] and last == classes[k + 1]:
                whole[k] = _joined(root, row, first, last)
    return out[:n], left_out


@_kernel
def frequencies(flat, start, count, bits):
    """Return how often shingles occur by their leading bits, 255 for more, uint8."""
    table = np.zeros(1 << bits, np.uint8)
    shift = U64(64 - bits)
    for r in range(count.size):
        for i in range(start[r], start[r] + count[r]):
            k = np.int64(flat[i] >> shift)
            if table[k] < 255:
                table[k] += 1
    return table


@_kernel
def rarest_first(flat, start, count, lo, hi, table, bits):
    """Re-key the sets lo to hi so that their rarest shingles by `table` come first, in one order for all sets."""
    shift = U64(64 - bits)
    slot = np.empty(257, np.int32)
    tmp = np.empty(count[lo:hi].max() if hi > lo else 0, np.uint64)
    for r in range(lo, hi):     # a set is sorted already: a stable counting sort by frequency is enough
        s = start[r]
        n = np.int64(count[r])
        most = 0
        for k in range(257):
            slot[k] = 0
        for i in range(n):
            h = flat[s + i]
            f = np.int64(table[np.int64(h >> shift)])
            slot[f + 1] += 1
            most = max(most, f)
            tmp[i] = (U64(f) << U64(56)) | (h >> U64(8))     # keeps the order of the hashes
        for k in range(most):
            slot[k + 1] += slot[k]
        for i in range(n):
            f = np.int64(tmp[i] >> U64(56))
            flat[s + slot[f]] = tmp[i]
            slot[f] += 1


@_kernel
def prefix_join(flat, start, count, order, threshold, bits):
    """All pairs with Jaccard >= threshold as larger row << 32 | smaller row: prefix, length and position filters.

    Sets are taken from small to large (`order`); each looks up its prefix in an inverted index of the prefixes of the
    smaller ones, and what survives the filters is verified.
    """
    n = count.size
    head = np.full(1 << bits, -1, np.int64)
    shift = U64(64 - bits)
    room = 0
    for r in range(n):
        room += np.int64(count[r]) - np.int64(math.ceil(2 * threshold / (1 + threshold) * count[r] - 1e-9)) + 1
    after = np.empty(room, np.int64)
    owner = np.empty(room, np.int32)
    place = np.empty(room, np.int32)
    shingle = np.empty(room, np.uint64)
    last = np.full(n, -1, np.int64)
    overlap = np.zeros(n, np.int32)
    found = np.empty(n, np.int32)
    out = np.empty(1 << 12, np.uint64)
    n_out = 0
    used = 0
    for q in range(n):
        r = order[q]
        k = np.int64(count[r])
        if k == 0:
            continue
        s = start[r]
        shortest = np.int64(math.ceil(threshold * k - 1e-9))
        n_found = 0
        for i in range(k - shortest + 1):
            h = flat[s + i]
            p = head[np.int64((h * K0) >> shift)]
            while p >= 0:
                o = np.int64(owner[p])
                if shingle[p] == h and count[o] >= shortest:
                    if last[o] != q:
                        last[o] = q
                        overlap[o] = 0
                        found[n_found] = o
                        n_found += 1
                    if overlap[o] >= 0:
                        need = math.ceil(threshold / (1 + threshold) * (k + count[o]) - 1e-9)
                        most = overlap[o] + 1 + min(k - i - 1, np.int64(count[o]) - place[p] - 1)
                        overlap[o] = overlap[o] + 1 if most >= need else -1
                p = after[p]
        for x in range(n_found):
            o = np.int64(found[x])
            if overlap[o] <= 0:
                continue
            m = np.int64(count[o])
            need = math.ceil(threshold / (1 + threshold) * (k + m) - 1e-9)
            if _common(flat, s, k, start[o], m) >= need:
                if n_out == out.size:
                    out = _wider(out, 2 * n_out)
                out[n_out] = (U64(max(r, o)) << U64(32)) | U64(min(r, o))
                n_out += 1
        for i in range(k - np.int64(math.ceil(2 * threshold / (1 + threshold) * k - 1e-9)) + 1):
            h = flat[s + i]
            b = np.int64((h * K0) >> shift)
            shingle[used] = h
            owner[used] = r
            place[used] = i
            after[used] = head[b]
            head[b] = used
            used += 1
    return out[:n_out]


# ------------------------------------------------------------------ sets against other sets
@_kernel
def tabled(keys, table):
    """Fill an open table, all -1 and twice as large as there are distinct `keys` at least, with their positions."""
    for k in range(keys.size):
        table[_slot(table, keys, keys[k])] = k


@_inner
def _known(item, more, lo, hi, keys, table, most, at):
    """Write the places in `keys` of the items lo to hi; return how many are there, 0 where more than `most` are not."""
    n = 0
    missed = 0
    for x in range(lo, hi):
        k = table[_slot(table, keys, item[x] if x < item.size else more[x - item.size])]
        if k >= 0:
            at[n] = k
            n += 1
        else:
            missed += 1
            if missed > most:
                return 0
    return n


@_inner
def _shortest_first(at, many, end, wanted):
    """Bring the `wanted` shortest lists of at[:end] to its front."""
    for x in range(wanted):
        best = x
        for y in range(x + 1, end):
            if many[at[y]] < many[at[best]]:
                best = y
        at[x], at[best] = at[best], at[x]


@_inner
def _among(owner, lo, end, o):
    """Whether o is in owner[lo:end], which ascends."""
    hi = end
    while lo < hi:
        middle = (lo + hi) >> 1
        if owner[middle] < o:
            lo = middle + 1
        else:
            hi = middle
    return lo < end and owner[lo] == o


@_kernel
def meet(item, more, start, size, keys, table, first, many, owner, other_size, least):
    """Return (set, other, items in both) of the pairs of a set and one of the other sets with Jaccard >= least.

    Items of set s: start[s] to start[s] + size[s] of `item` with `more` behind. keys: the items of the other sets that count,
    table: of `tabled`; owner[first[p] : first[p] + many[p]], ascending: the others that hold keys[p]. other_size: items that
    the others have in all. A pair shares so many items that one is in the shortest lists of the set: only these are read
    whole, the rest are asked for the sets met there.
    """
    seen = np.empty(other_size.size, np.int64)
    shared = np.zeros(other_size.size, np.int64)
    at = np.empty(size.max() if size.size else 0, np.int64)
    out = np.empty((1 << 10, 3), np.int64)
    n = 0
    for s in range(size.size):
        end = _known(item, more, start[s], start[s] + size[s], keys, table, size[s] - least * size[s] + 1e-9, at)
        whole = max(0, end - max(1, np.int64(math.ceil(least * size[s] - 1e-9))) + 1)
        _shortest_first(at, many, end, whole)
        touched = 0
        for x in range(whole):
            for y in range(first[at[x]], first[at[x]] + many[at[x]]):
                o = owner[y]
                if shared[o] == 0:
                    seen[touched] = o
                    touched += 1
                shared[o] += 1
        for k in range(touched):
            o = seen[k]
            both = shared[o]
            shared[o] = 0
            needed = least / (1 + least) * (size[s] + other_size[o]) - 1e-9
            for x in range(whole, end):
                if both + end - x < needed:
                    break
                both += _among(owner, first[at[x]], first[at[x]] + many[at[x]], o)
            if both / (size[s] + other_size[o] - both) < least:
                continue
            if n == len(out):
                wider = np.empty((2 * n, 3), np.int64)
                wider[:n] = out
                out = wider
            out[n, 0], out[n, 1], out[n, 2] = s, o, both
            n += 1
    return out[:n]


# ------------------------------------------------------------------ clusters
@_kernel
def ordered(keys):
    """The stable order that sorts keys, uint64: by eleven bits at a time, those left out in which no two keys differ."""
    n = keys.size
    now = keys.copy()
    order = np.arange(n)
    later, after = np.empty_like(now), np.empty_like(order)
    differ = U64(0)
    for i in range(n):
        differ |= keys[i] ^ keys[0]
    slot = np.empty(2049, np.int64)
    for shift in range(0, 64, 11):
        if not (differ >> U64(shift)) & U64(2047):
            continue
        slot[:] = 0
        for i in range(n):
            slot[np.int64((now[i] >> U64(shift)) & U64(2047)) + 1] += 1
        for k in range(2048):
            slot[k + 1] += slot[k]
        for i in range(n):
            k = np.int64((now[i] >> U64(shift)) & U64(2047))
            later[slot[k]] = now[i]
            after[slot[k]] = order[i]
            slot[k] += 1
        now, later = later, now
        order, after = after, order
    return order


@_kernel
def join(left, right, root):
    """Union-find: root[i] = the smallest row that is joined to i by the pairs. root comes in as 0, 1, 2, ..."""
    for p in range(left.size):
        a = left[p]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        b = right[p]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a < b:
            root[b] = a
        elif b < a:
            root[a] = b
    for i in range(root.size):
        root[i] = root[root[i]]


@_kernel
def lead(left, right, order, gone, best):
    """best[row] = the first pair in `order` (by row, then best score) whose earlier row leads itself; see `sketch.lead`."""
    for x in range(order.size):
        p = order[x]
        a = left[p]
        b = right[p]
        if best[b] < 0 and best[a] < 0 and not gone[a] and not gone[b]:
            best[b] = p
