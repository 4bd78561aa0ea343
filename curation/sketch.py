"""Near-duplicate pairs at reading speed: shingles, MinHash, bands, exact Jaccard, an exact join, clusters.

The kernels read Arrow string buffers through addresses: no Python object a row, except rows that hold non-ASCII
text, which are folded as Unicode says (`text.fold`) before the kernel sees them. They hold no interpreter lock and
run over ranges of rows on Python threads, so that no threading layer is started (a forked or spawned worker may call
them) and the result does not depend on the number of threads.

Definition of a shingle, the same for every entry point: the text is folded (NFKC, case-folded, white space
collapsed), then cut into runs of `ngram` words, or of `ngram` characters; a text with fewer is one shingle, an empty
text has none. `hash32` gives the 32-bit hash of one shingle and is what `datasketch.MinHash(hashfunc=...)` needs to
yield the very signatures of `minhash_signatures`.
"""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .errors import CurationError
from .text import fold

U32, U64 = np.uint32, np.uint64
K0, K1, K2 = U64(0x9E3779B97F4A7C15), U64(0xBF58476D1CE4E5B9), U64(0x94D049BB133111EB)
ONE = U64(1)
LANES = 64              # permutations a pass of the inner loop; num_perm is rounded up to it, never down
SLACK = 128             # bytes that must be readable behind every row
CHAIN = 8               # earlier members of a bucket that a row is compared with
STEPS = 128             # earlier members of a bucket whose glimpse is looked at
GLIMPSE = 64            # low bytes of the first minima kept a row: enough to tell a chance collision from a pair
DOUBT = 6.0             # standard deviations below the floor at which a glimpse rules a pair out (about 1 in 10^8)
HOT_RUN = 256           # a shingle held by more rows than this tells nothing inside a hot bucket
UNITS = {"word": 0, "char": 1}
BLANKS = tuple(c.encode("utf-8") for c in "\x85\u1680\u2028\u2029")    # white space that NFKC leaves and is not ASCII
#: Non-ASCII characters that folding leaves as they are beside any neighbour (a test holds them to it): a row with no
#: others needs no Python. Latin-1 signs and small letters, Cyrillic small letters, Arabic and Hebrew letters, dashes,
#: quotes, arrows, kana, Han, Hangul syllables, pictures.
PLAIN = ("\u00a1-\u00a7\u00a9\u00ab\u00ac\u00ae\u00b0\u00b1\u00b6\u00b7\u00bb\u00bf\u00d7\u00e0-\u00ff"
         "\u0430-\u045f\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u2010\u2012-\u2015\u2018-\u2022\u2030\u2039\u203a"
         "\u20ac\u2190-\u219f\u3042-\u3096\u30a2-\u30fa\u30fc\u4e00-\u9fff\uac00-\ud7a3"
         "\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff")
UNPLAIN = f"[^\x00-\x7f{PLAIN}]"
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
def _load8(_context, address):
    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(_at(builder, args[0], _I8)), _I64)
    return types.uint64(types.intp), codegen


@intrinsic
def _trailing_zeros(_context, x):
    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))
    return types.uint64(types.uint64), codegen


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
    """minima[j] = min(minima[j], h * a[j] + b[j] mod 2^32 over n hashes h) for 64 permutations, kept in registers."""
    def codegen(context, builder, signature, args):
        hashes, n, a, b, minima = args

        def vectors(base):
            out = []
            for k in range(4):
                v = builder.load(_at(builder, builder.add(base, _I64(k * 64)), _V16))
                v.align = 4
                out.append(v)
            return out
        va, vb, v0 = vectors(a), vectors(b), vectors(minima)
        entry = builder.block
        loop, body, done = (builder.append_basic_block("minhash." + x) for x in ("loop", "body", "done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(_I64(0), entry)
        best = [builder.phi(_V16) for _ in range(4)]
        for x, y in zip(best, v0, strict=True):
            x.add_incoming(y, entry)
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
@njit(inline="always")
def _mix(x):
    x = (x ^ (x >> U64(32))) * K0
    return x ^ (x >> U64(29))


@njit(inline="always")
def _fmix32(x):
    """MurmurHash3's finaliser: the pre-mix of datasketch's "affine32" scheme."""
    x = U32(U32(x ^ (x >> U32(16))) * U32(0x85EBCA6B))
    x = U32(U32(x ^ (x >> U32(13))) * U32(0xC2B2AE35))
    return U32(x ^ (x >> U32(16)))


@njit(nogil=True)
def _word_hash(p, k):
    """64-bit hash of the k >= 1 bytes at address p; 16 bytes behind them must be readable."""
    x0 = _load64(p)
    x1 = _load64(p + 8)
    if k <= 16:
        first = min(k, 8)
        rest = max(k - 8, 0)
        x0 = x0 & ~((~U64(0) << U64(8 * first - 1)) << ONE)
        if rest < 8:
            x1 = x1 & ~(~U64(0) << U64(8 * rest))
        return _mix((x0 ^ K1) * K2 + (x1 ^ (U64(k) << U64(56))) * K0)
    h = (x0 ^ K1) * K2 + (x1 ^ (U64(k) << U64(56))) * K0
    q = 16
    while q + 8 <= k:
        h = _mix(h ^ _load64(p + q))
        q += 8
    if q < k:
        h = _mix(h ^ (_load64(p + q) & ((ONE << U64(8 * (k - q))) - ONE)))
    return _mix(h)


@njit(nogil=True)
def _words(address, size, low, edges, out):
    """Hash every word of the text into `out`, return their number. `low`, `edges`: scratch."""
    n = 0
    before = U64(0)
    base = low.ctypes.data
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


@njit(nogil=True)
def _chars(address, size, low, out):
    """Code points of the text, white space collapsed and stripped, ASCII lower-cased, into `out`; their number."""
    n = 0
    base = low.ctypes.data
    pending = False
    skip = 0
    for i in range(0, size, 64):
        blank = _lower64(address + i, base + i)
        for j in range(min(64, size - i)):
            if skip > 0:
                skip -= 1
                continue
            if (blank >> U64(j)) & ONE:
                pending = n > 0
                continue
            if pending:
                out[n] = U64(32)
                n += 1
                pending = False
            c = U64(low[i + j])
            if c >= U64(128):
                skip = 1 if c < U64(0xE0) else (2 if c < U64(0xF0) else 3)
                c &= U64(0x1F) if skip == 1 else (U64(0x0F) if skip == 2 else U64(0x07))
                for k in range(skip):
                    c = (c << U64(6)) | (_load8(address + i + j + 1 + k) & U64(0x3F))
            out[n] = c
            n += 1
    return n


@njit(nogil=True)
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
            out[i] = _mix((parts[i] * c4 + parts[i + 1] * c3 + parts[i + 2] * c2 + parts[i + 3] * K1 + parts[i + 4])
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
        out[i] = _mix(h ^ salt)
        h -= parts[i] * power
    return m


@njit(nogil=True)
def _longest(size, rows, lo, hi):
    top = 0
    for c in range(size.shape[0]):
        for i in range(lo, hi):
            top = max(top, size[c, rows[i]])
    return top


@njit(nogil=True, cache=True)
def _sketch(address, size, rows, lo, hi, unit, ngram, tagged, a, b, width, keys, signature, glimpse, identity, count):
    """MinHash of rows[lo:hi] over all columns together: signatures, band keys, identity of the set, shingle counts.

    address, size: (columns, rows) int64. a, b: permutations, a multiple of 64. keys: (bands, rows) uint32, made of
    `width` minima each. signature: (rows, num_perm) uint32 or empty. glimpse: (rows, m) uint8 or empty, low bytes of the first
    minima. identity: (rows, 2) uint64, equal for rows with
    the same shingles. count: (columns, rows) int32.
    """
    columns = size.shape[0]
    top = _longest(size, rows, lo, hi)
    low = np.empty(top + 192, np.uint8)
    edges = np.empty(top + 80 if unit == 0 else 1, np.int32)
    room = (top // 2 if unit == 0 else top) + 16
    parts = np.empty(room, np.uint64)
    hashes = np.empty(room, np.uint64)
    mixed = np.empty(room, np.uint32)
    minima = np.empty(a.size, np.uint32)
    for i in range(lo, hi):
        r = rows[i]
        for j in range(a.size):
            minima[j] = U32(0xFFFFFFFF)
        total = U64(0)
        squares = U64(0)
        for c in range(columns):
            n = _shingles(address[c, r], size[c, r], unit, ngram, c + 1 if tagged else 0, low, edges, parts, hashes)
            count[c, r] = n
            for j in range(n):
                h = hashes[j]
                mixed[j] = _fmix32(U32(h))
                total += h
                squares += h * (h | ONE)
            for j in range(0, a.size, LANES):
                _minima64(mixed.ctypes.data, n, a.ctypes.data + 4 * j, b.ctypes.data + 4 * j, minima.ctypes.data + 4 * j)
        identity[r, 0] = total
        identity[r, 1] = squares
        for j in range(signature.shape[1]):
            signature[r, j] = minima[j]
        for j in range(glimpse.shape[1]):
            glimpse[r, j] = minima[j] & U32(255)
        for t in range(keys.shape[0]):
            h = U64(t + 1)
            for j in range(width):
                h = (h ^ U64(minima[t * width + j])) * K0
                h ^= h >> U64(29)
            keys[t, r] = U32(h >> U64(32))


@njit(nogil=True)
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


@njit(nogil=True, cache=True)
def _sets(address, size, rows, lo, hi, unit, ngram, tagged, start, flat, count):
    """Sorted shingle sets of rows[lo:hi]; set (c, i) goes to flat[start[c, i]:][:count[c, i]]."""
    top = _longest(size, rows, lo, hi)
    low = np.empty(top + 192, np.uint8)
    edges = np.empty(top + 80 if unit == 0 else 1, np.int32)
    room = (top // 2 if unit == 0 else top) + 16
    parts = np.empty(room, np.uint64)
    hashes = np.empty(room, np.uint64)
    heads = np.empty(2 * room + 2, np.int32)
    for i in range(lo, hi):
        r = rows[i]
        for c in range(size.shape[0]):
            n = _shingles(address[c, r], size[c, r], unit, ngram, c + 1 if tagged else 0, low, edges, parts, hashes)
            n = _sorted_unique(hashes, n, parts, heads)
            for j in range(n):
                flat[start[c, i] + j] = hashes[j]
            count[c, i] = n


@njit(nogil=True, cache=True)
def _first_equal(identity, first):
    """first[i] = the first row with the identity of row i."""
    n = identity.shape[0]
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    for i in range(n):
        p = np.int64(_mix(identity[i, 0] ^ (identity[i, 1] * K1)) >> U64(64 - bits))
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


@njit(nogil=True, cache=True)
def _link(keys, use, link):
    """link[i] = the row before i with the same band key, or -1; rows with use[i] == 0 are left out."""
    n = keys.size
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    table = np.full(1 << bits, -1, np.int32)
    for i in range(n):
        link[i] = -1
        if use[i] == 0:
            continue
        p = np.int64((U64(keys[i]) * K0) >> U64(64 - bits))
        while True:
            q = table[p]
            if q < 0:
                break
            if keys[q] == keys[i]:
                link[i] = q
                break
            p = (p + 1) & ((1 << bits) - 1)
        table[p] = i


@njit(nogil=True)
def _wider(x, n, room):
    out = np.empty(room, np.uint64)
    for i in range(n):
        out[i] = x[i]
    return out


@njit(nogil=True)
def _alike(glimpse, i, j):
    """How many of the kept minima of rows i and j agree (in their low byte)."""
    c = 0
    for k in range(glimpse.shape[1]):
        c += glimpse[i, k] == glimpse[j, k]
    return c


@njit(nogil=True, cache=True)
def _collect(link, glimpse, least, lo, hi, chain, steps, hot):
    """Distinct candidates of rows [lo, hi) as row << 32 | earlier row. hot[i] = 1 where a chain was cut short,
    2 where it was by `steps`.

    Members of a bucket with fewer than `least` equal minima got there by chance and do not count towards the chain.
    """
    bands = link.shape[0]
    out = np.empty(1 << 12, np.uint64)
    n = 0
    seen = np.empty(bands * chain, np.int32)
    for i in range(lo, hi):
        m = 0
        for t in range(bands):
            j = link[t, i]
            d = 0
            step = 0
            while j >= 0:
                if d == chain or step == steps:
                    hot[i] = max(hot[i], 1 if d == chain else 2)
                    break
                step += 1
                known = False
                for x in range(m):
                    if seen[x] == j:
                        known = True
                        break
                if known:
                    d += 1
                elif _alike(glimpse, i, j) >= least:
                    seen[m] = j
                    m += 1
                    d += 1
                j = link[t, j]
        if n + m > out.size:
            out = _wider(out, n, 2 * out.size + m)
        for x in range(m):
            out[n] = (U64(i) << U64(32)) | U64(seen[x])
            n += 1
    return out[:n]


@njit(nogil=True, cache=True)
def _neighbours(shingle, owner, reach, glimpse, least):
    """Pairs of owners at most `reach` apart that hold the same shingle and at least `least` equal minima.

    shingle: sorted. Pairs are packed as larger row << 32 | smaller row; two alike rows meet at hundreds of shingles, so
    a table of the pairs met last keeps most repeats out.
    """
    met = np.zeros(1 << 20, np.uint64)
    out = np.empty(1 << 12, np.uint64)
    n = 0
    for x in range(shingle.size):
        i = owner[x]
        for y in range(max(0, x - reach), x):
            if shingle[y] != shingle[x]:
                continue
            j = owner[y]
            pair = (U64(max(i, j)) << U64(32)) | U64(min(i, j))
            slot = np.int64((pair * K0) >> U64(44))
            if i == j or met[slot] == pair:
                continue
            met[slot] = pair
            if _alike(glimpse, i, j) >= least:
                if n == out.size:
                    out = _wider(out, n, 2 * n)
                out[n] = pair
                n += 1
    return out[:n]


@njit(nogil=True)
def _common(flat, s, n, t, m):
    """Size of the intersection of the sorted sets flat[s:s+n] and flat[t:t+m]."""
    i = 0
    j = 0
    c = 0
    while i < n and j < m:
        x = flat[s + i]
        y = flat[t + j]
        c += x == y
        i += x <= y
        j += y <= x
    return c


@njit(nogil=True, cache=True)
def _jaccard(left, right, lo, hi, flat, start, count, floor, fields, score):
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
            else:
                k = _common(flat, start[c, u], n, start[c, v], m)
                s = k / (n + m - k)
            fields[p, c] = s
            worst = min(worst, s)
            if worst < floor:
                worst = -1.0
                break
        score[p] = worst


@njit(nogil=True, cache=True)
def _rarest_first(flat, start, count, bits):
    """Re-key every set so that its rarest shingles come first, in one order for all sets."""
    table = np.zeros(1 << bits, np.uint8)
    shift = U64(64 - bits)
    for r in range(count.size):
        for i in range(start[r], start[r] + count[r]):
            k = np.int64(flat[i] >> shift)
            if table[k] < 255:
                table[k] += 1
    slot = np.empty(257, np.int32)
    tmp = np.empty(count.max() if count.size else 0, np.uint64)
    for r in range(count.size):     # a set is sorted already: a stable counting sort by frequency is enough
        s = start[r]
        n = np.int64(count[r])
        for k in range(257):
            slot[k] = 0
        for i in range(n):
            h = flat[s + i]
            f = np.int64(table[np.int64(h >> shift)])
            slot[f + 1] += 1
            tmp[i] = (U64(f) << U64(56)) | (h >> U64(8))     # keeps the order of the hashes
        for k in range(256):
            slot[k + 1] += slot[k]
        for i in range(n):
            f = np.int64(tmp[i] >> U64(56))
            flat[s + slot[f]] = tmp[i]
            slot[f] += 1


@njit(nogil=True, cache=True)
def _prefix_join(flat, start, count, order, threshold, bits):
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
                    out = _wider(out, n_out, 2 * n_out)
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


# ------------------------------------------------------------------ texts as addresses
@dataclass(frozen=True)
class Texts:
    """Columns of text as addresses of UTF-8 bytes, ready for the kernels. `keep` holds the buffers alive."""

    address: np.ndarray     # (columns, rows) int64
    size: np.ndarray        # (columns, rows) int64, bytes
    keep: tuple[Any, ...]

    def __len__(self) -> int:
        return self.size.shape[1]


def texts_of(columns: Sequence[pa.Array | pa.ChunkedArray]) -> Texts:
    """Return the columns as `Texts`; non-ASCII rows are folded, everything else is used where it lies. Null is empty."""
    n = len(columns[0])
    assert all(len(c) == n for c in columns), [len(c) for c in columns]
    if n >= 2**31:
        raise CurationError(f"{n} rows are more than one table of pairs can hold", "split the set: 2^31 rows at most")
    address = np.zeros((len(columns), n), np.int64)
    size = np.zeros((len(columns), n), np.int64)
    keep: list[Any] = []
    for c, column in enumerate(columns):
        at = 0
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            keep += _place(chunk, address[c, at:at + len(chunk)], size[c, at:at + len(chunk)])
            at += len(chunk)
    return Texts(address, size, tuple(keep))


def _place(chunk: pa.Array, address: np.ndarray, size: np.ndarray) -> list[Any]:
    """Fill in where each text of one Arrow chunk lies; return what must stay alive."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    assert pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type), chunk.type
    if len(chunk) == 0:
        return []
    wide = pa.types.is_large_string(chunk.type)
    _, offsets, data = chunk.buffers()
    at = np.frombuffer(offsets, np.int64 if wide else np.int32, len(chunk) + 1, chunk.offset * (8 if wide else 4))
    at = at.astype(np.int64)
    base, end = (int(data.address), int(data.size)) if data is not None else (0, 0)
    address[:] = base + at[:-1]
    size[:] = np.diff(at)
    if chunk.null_count:
        size[np.asarray(pc.is_null(chunk))] = 0
    odd = ~np.asarray(pc.fill_null(pc.string_is_ascii(chunk), True))
    where = np.flatnonzero(odd)
    if len(where):
        odd[where] = np.asarray(pc.match_substring_regex(chunk.take(pa.array(where)), UNPLAIN))
    odd |= np.greater(at[1:], end - SLACK) & np.not_equal(size, 0)     # too near the end of the buffer for wide loads
    where = np.flatnonzero(odd)
    if not len(where):
        return [chunk]
    odd_texts = chunk.take(pa.array(where)).to_pylist()
    folded = [unicodedata.normalize("NFKC", x).casefold().encode("utf-8") for x in odd_texts]
    sizes = np.fromiter(map(len, folded), np.int64, len(folded))
    joined = b"".join(folded) + bytes(SLACK)
    for blank in BLANKS:
        joined = joined.replace(blank, b" " * len(blank))
    side = np.frombuffer(joined, np.uint8)
    address[where] = side.ctypes.data + np.cumsum(sizes) - sizes
    size[where] = sizes
    return [chunk, side]


def _spread(work: Callable[[int, int], Any], n: int, threads: int, least: int = 512) -> list[Any]:
    """Run work(lo, hi) over ranges of [0, n) on threads; results in order."""
    step = max(least, -(-n // (threads * 8)))
    ranges = [(lo, min(n, lo + step)) for lo in range(0, n, step)]
    if threads == 1 or len(ranges) < 2:
        return [work(*r) for r in ranges]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda r: work(*r), ranges))


def _threads(threads: int | None) -> int:
    if threads is not None:
        return max(1, threads)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checked(ngram: int, unit: str, num_perm: int = 1) -> int:
    if unit not in UNITS:
        raise CurationError(f"unit {unit!r} is not a unit of shingles", "use 'word' or 'char'")
    if not 1 <= ngram <= 64:
        raise CurationError(f"ngram {ngram} is out of range", "use a number of words or characters from 1 to 64")
    if not 1 <= num_perm <= 4096:
        raise CurationError(f"num_perm {num_perm} is out of range", "use a number of permutations from 1 to 4096")
    return UNITS[unit]


def _in_unit(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:      # also catches NaN
        raise CurationError(f"{name} {value} is not a similarity", f"use a {name} above 0 and at most 1, such as 0.8")


# ------------------------------------------------------------------ signatures
def shingles(text: str, *, ngram: int = 5, unit: str = "word") -> list[bytes]:
    """Return the shingles of one text as UTF-8, in order, with repeats: the plain-Python definition."""
    _checked(ngram, unit)
    parts: Sequence[str] = fold(text).split() if unit == "word" else fold(text)
    if not parts:
        return []
    glue = " " if unit == "word" else ""
    width = min(ngram, len(parts))
    return [glue.join(parts[i:i + width]).encode("utf-8") for i in range(len(parts) - width + 1)]


def hash64(shingle: bytes, unit: str = "word") -> int:
    """Return the 64-bit hash that the kernels give one shingle of folded text (plain Python, slow)."""
    mask, k0, k1, k2 = (1 << 64) - 1, int(K0), int(K1), int(K2)

    def mix(x: int) -> int:
        x = ((x ^ (x >> 32)) * k0) & mask
        return x ^ (x >> 29)

    def word(w: bytes) -> int:
        x = [int.from_bytes(w[i:i + 8], "little") for i in range(0, max(len(w), 16), 8)]
        h = ((x[0] ^ k1) * k2 + (x[1] ^ ((len(w) << 56) & mask)) * k0) & mask
        for y in x[2:]:
            h = mix(h ^ y)
        return mix(h)

    parts = [word(w) for w in shingle.split()] if unit == "word" else [ord(c) for c in shingle.decode("utf-8")]
    h = 0
    for x in parts:
        h = (h * k1 + x) & mask
    return mix(h)


def hash32(shingle: bytes, unit: str = "word") -> int:
    """Return the 32-bit hash of one shingle: `datasketch.MinHash(hashfunc=hash32)` agrees with our signatures."""
    return hash64(shingle, unit) & 0xFFFFFFFF


def permutations(num_perm: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (a, b) uint32 of datasketch's "affine32" scheme, padded to a multiple of 64."""
    g = np.random.RandomState(seed)     # datasketch's own generator
    a = g.randint(0, 1 << 31, num_perm, dtype=np.uint32) * U32(2) + U32(1)
    b = g.randint(0, 1 << 32, num_perm, dtype=np.uint32)
    pad = -num_perm % LANES
    return np.concatenate([a, np.ones(pad, np.uint32)]), np.concatenate([b, np.zeros(pad, np.uint32)])


@dataclass(frozen=True)
class _Sketches:
    keys: np.ndarray        # (bands, rows) uint32
    signature: np.ndarray   # (rows, num_perm or 0) uint32
    glimpse: np.ndarray     # (rows, GLIMPSE or 0) uint8: low bytes of the first minima
    identity: np.ndarray    # (rows, 2) uint64
    count: np.ndarray       # (columns, rows) int32: shingles with repeats


def _sketches(t: Texts, num_perm: int, seed: int, bands: int, width: int, unit: int, ngram: int, threads: int,
              signed: bool) -> _Sketches:
    n = len(t)
    a, b = permutations(num_perm, seed)
    seen = min(GLIMPSE, num_perm) if bands else 0
    out = _Sketches(np.empty((bands, n), np.uint32), np.empty((n, num_perm if signed else 0), np.uint32),
                    np.empty((n, seen), np.uint8), np.empty((n, 2), np.uint64), np.empty((len(t.size), n), np.int32))
    rows = np.arange(n)
    _spread(lambda lo, hi: _sketch(t.address, t.size, rows, lo, hi, unit, ngram, len(t.size) > 1, a, b, width,
                                   out.keys, out.signature, out.glimpse, out.identity, out.count), n, threads)
    return out


def minhash_signatures(
    texts: pa.Array | pa.ChunkedArray, num_perm: int = 128, seed: int = 1, *, ngram: int = 5, unit: str = "word",
    threads: int | None = None,
) -> np.ndarray:
    """Return the MinHash signatures (rows, num_perm) uint32, bit-identical to datasketch 2's default scheme.

    Equal to `datasketch.MinHash(num_perm, seed, hashfunc=hash32)` updated with `shingles(text)`. An empty text has
    2^32 - 1 everywhere, as an empty MinHash has.
    """
    kind = _checked(ngram, unit, num_perm)
    return _sketches(texts_of([texts]), num_perm, seed, 0, 0, kind, ngram, _threads(threads), True).signature


# ------------------------------------------------------------------ sets and exact similarity
@dataclass(frozen=True)
class Sets:
    """Sorted shingle sets: set (column c, i) is flat[start[c, i]:][:count[c, i]]; 64-bit hashes."""

    flat: np.ndarray        # uint64
    start: np.ndarray       # (columns, sets) int64
    count: np.ndarray       # (columns, sets) int32


def shingle_sets(
    t: Texts, rows: np.ndarray, *, ngram: int, unit: str, room: np.ndarray | None = None, threads: int | None = None,
) -> Sets:
    """Return the shingle sets of `rows`. `room` (columns, rows): how many shingles each may have, if known."""
    kind = _checked(ngram, unit)
    rows = np.asarray(rows, np.int64)
    if room is None:
        room = t.size[:, rows] // (2 if kind == 0 else 1) + 1
    start = np.zeros(room.size + 1, np.int64)
    np.cumsum(room.ravel(), out=start[1:])
    flat = np.empty(start[-1], np.uint64)
    count = np.zeros(room.shape, np.int32)
    start = np.ascontiguousarray(start[:-1].reshape(room.shape))
    _spread(lambda lo, hi: _sets(t.address, t.size, rows, lo, hi, kind, ngram, len(t.size) > 1, start, flat, count),
            len(rows), _threads(threads), 64)
    return Sets(flat, start, count)


def jaccard(sets: Sets, left: np.ndarray, right: np.ndarray, *, floor: float = 0.0,
            threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (score, fields) of pairs of sets: fields (pairs, columns) float64, score their minimum, -1 below floor."""
    n = len(left)
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    fields, score = np.zeros((n, len(sets.count))), np.zeros(n)
    _spread(lambda lo, hi: _jaccard(left, right, lo, hi, sets.flat, sets.start, sets.count, floor, fields, score),
            n, _threads(threads))
    return score, fields


def similarity(
    columns: Sequence[pa.Array | pa.ChunkedArray], left: np.ndarray, right: np.ndarray, *, ngram: int = 5,
    unit: str = "word", floor: float = 0.0, threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `jaccard` of given pairs of rows: (score, fields), score -1 below the floor."""
    rows, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    sets = shingle_sets(texts_of(columns), rows, ngram=ngram, unit=unit, threads=threads)
    return jaccard(sets, ends[:len(left)], ends[len(left):], floor=floor, threads=threads)


# ------------------------------------------------------------------ pairs
@dataclass(frozen=True)
class Pairs:
    """Verified pairs of rows, left < right, sorted; what found them, and how surely.

    Rows with the very same shingles are held as a star around the first of them (score 1): a hundred thousand copies
    are a hundred thousand pairs, not five thousand million. In a bucket of more than 8 different rows a row is
    compared with the 8 before it and with those that share a rare shingle with it, so that big clusters come out
    whole without every pair inside them being listed.
    """

    left: np.ndarray        # int64
    right: np.ndarray       # int64
    score: np.ndarray       # float64 in [floor, 1]: the smallest Jaccard of the columns
    fields: np.ndarray      # (pairs, columns) float64
    rows: int               # of the table the pairs point into
    floor: float            # nothing below is held
    recall: float           # expected share of pairs at the threshold that was looked at (1.0: exact join)
    bands: int
    width: int              # minima a band
    candidates: int         # pairs verified

    def __len__(self) -> int:
        return len(self.left)


def plan(threshold: float, num_perm: int, recall: float = 0.999) -> tuple[int, int, float]:
    """Return (bands, width, expected recall at the threshold): the widest bands that still reach `recall`.

    P(found | Jaccard = t) = 1 - (1 - t^width)^bands. When even single minima do not reach it, width is 1 and the
    third value says what is reached.
    """
    for width in range(num_perm, 0, -1):
        bands = num_perm // width
        found = 1.0 - (1.0 - threshold**width) ** bands
        if found >= recall:
            return bands, width, found
    return num_perm, 1, 1.0 - (1.0 - threshold) ** num_perm


def near_pairs(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, threshold: float = 0.8, floor: float | None = None,
    num_perm: int = 64, seed: int = 1, ngram: int = 5, unit: str = "word", recall: float = 0.999,
    threads: int | None = None,
) -> Pairs:
    """Return the pairs of rows whose every column has Jaccard >= floor (default: the threshold).

    The rows are sketched over the shingles of all columns together, each column's set apart: when every column has
    Jaccard >= t, so has the union. `recall` is promised at the threshold; between floor and threshold it is less, by
    the formula of `plan`. Rows without a shingle are in no pair.

    In a bucket of hundreds of unlike rows (texts over a few dozen words, or 2-grams of characters) a row is held
    against a bounded number of them and pairs beyond are missed: of 1,500 random rows over 60 words with character
    2-grams 33 of 58 pairs were found. `exact_pairs` finds them all.
    """
    _in_unit("threshold", threshold)
    floor = threshold if floor is None else floor
    _in_unit("floor", floor)
    kind = _checked(ngram, unit, num_perm)
    if floor > threshold:
        raise CurationError(f"floor {floor} is above the threshold {threshold}", "keep pairs from a floor below it")
    workers = _threads(threads)
    t = texts_of(columns)
    bands, width, expected = plan(threshold, num_perm, recall)
    sketches = _sketches(t, bands * width, seed, bands, width, kind, ngram, workers, False)
    use, copy, of = _copies(sketches)
    packed, hot = _candidates(sketches, use, floor, workers)
    left, right, score, fields, tried = _verified(t, packed, hot, sketches, floor, ngram, unit, workers)
    return _pairs(t, left, right, score, fields, copy, of, floor, expected, bands, width, tried)


def _copies(sketches: _Sketches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (use, copy, of): 1 for the first row of each distinct set, the rows that repeat one, and which one."""
    rows = np.arange(len(sketches.identity))
    first = np.empty(len(rows), np.int32)
    _first_equal(sketches.identity, first)
    filled = sketches.count.any(axis=0)
    copy = np.flatnonzero((first != rows) & filled)
    return ((first == rows) & filled).astype(np.uint8), copy, first[copy]


def _pairs(t: Texts, left: np.ndarray, right: np.ndarray, score: np.ndarray, fields: np.ndarray, copy: np.ndarray,
           of: np.ndarray, floor: float, recall: float, bands: int, width: int, tried: int) -> Pairs:
    left, right = np.r_[left, of].astype(np.int64), np.r_[right, copy].astype(np.int64)
    left, right = np.minimum(left, right), np.maximum(left, right)
    score = np.r_[score, np.ones(len(copy))]
    fields = np.r_[fields, np.ones((len(copy), fields.shape[1]))]
    order = np.lexsort((right, left))
    return Pairs(left[order], right[order], score[order], fields[order], len(t), floor, recall, bands, width, tried)


def _least(glimpse: np.ndarray, floor: float) -> int:
    """Return how many minima of a glimpse two rows must share, lest their Jaccard be below the floor."""
    m = glimpse.shape[1]
    return math.floor(floor * m - DOUBT * math.sqrt(m * floor * (1.0 - floor)))


def _candidates(sketches: _Sketches, use: np.ndarray, floor: float, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (candidates as row << 32 | earlier row, mask of rows whose bucket was too full to be looked at whole)."""
    bands, n = sketches.keys.shape
    link = np.empty((bands, n), np.int32)
    _spread(lambda lo, hi: [_link(sketches.keys[b], use, link[b]) for b in range(lo, hi)], bands, threads, 1)
    hot = np.zeros(n, np.uint8)
    least = _least(sketches.glimpse, floor)
    parts = _spread(lambda lo, hi: _collect(link, sketches.glimpse, least, lo, hi, CHAIN, STEPS, hot), n, threads)
    return (np.concatenate(parts) if parts else np.empty(0, np.uint64)), hot


def _verified(
    t: Texts, packed: np.ndarray, hot: np.ndarray, sketches: _Sketches, floor: float, ngram: int, unit: str, threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return (left, right, score, fields, pairs tried): the candidates that hold, by exact Jaccard."""
    touched = np.zeros(len(t), np.bool_)
    touched[packed >> U64(32)] = True
    touched[packed & U64(0xFFFFFFFF)] = True
    rows = np.flatnonzero(touched)
    position = np.zeros(len(t), np.int64)
    position[rows] = np.arange(len(rows))
    sets = shingle_sets(t, rows, ngram=ngram, unit=unit, room=sketches.count[:, rows], threads=threads)
    left, right = (packed & U64(0xFFFFFFFF)).astype(np.int64), (packed >> U64(32)).astype(np.int64)
    score, fields = jaccard(sets, position[left], position[right], floor=floor, threads=threads)
    members = _unsettled(_members(packed, hot), hot, left, right, score)
    if len(members):
        members = members[touched[members]]
        more = _rare_candidates(sets, position[members], members, sketches.glimpse, _least(sketches.glimpse, floor))
        more = np.setdiff1d(more, packed, assume_unique=True)
        a, b = (more & U64(0xFFFFFFFF)).astype(np.int64), (more >> U64(32)).astype(np.int64)
        s, f = jaccard(sets, position[a], position[b], floor=floor, threads=threads)
        left, right, score, fields = np.r_[left, a], np.r_[right, b], np.r_[score, s], np.r_[fields, f]
    held = score >= 0
    return left[held], right[held], score[held], fields[held], len(left)


def _unsettled(members: np.ndarray, hot: np.ndarray, left: np.ndarray, right: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the members of over-full buckets for which the chain did not settle where they belong.

    Where every candidate of a cluster holds, its template alone puts a pair over the floor: nothing rare to look for.
    """
    root = components(left, right, len(hot))
    open_ = np.zeros(len(hot), np.bool_)
    open_[root[right[(score < 0) & (hot[right] > 0)]]] = True
    open_[root[hot == 2]] = True
    return members[open_[root[members]]]


def _members(packed: np.ndarray, hot: np.ndarray) -> np.ndarray:
    """Return the hot rows (a mask) and all that their candidates name: the members of over-full buckets."""
    member = hot.astype(np.bool_)
    member[packed[member[packed >> U64(32)]] & U64(0xFFFFFFFF)] = True
    return np.flatnonzero(member)


def distinct(x: np.ndarray) -> np.ndarray:
    """Return x sorted, without repeats (np.unique's hash table is four times slower on such keys)."""
    x = np.sort(x)
    return x[np.r_[True, x[1:] != x[:-1]]] if len(x) else x


def _rare_candidates(sets: Sets, at: np.ndarray, rows: np.ndarray, glimpse: np.ndarray, least: int) -> np.ndarray:
    """Return candidates among rows of over-full buckets that share a shingle which few of them have.

    Rows made from one template agree in the template's shingles. If these alone put a pair over the threshold, a row
    matches whatever it is compared with, and the chain found that; if they do not, a pair over the threshold must
    share a shingle from outside the template, which is what is looked up here.
    """
    found = [np.empty(0, np.uint64)]
    parts = max(1, int(sets.count[:, at].sum() // 8_000_000))
    for part in range(parts):       # by ranges of the hash, so that memory stays bounded
        lo, hi = ((1 << 64) * part // parts, (1 << 64) * (part + 1) // parts - 1)
        shingle, owner = _owned(sets, at, rows, lo, hi)
        order = np.argsort(shingle, kind="stable")
        shingle, owner = shingle[order], owner[order]
        edge = np.flatnonzero(np.r_[True, shingle[1:] != shingle[:-1]]) if len(shingle) else np.empty(0, np.int64)
        length = np.diff(np.r_[edge, len(shingle)])
        rare = np.repeat((length >= 2) & (length <= HOT_RUN), length)
        found.append(distinct(_neighbours(shingle[rare], owner[rare], 2 * CHAIN, glimpse, least)))
    return distinct(np.concatenate(found))


def _owned(sets: Sets, at: np.ndarray, rows: np.ndarray, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (shingles in [lo, hi], the row of each) over the sets at positions `at`."""
    shingle, owner = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for c in range(len(sets.count)):
        n = sets.count[c, at].astype(np.int64)
        within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        values = sets.flat[np.repeat(sets.start[c, at], n) + within]
        ours = (values >= U64(lo)) & (values <= U64(hi))
        shingle.append(values[ours])
        owner.append(np.repeat(rows, n)[ours])
    return np.concatenate(shingle), np.concatenate(owner)


def same_shingles(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, ngram: int = 5, unit: str = "word", threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (copy, of): the rows whose every column has the shingles of an earlier row, and the first such row.

    Texts that are equal once folded are among them, so it is also the way to equal texts. Rows without a shingle are
    left out. Shingles count with their repeats.
    """
    kind = _checked(ngram, unit)
    _, copy, of = _copies(_sketches(texts_of(columns), LANES, 1, 0, 0, kind, ngram, _threads(threads), False))
    return copy, of.astype(np.int64)


def exact_pairs(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, threshold: float = 0.8, ngram: int = 5, unit: str = "word",
    threads: int | None = None,
) -> Pairs:
    """Return every pair of rows whose every column has Jaccard >= threshold: a prefix-filter join, no sketch.

    Slower and larger in memory than `near_pairs`: the proof, not the default. Rows with the same shingles are a star
    here too. On very common shingles (characters, templates) it is close to quadratic.
    """
    _in_unit("threshold", threshold)
    kind = _checked(ngram, unit)
    workers = _threads(threads)
    t = texts_of(columns)
    sketches = _sketches(t, LANES, 1, 0, 0, kind, ngram, workers, False)
    use, copy, of = _copies(sketches)
    rows = np.flatnonzero(use)
    sets = shingle_sets(t, rows, ngram=ngram, unit=unit, room=sketches.count[:, rows], threads=workers)
    start, count, flat = _united(sets)
    small = len(t) < 10_000
    _rarest_first(flat, start, count, 16 if small else 24)
    order = np.argsort(count, kind="stable")
    packed = _prefix_join(flat, start, count, order, threshold, 12 if small else 22)
    left, right = (packed & U64(0xFFFFFFFF)).astype(np.int64), (packed >> U64(32)).astype(np.int64)
    score, fields = jaccard(sets, left, right, floor=threshold, threads=workers)
    held = score >= 0
    return _pairs(t, rows[left[held]], rows[right[held]], score[held], fields[held], copy, of, threshold, 1.0, 0, 0,
                  len(left))


def _united(sets: Sets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (start, count, flat) of each row's columns taken as one set; a copy, tightly packed."""
    columns = len(sets.count)
    if columns == 1:
        return sets.start[0], sets.count[0], sets.flat.copy()
    count = sets.count.sum(axis=0, dtype=np.int64)
    start = np.cumsum(count) - count
    flat = np.empty(int(count.sum()), np.uint64)
    at = start.copy()
    for c in range(columns):
        k = sets.count[c].astype(np.int64)
        within = np.arange(k.sum()) - np.repeat(np.cumsum(k) - k, k)
        flat[np.repeat(at, k) + within] = sets.flat[np.repeat(sets.start[c], k) + within]
        at += k
    return start, count.astype(np.int32), flat


# ------------------------------------------------------------------ clusters
def components(left: np.ndarray, right: np.ndarray, n: int) -> np.ndarray:
    """Return for each of n rows the first row of its cluster (its own number when it is alone)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    root = np.arange(n, dtype=np.int64)
    if not len(left):
        return root
    rows, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, two = ends[:len(left)], ends[len(left):]
    graph = coo_array((np.ones(len(left), np.int8), (one, two)), shape=(len(rows), len(rows)))
    label = connected_components(graph, directed=False)[1]
    _, leader = np.unique(label, return_index=True)     # rows are sorted: the first index is the smallest row
    root[rows] = rows[leader[label]]
    return root


def rethreshold(pairs: Pairs, threshold: float) -> np.ndarray:
    """Return the clusters (as `components`) at another threshold, from the pairs already held."""
    _in_unit("threshold", threshold)
    if threshold < pairs.floor:
        raise CurationError(f"threshold {threshold} is below the floor {pairs.floor} of the pairs held",
                            f"use {pairs.floor} or more, or find the pairs again with a lower floor")
    held = pairs.score >= threshold
    return components(pairs.left[held], pairs.right[held], pairs.rows)


def warm() -> None:
    """Compile every kernel into the on-disk cache (seconds once, nothing afterwards)."""
    words = ["one two three four five six seven eight nine"] * 2 + ["one two three four five six seven eight ten"] * 12
    texts = pa.array([f"{w} {i}" for i, w in enumerate(words)])
    for columns in ([texts], [texts, texts]):
        near_pairs(columns, threshold=0.5, threads=1)
    exact_pairs([texts], threshold=0.5, threads=1)
    minhash_signatures(texts, 64, unit="char", threads=1)
