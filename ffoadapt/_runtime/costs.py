"""What the core decides by time: every threshold, with its unit, in one place.

Measured on 2 cores of an x86-64 server under Linux with SciPy's OpenBLAS, in November 2026: the day
on which it was set stands with each. Nothing but time depends on them. What compiled code decides
by itself stands in `_kernel/c` (``WORTH_THREADS``, ``FEW``, ``SPARSE``), `_kernel.systems.ORDER`
with its twin, for `_kernel` knows no other room.
"""

from __future__ import annotations

__all__ = [
    "CALL_WORK",
    "CONVEXITY_VARIABLES",
    "DENSE_CURVED_ENTRIES",
    "DENSE_ENTRIES",
    "DENSE_FULL",
    "EIGENBASIS_ORDER",
    "EIGENBASIS_REST",
    "FACE_SIZE",
    "GIL_ORDER",
    "KEPT_ENTRIES",
    "LARGE_ARRAY",
    "LARGE_PROGRAM",
    "LONG_SOLVE",
    "MEASURE_WORK",
    "ONE_THREAD_ORDER",
    "PRODUCT_ENTRIES",
    "SLOW_CALL",
    "SOLVE_WORK",
    "TRACED_SIZE",
    "WORTH_THREADS",
    "WRITE_WORK",
]

# --- threads

WORTH_THREADS = 5e6
"""n^2 (n + m), of all elements of a batch together, above which threads pay: 0.8 ms to factorize
and solve. A thread that goes on with what it has factorized has it at hand. 26th."""

SOLVE_WORK, CALL_WORK = 15, 10_000
"""What a solution takes of that for each of the n (n + m), and in any case. 26th."""

MEASURE_WORK = 5
"""What it takes of that to measure a point, for each of the n (n + m). 26th."""

WRITE_WORK = 5
"""What it takes of that to write an entry of the product of two vectors. 26th."""

ONE_THREAD_ORDER = 32
"""The order of matrices up to which BLAS uses one thread by itself. 22nd."""

GIL_ORDER = 150
"""The order of matrices up to which LAPACK keeps the GIL: handing it over would cost more than a
second core gains. 22nd."""

SLOW_CALL = 0.4e-3
"""Seconds of a whole call, as in the table of measured times, above which threads pay. 25th."""

LARGE_PROGRAM = 2000
"""Variables and rows above which the main thread has a program solved in another one, so that it
notices Ctrl-C: that takes 0.1 ms, and such a solve many. 29th."""

LONG_SOLVE = 0.1
"""Seconds of a solve after which the next one is such a program too. 29th."""

# --- memory

LARGE_ARRAY = 8192
"""Numbers of an array from which on it pays to use its memory again. 25th."""

KEPT_ENTRIES = 1_000_000
"""Entries of idle sparse matrices that are kept, some 80 bytes each. 22nd."""

# --- dense or sparse

DENSE_ENTRIES, DENSE_CURVED_ENTRIES = 40_000, 80_000
"""Entries of P and A up to which a sparse program is factorized faster as a dense one: with flat
cones alone and with curved ones, whose blocks fill the factors. 26th."""

DENSE_FULL = 2_000, 0.25
"""Also up to so many variables, if they are filled by this share. 26th."""

EIGENBASIS_ORDER, EIGENBASIS_REST = 30, 2_000
"""The order from which on semidefinite matrices of variables are worth a ghost solve in their
eigenbasis, and how many other variables and rows there may be, whose system is dense. 30th."""

PRODUCT_ENTRIES = 5_000
"""Up to so many entries the bookkeeping of SciPy's product costs more than the product. 22nd."""

TRACED_SIZE = 1000
"""Variables and rows above which the dense ghost system of a traced sparse program does not pay."""

# --- what is looked at

CONVEXITY_VARIABLES = 1000
"""Up to so many variables the eigenvalues of P are worth their time. 29th."""

FACE_SIZE = 400
"""Parts with more variables or rows are left alone: their rows count as weakly active. 29th."""
