/* Compiled code: the ghost KKT systems of dense programs, and memory that is used again.

   linear.c   BLAS and LAPACK, from scipy
   system.c   one ghost KKT system: factors and solutions
   dependent.c  one whose active rows depend on each other
   curved.c   the ghost rows of curved cones, which make a system of a program
   point.c    sizes and residuals of a point, and whether they leave a doubt
   memory.c   memory that is kept
   arrays.c   the arrays that Python passes, and whether they are what they should be
   batch.c    the systems of a batch, made of Python's arrays
   calls.c    what Python does with them
   distance.c the least-distance form of programs
   pattern.c  numbers of sparse matrices
   signals.c  Ctrl-C while solvers have handlers of their own
   elf.c      the calls of their libraries that are replaced for it
   module.c   the rest of what Python calls

   _kernel/reference.py says what the arguments are: it has twins in NumPy.

   Nothing is trusted that Python passes, or that somebody could change between two calls or, where
   the GIL is released, in one: the sizes and types of arrays are checked at every call, no array is
   written that overlaps another, and whatever decides where something is read or written (which rows
   are active, pointers and indices, an order) is checked in a copy, which is then used. Only the
   numbers are looked at where they are.

   Arrays are in C order. BLAS sees them transposed: a (k, n) matrix as n x k by columns, and the
   upper triangle as the lower one. Vectors are columns, K of them where there are K cotangents,
   each of which is contiguous. */

#ifndef FFOADAPT_KERNEL_H
#define FFOADAPT_KERNEL_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GNUC__
#pragma GCC visibility push(hidden)
#endif

/* -------------------------------------------------------------------------- numbers and vectors */

static inline double inner(ptrdiff_t n, const double *v, const double *w)
{
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    ptrdiff_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++)
            sum[j] += v[i + j] * w[i + j];
    for (; i < n; i++)
        sum[0] += v[i] * w[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static inline double dot(ptrdiff_t n, const double *v) { return inner(n, v, v); }

/* out += a v */
static inline void add(ptrdiff_t n, double a, const double *v, double *out)
{
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] += a * v[i];
}

/* NaN stays NaN in all three: a solution that is none must not look like one. */
static inline double ratio(double error, double size) { return size == 0.0 ? 0.0 : error / size; }
static inline double larger(double a, double b) { return a >= b || isnan(a) ? a : b; }
static inline double smaller(double a, double b) { return a <= b || isnan(a) ? a : b; }

/* ------------------------------------------------------------------------------------- linear.c */

int find_functions(void);
int factor(int n, double *M);
int factor_with_pivots(int n, double *M, int *order, double least, double *work);
void divide(const char *on, int n, const double *U, int K, double *columns);
void multiply(const char *on, int k, int n, const double *M, int K, double sign, const double *v,
              double scale, double *out);
void square(const char *on, int k, int n, const double *R, double sign, double scale, double *M);
int sure(double share, int n, const double *U, const double *diagonal);
size_t orthogonalize_workspace(int n, int m);
void orthogonalize(int n, int p, int m, double *rows, double *tau, double *work);

/* ------------------------------------------------------------------------------------- memory.c */

void *take(size_t size);
void give(void *memory, size_t size);
int memory_ready(void);
PyObject *memory_new(PyObject *module, PyObject *args);
extern const char memory_doc[];

/* ------------------------------------------------------------------------------------- system.c */

typedef struct Dependent Dependent;

/* The data and factors of a system with k active rows; D are the k weights of the penalty. Where rows
   depend on each other, Y has these rows, and the factors are elsewhere. */
typedef struct {
    int n, m, k;
    const double *P, *A;
    const char *active;
    double *U, *Y, *S, *D;
    double steepness; /* the squared size of C */
    int known;        /* whether U was given: the factor of P */
    int reused;     /* whether all factors are those of a system nearby */
    int penalized;    /* whether U is that of P + C'DC */
    int fine;         /* whether the factors are good for anything */
    Dependent *dependent; /* NULL where the rank is full */
} System;

/* Right-hand sides or solutions: x (n, K), y (k, K). */
typedef struct {
    double *x, *y;
} Pair;

int factorize(System *s, double share);
void scatter(const System *s, int K, const double *values, const double *weights, double *full);
void solve(const System *s, int K, double *x, double *y, double *full);
size_t workspace_size(const System *s, int K, int refine);
double solution(const System *s, int K, double limit, Pair at, double *work);

/* ---------------------------------------------------------------------------------- dependent.c */

int find_dependent(System *s);
int lost_rows(const System *s);
void solve_dependent(const System *s, int K, Pair at, double *work);

/* ------------------------------------------------------------------------------------- curved.c */

/* The rows other than unit rows of `count` equal cones from row `start` on, of one element: G
   (count, g, dim) where `has` (count, g), R (count, r, dim) where sigma (count, r) is not 0. */
typedef struct {
    int start, count, dim, g, r;
    const double *G, *R, *sigma;
    const char *has;
} Block;

/* The ghost rows of an element: unit rows and diagonal curvature (m,), and the blocks. */
typedef struct {
    int n, m, blocks;
    const double *P, *A, *weight;
    const char *active;
    Block *block;
    double *H, *C; /* P + A'WA, and the k rows GA */
} Ghost;

Py_ssize_t ghost_rows(const Ghost *g);
int assemble_curved(Ghost *g);
void build_rhs(const Ghost *g, const double *v_x, const double *v_z, double *x, double *y, double *work);
void recover_multipliers(const Ghost *g, const double *w, const double *y, const double *v_z, double *zeta,
            double *work);

/* -------------------------------------------------------------------------------------- point.c */

/* What `measure` says of an element, in this order. */
enum { PRIMAL, GRADIENT, SHARE_X, SHARE_Z, KKT, OUTSIDE, MARGIN, UNPAIRED, LENGTH, STEEPNESS, ROW,
       GAP, DOUBT, NEAR, FIGURES };

/* See polyhedral.Limits. */
typedef struct {
    double unseen, small, rounding, row, data, near, far, beyond;
} Limits;

enum { NONNEGATIVE, ZERO, CURVED }; /* the kinds of rows */

typedef struct {
    int n, m;
    const double *P, *q, *A, *b, *x, *s, *z;
    const char *kinds;
    int curved; /* whether any row is */
    const double *squares, *norms; /* of the rows of A */
    const Limits *limits;
} Point;

/* See certificate.LIMITS. */
typedef struct {
    double rounding, sure, brief, small;
} Sureness;

void column_maxima(const Point *p, double *columns);
int near_one(const Point *p, const double *columns);
void scales(const Point *p, double *out);
void residuals(const Point *p, int exact, char *active, double *work, double *out);

typedef struct {
    double gain, moves;
} Response;

Response respond(const System *s, const Ghost *g, const double *signs_x, const double *signs_z,
                 const double *squares, const double *figures, double *work);
int bounds_suffice(Response response, const double *figures, double margin, double order,
            const Sureness *limits);

/* -------------------------------------------------------------------------------------- batch.c */

extern PyMethodDef batch_methods[];

/* ----------------------------------------------------------------------------------- distance.c */

extern PyMethodDef distance_methods[];

/* ------------------------------------------------------------------------------------ signals.c */

extern PyMethodDef signal_methods[];

/* ------------------------------------------------------------------------------------ pattern.c */

extern PyMethodDef pattern_methods[];

/* ------------------------------------------------------------------------------------- arrays.c */

/* Converters for "O&" of PyArg_ParseTuple, into a Py_buffer: arrays in C order, with numbers of this
   type, and those to write to. Where there may be None, `buf` and `obj` are NULL then. */
int doubles(PyObject *array, void *view);
int doubles_or_none(PyObject *array, void *view);
int doubles_to_write(PyObject *array, void *view);
int int32s(PyObject *array, void *view);
int int32s_or_none(PyObject *array, void *view);
int int32s_to_write(PyObject *array, void *view);
int int64s_to_write(PyObject *array, void *view);
int integers(PyObject *array, void *view); /* of 32 or 64 bits */
int int8s(PyObject *array, void *view);
int bools(PyObject *array, void *view);
int bools_to_write(PyObject *array, void *view);

int apart(const Py_buffer *arrays, int read, int all);
int misfit(void);
double *work_for(int fits, size_t count);
void *copy_of(const Py_buffer *array, size_t more);

static inline Py_ssize_t length(const Py_buffer *array) { return array->len / array->itemsize; }

#define MOST (PY_SSIZE_T_MAX / 16) /* no array has so many numbers, and a few times that still fits */

/* a b, or -1 where a factor is negative or an array of so many numbers could not be. */
static inline Py_ssize_t times(Py_ssize_t a, Py_ssize_t b)
{
    return a < 0 || b < 0 || (b && a > MOST / b) ? -1 : a * b;
}

/* Whether an array has so many numbers. */
static inline int has(const Py_buffer *array, Py_ssize_t count)
{
    return count >= 0 && count <= MOST && array->len == count * array->itemsize;
}

/* Whether an array has the `count` numbers of one element, or those of all. */
static inline int holds(const Py_buffer *array, Py_ssize_t count, Py_ssize_t size)
{
    return has(array, count) || has(array, times(count, size));
}

/* The numbers of element i, of which there are `count`, in an array of one or of all elements. */
static inline double *numbers(const Py_buffer *array, Py_ssize_t count, Py_ssize_t i)
{
    return (double *)array->buf + (has(array, count) ? 0 : i * count);
}

/* The vectors of `count` products z w' + zeta x': arrays of z, zeta (count, rows), w (count, n) and
   x, in this order; of z and x there may be fewer, which come in turn. */
typedef struct {
    const Py_buffer *arrays;
    Py_ssize_t rows, n, count, of_z, of_x;
} Products;

typedef struct {
    const double *z, *zeta, *w, *x;
} Product;

int find_products(Products *p);

static inline Product product(const Products *p, Py_ssize_t k)
{
    const Py_buffer *z = p->arrays, *zeta = z + 1, *w = z + 2, *x = z + 3;
    return (Product){(double *)z->buf + k % p->of_z * p->rows, (double *)zeta->buf + k * p->rows,
                     (double *)w->buf + k * p->n, (double *)x->buf + k % p->of_x * p->n};
}

static inline void let_go(Py_buffer *arrays, int count)
{
    for (int j = 0; j < count; j++)
        PyBuffer_Release(arrays + j);
}

enum { WORTH_THREADS = 300000 }; /* n^2 (n + m) from which on the GIL is handed over, by measurement */

#endif
