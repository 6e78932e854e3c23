/* Compiled code: the ghost KKT systems of dense polyhedral programs, and memory that is used again.

   The systems of a batch are solved one after the other, without the GIL. It is the algorithm of
   _oracle/dense.py, by the same LAPACK: of each element the Cholesky factor of P, U'U = P (of
   P + C'DC where P has none), Y = C U^-1, and the factor of the Schur complement S'S = YY', with C
   the active rows of A. An element whose pivots show a lost rank is marked and left to dense.py.
   _oracle/batched.py calls this, and says what the arguments are.

   Arrays are in C order. BLAS sees them transposed: a (k, n) matrix as n x k by columns, and the
   upper triangle as the lower one. Vectors are columns, K of them where there are K cotangents. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- BLAS and LAPACK, from scipy */

static void (*dpotrf)(char *, int *, double *, int *, int *);
static void (*dtrsv)(char *, char *, char *, int *, double *, int *, double *, int *);
static void (*dtrsm)(char *, char *, char *, char *, int *, int *, double *, double *, int *,
                     double *, int *);
static void (*dsyrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *,
                     int *);
static void (*dgemv)(char *, int *, int *, double *, double *, int *, double *, int *, double *,
                     double *, int *);
static void (*dgemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *,
                     int *, double *, double *, int *);

static int one = 1;
static double unit = 1.0;

/* Overwrites the upper triangle of a matrix M with its factor U; false if it has none. */
static int factor(int n, double *M)
{
    int info = 0;
    if (n)
        dpotrf("L", &n, M, &n, &info);
    return info == 0;
}

enum { FEW = 24 }; /* the order up to which a call of BLAS, which takes a lock, takes longer */

static double inner(ptrdiff_t n, const double *v, const double *w)
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

static double dot(ptrdiff_t n, const double *v) { return inner(n, v, v); }

/* Overwrites K columns with U'^-1 ("N") or U^-1 ("T") times them. */
static void divide(char *on, int n, const double *U, int K, double *columns)
{
    if (K == 1 && n <= FEW && *on == 'N') {
        for (ptrdiff_t i = 0; i < n; i++, U += n) {
            columns[i] /= U[i];
            for (ptrdiff_t j = i + 1; j < n; j++)
                columns[j] -= columns[i] * U[j];
        }
    } else if (K == 1 && n <= FEW) {
        U += (ptrdiff_t)n * n;
        for (ptrdiff_t i = n - 1; i >= 0; i--) {
            U -= n;
            columns[i] = (columns[i] - inner(n - i - 1, U + i + 1, columns + i + 1)) / U[i];
        }
    } else if (K == 1)
        dtrsv("L", on, "N", &n, (double *)U, &n, columns, &one);
    else if (n && K)
        dtrsm("L", "L", on, "N", &n, &K, &unit, (double *)U, &n, columns, &n);
}

/* out = scale * out + sign * M v ("T") or M' v ("N") for K columns and M (k, n). */
static void multiply(char *on, int k, int n, const double *M, int K, double sign,
                     const double *v, double scale, double *out)
{
    int rows = *on == 'N' ? n : k, inner = *on == 'N' ? k : n;
    if (!rows || !K)
        return;
    if (!inner) {
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * K; i++)
            out[i] = scale == 0.0 ? 0.0 : scale * out[i];
        return;
    }
    if (K == 1)
        dgemv(on, &n, &k, &sign, (double *)M, &n, (double *)v, &one, &scale, out, &one);
    else
        dgemm(on, "N", &rows, &K, &inner, &sign, (double *)M, &n, (double *)v, &inner, &scale, out,
              &rows);
}

/* The upper triangle of scale * M + R'R ("N", M (n, n)) or RR' ("T", M (k, k)) for R (k, n). */
static void square(char *on, int k, int n, const double *R, double scale, double *M)
{
    int order = *on == 'N' ? n : k, inner = *on == 'N' ? k : n;
    if (!order)
        return;
    int lead = n ? n : 1;
    dsyrk("L", on, &order, &inner, &unit, (double *)R, &lead, &scale, M, &order);
}

/* Whether the pivots of a factor keep more than this share of the diagonal of the matrix. */
static int sure(double share, int n, const double *U, const double *diagonal)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(U[i * n + i] * U[i * n + i] > share * diagonal[i]))
            return 0;
    return 1;
}

/* ----------------------------------------------------------------------------- memory to keep */

/* The system takes large blocks back and hands them out anew page by page, which for a batch takes
   as long as its factorizations. So some are kept: the GIL guards them. */

enum { BLOCKS = 64, STEPS = 4 };               /* kept at most; sizes between two powers of two */
static const size_t LARGE = (size_t)64 << 10; /* bytes from which on a block is kept ... */
static const size_t KEPT = (size_t)128 << 20; /* ... and those of all at most */

static struct {
    size_t size;
    void *memory;
} kept[BLOCKS];

/* Rounds up, so that sizes that depend on the active set meet again. */
static size_t rounded(size_t size)
{
    size_t step = LARGE / STEPS;
    while (step * 2 * STEPS < size)
        step *= 2;
    return (size + step - 1) / step * step;
}

static void forget(void)
{
    for (int j = 0; j < BLOCKS; j++) {
        free(kept[j].memory);
        kept[j].memory = NULL;
    }
}

static void *take(size_t size)
{
    if (size < LARGE)
        return malloc(size);
    size = rounded(size);
    for (int j = 0; j < BLOCKS; j++)
        if (kept[j].memory && kept[j].size == size) {
            void *found = kept[j].memory;
            kept[j].memory = NULL;
            return found;
        }
    void *found = malloc(size);
    if (!found) {
        forget();
        found = malloc(size);
    }
    return found;
}

/* Keeps a block for the next that asks for its size, in place of others where there is no room. */
static void give(void *memory, size_t size)
{
    if (size < LARGE || rounded(size) > KEPT || !memory) {
        free(memory);
        return;
    }
    size_t all = size = rounded(size);
    int place = -1;
    for (int j = 0; j < BLOCKS; j++)
        if (kept[j].memory)
            all += kept[j].size;
        else
            place = j;
    if (place < 0 || all > KEPT) {
        forget();
        place = 0;
    }
    kept[place].memory = memory;
    kept[place].size = size;
}

/* A block as an object that arrays can look into. */
typedef struct {
    PyObject_HEAD
    size_t size;
    void *memory;
} Memory;

static PyTypeObject *memory_type;

static int memory_buffer(PyObject *self, Py_buffer *view, int flags)
{
    Memory *m = (Memory *)self;
    return PyBuffer_FillInfo(view, self, m->memory, (Py_ssize_t)m->size, 0, flags);
}

static void memory_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    give(((Memory *)self)->memory, ((Memory *)self)->size);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_buffer},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    "ffoadapt._kernel.Memory", sizeof(Memory), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, memory_slots,
};

PyDoc_STRVAR(memory_doc, "memory(bytes) -> a buffer, with anything in it");

static PyObject *memory_new(PyObject *module, PyObject *args)
{
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "memory has no negative size");
        return NULL;
    }
    Memory *found = PyObject_New(Memory, memory_type);
    if (!found)
        return NULL;
    found->size = (size_t)size;
    found->memory = take((size_t)size);
    if (!found->memory) {
        Py_DECREF(found);
        return PyErr_NoMemory();
    }
    return (PyObject *)found;
}

/* ------------------------------------------------------------------------------- one element */

/* The data and factors of an element with k active rows; D are the k weights of the penalty. */
typedef struct {
    int n, m, k;
    const double *P, *A;
    const char *active;
    double *U, *Y, *S, *D;
    double steepness; /* the squared size of C */
    int penalized;    /* whether U is that of P + C'DC */
    int fine;         /* whether the factors are good for anything */
} System;

/* Copies C, the active rows of A, to rows (k, n). */
static void gather(const System *s, double *rows)
{
    for (ptrdiff_t i = 0; i < s->m; i++)
        if (s->active[i]) {
            memcpy(rows, s->A + i * s->n, s->n * sizeof(double));
            rows += s->n;
        }
}

/* full (m, K) with values (k, K), times the weights where there are any, in the active rows. */
static void scatter(const System *s, int K, const double *values, const double *weights,
                    double *full)
{
    for (int c = 0; c < K; c++, values += s->k, full += s->m)
        for (int i = 0, j = 0; i < s->m; i++)
            if (s->active[i]) {
                full[i] = weights ? weights[j] * values[j] : values[j];
                j++;
            } else
                full[i] = 0.0;
}

/* P + C'DC in place of U, D the weights that bring C'DC to the size of P; C is in Y. */
static void penalize(System *s)
{
    ptrdiff_t n = s->n, k = s->k;
    double size = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        size = fmax(size, fabs(s->P[i * n + i]));
    if (size == 0.0)
        size = 1.0;
    for (ptrdiff_t j = 0; j < k; j++) {
        double norm = dot(n, s->Y + j * n);
        s->D[j] = size / (norm > 0.0 ? norm : 1.0);
        for (ptrdiff_t i = 0; i < n; i++)
            s->Y[j * n + i] *= sqrt(s->D[j]);
    }
    memcpy(s->U, s->P, n * n * sizeof(double));
    square("N", s->k, s->n, s->Y, 1.0, s->U);
    gather(s, s->Y);
}

/* The factors of an element; P is factorized unless U is known. False if there is no memory. */
static int factorize(System *s, int known, double share)
{
    ptrdiff_t n = s->n, k = s->k;
    double *diagonal = malloc((n + k + 1) * sizeof(double));
    if (!diagonal)
        return 0;
    gather(s, s->Y);
    s->steepness = dot(k * n, s->Y);
    s->fine = 1;
    s->penalized = 0;
    if (!known) {
        for (ptrdiff_t i = 0; i < n; i++)
            diagonal[i] = s->P[i * n + i];
        memcpy(s->U, s->P, n * n * sizeof(double));
        if (!factor(s->n, s->U) || !sure(share, s->n, s->U, diagonal)) {
            s->penalized = 1;
            penalize(s);
            for (ptrdiff_t i = 0; i < n; i++)
                diagonal[i] = s->U[i * n + i];
            s->fine = factor(s->n, s->U) && sure(share, s->n, s->U, diagonal);
        }
    }
    if (s->fine && k) {
        divide("N", s->n, s->U, s->k, s->Y);
        square("T", s->k, s->n, s->Y, 0.0, s->S);
        for (ptrdiff_t j = 0; j < k; j++)
            diagonal[j] = s->S[j * k + j];
        s->fine = factor(s->k, s->S) && sure(share, s->k, s->S, diagonal);
    }
    free(diagonal);
    return 1;
}

/* Overwrites the right-hand side x (n, K), y (k, K) with the solution; full is (m, K). */
static void solve(const System *s, int K, double *x, double *y, double *full)
{
    if (s->penalized) {
        scatter(s, K, y, s->D, full);
        multiply("N", s->m, s->n, s->A, K, 1.0, full, 1.0, x);
    }
    divide("N", s->n, s->U, K, x);
    multiply("T", s->k, s->n, s->Y, K, 1.0, x, -1.0, y);
    divide("N", s->k, s->S, K, y);
    divide("T", s->k, s->S, K, y);
    multiply("N", s->k, s->n, s->Y, K, -1.0, y, 1.0, x);
    divide("T", s->n, s->U, K, x);
}

/* Right-hand sides or solutions: x (n, K), y (k, K). */
typedef struct {
    double *x, *y;
} Pair;

/* NaN stays NaN in all three: a solution that is none must not look like one. */
static double ratio(double error, double size) { return size == 0.0 ? 0.0 : error / size; }
static double larger(double a, double b) { return a >= b || isnan(a) ? a : b; }
static double smaller(double a, double b) { return a <= b || isnan(a) ? a : b; }

/* What is left of `right` at `at`, and its sizes (K,) as in dense.relative_sizes. */
static void residual(const System *s, int K, Pair right, Pair at, Pair left, double *full,
                     double *sizes, double *blocks)
{
    ptrdiff_t n = s->n, k = s->k;
    scatter(s, K, at.y, NULL, full);
    multiply("N", s->m, s->n, s->A, K, 1.0, full, 0.0, left.x);
    for (int c = 0; c < K; c++)
        blocks[c] = dot(n, left.x + c * n); /* of C'y, for now */
    for (ptrdiff_t i = 0; i < n * K; i++)
        left.x[i] = right.x[i] - left.x[i];
    multiply("T", s->n, s->n, s->P, K, -1.0, at.x, 1.0, left.x);
    multiply("T", s->m, s->n, s->A, K, 1.0, at.x, 0.0, full);
    double *y = left.y;
    for (int c = 0; c < K; c++)
        for (int i = 0; i < s->m; i++)
            if (s->active[i])
                *y++ = full[c * (ptrdiff_t)s->m + i];
    for (ptrdiff_t i = 0; i < k * K; i++)
        left.y[i] = right.y[i] - left.y[i];
    for (int c = 0; c < K; c++) {
        double r = dot(n, left.x + c * n), g = dot(k, left.y + c * k);
        double top = dot(n, right.x + c * n), bottom = dot(k, right.y + c * k);
        double upper = ratio(r, top + blocks[c]);
        double lower = ratio(g, bottom + s->steepness * dot(n, at.x + c * n));
        double block = larger(upper, lower);
        sizes[c] = sqrt(smaller(ratio(r + g, top + bottom), block));
        blocks[c] = sqrt(block);
    }
}

static double largest(int K, const double *values)
{
    double found = 0.0;
    for (int c = 0; c < K; c++)
        found = larger(values[c], found);
    return found;
}

enum { ROUNDS = 8 }; /* refinement steps at most, as in dense.py */

/* Refines the solution `at`, as DenseFactor does; `left` and `again` are pairs to work in. */
static double refined(const System *s, int K, double limit, Pair right, Pair at, Pair left,
                      Pair again, double *full, double *sizes)
{
    ptrdiff_t n = s->n, k = s->k;
    double *blocks = sizes + K, *others = sizes + 2 * K, *spare = sizes + 3 * K;
    residual(s, K, right, at, left, full, sizes, blocks);
    for (int round = 0; round < ROUNDS && largest(K, blocks) > limit; round++) {
        int last = largest(K, sizes) <= limit, better = 0; /* one beyond, for the smaller block */
        solve(s, K, left.x, left.y, full);
        for (ptrdiff_t i = 0; i < n * K; i++)
            left.x[i] += at.x[i];
        for (ptrdiff_t i = 0; i < k * K; i++)
            left.y[i] += at.y[i];
        residual(s, K, right, left, again, full, others, spare);
        for (int c = 0; c < K; c++)
            if (others[c] < fmax(sizes[c], limit)) {
                better = 1;
                sizes[c] = others[c];
                memcpy(at.x + c * n, left.x + c * n, n * sizeof(double));
                memcpy(at.y + c * k, left.y + c * k, k * sizeof(double));
            }
        if (last || !better)
            break;
        residual(s, K, right, at, left, full, sizes, blocks);
    }
    return largest(K, sizes);
}

/* Solves for the columns v_x and v_z, which lie `step_x` and `step_z` apart, as do the solutions w
   and zeta; without a limit they are not refined. False if there is no memory. */
static int solution(const System *s, int K, double limit, const double *v_x, const double *v_z,
                    double *w, double *zeta, ptrdiff_t step_x, ptrdiff_t step_z, double *size)
{
    ptrdiff_t n = s->n, m = s->m, k = s->k;
    int refine = limit < DBL_MAX;
    double *memory = malloc((K * ((refine ? 4 : 1) * (n + k) + m + 4) + 1) * sizeof(double));
    if (!memory)
        return 0;
    double *next = memory + K * (m + 4), *full = memory, *sizes = memory + K * m;
    Pair pairs[4];
    for (int p = 0; p < (refine ? 4 : 1); p++, next += K * (n + k)) {
        pairs[p].x = next;
        pairs[p].y = next + K * n;
    }
    Pair at = pairs[0];
    double *y = at.y;
    for (int c = 0; c < K; c++) {
        memcpy(at.x + c * n, v_x + c * step_x, n * sizeof(double));
        for (ptrdiff_t i = 0; i < m; i++)
            if (s->active[i])
                *y++ = v_z[c * step_z + i];
    }
    if (refine)
        memcpy(pairs[1].x, at.x, K * (n + k) * sizeof(double));
    solve(s, K, at.x, at.y, full);
    *size = refine ? refined(s, K, limit, pairs[1], at, pairs[2], pairs[3], full, sizes) : 0.0;
    for (int c = 0; c < K; c++) {
        memcpy(w + c * step_x, at.x + c * n, n * sizeof(double));
        scatter(s, 1, at.y + c * k, NULL, zeta + c * step_z);
    }
    free(memory);
    return 1;
}

/* ------------------------------------------------------------------------- points and their sizes */

/* What `measure` says of an element, in this order. */
enum { PRIMAL, GRADIENT, SHARE_X, SHARE_Z, KKT, OUTSIDE, MARGIN, UNPAIRED, FIGURES };

typedef struct {
    int n, m;
    const double *P, *q, *A, *b, *x, *s, *z;
    const char *equality;
} Point;

static double magnitude(ptrdiff_t n, const double *values, ptrdiff_t step)
{
    double found = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        found = larger(fabs(values[i * step]), found);
    return found;
}

/* The sizes of a point, see active_set.scales. */
static void scales(const Point *p, const double *squares, double *out)
{
    double reach = 0.0, size_z = 0.0;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double norm = sqrt(squares[i]);
        if (isfinite(p->b[i]))
            reach = fmax(reach, fabs(p->b[i]) / norm);
        size_z = larger(fabs(p->z[i]) * norm, size_z);
    }
    double steepness = magnitude(p->n, p->q, 1), size_x = magnitude(p->n, p->x, 1);
    double curvature = magnitude(p->n, p->P, (ptrdiff_t)p->n + 1);
    double primal = larger(size_x, reach), gradient = larger(size_z, steepness);
    double length = curvature > 0.0 ? gradient / curvature : 0.0;
    gradient = larger(gradient, curvature * primal);
    primal = larger(primal, length);
    /* Data without a length (or a gradient) of their own. */
    if (reach == 0.0 && (steepness == 0.0 || !(curvature > 0.0)))
        primal = larger(primal, 1.0);
    if (steepness == 0.0 && (reach == 0.0 || !(curvature > 0.0)))
        gradient = larger(gradient, 1.0);
    out[PRIMAL] = primal;
    out[GRADIENT] = gradient;
    out[SHARE_X] = size_x / primal;
    out[SHARE_Z] = size_z / gradient;
}

/* The residuals of the point, its least margin and the active rows; work is (n + m). `exact` says
   that s is b - Ax. See report.kkt_residuals, report.row_margins and active_set.linearize. */
static void residuals(const Point *p, const double *squares, int exact, char *active, double *work,
                      double *out)
{
    double primal = out[PRIMAL], gradient = out[GRADIENT], *gap = work + p->n;
    memcpy(work, p->q, p->n * sizeof(double));
    multiply("T", p->n, p->n, p->P, 1, 1.0, p->x, 1.0, work);
    multiply("N", p->m, p->n, p->A, 1, 1.0, p->z, 1.0, work);
    double kkt = magnitude(p->n, work, 1) / gradient, margin = INFINITY, outside = 0.0;
    double unpaired = 0.0; /* how far s and z of all rows together are from complementary */
    if (!exact)
        multiply("T", p->m, p->n, p->A, 1, 1.0, p->x, 0.0, gap);
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double norm = sqrt(squares[i]), unit = norm * primal;
        int free = isinf(p->b[i]) && p->b[i] > 0.0;
        double s = p->s[i] / unit, z = free ? 0.0 : p->z[i] * norm / gradient;
        /* outside where positive, not complementary where negative */
        double violation = p->equality[i] ? fabs(s) : -smaller(s, z);
        outside = i ? larger(violation, outside) : violation;
        kkt = larger(fabs(violation), kkt);
        unpaired += free ? fabs(p->z[i]) * norm / gradient : fabs(violation);
        if (!free && !p->equality[i])
            margin = smaller(larger(s, z), margin);
        active[i] = p->equality[i] || p->z[i] * (squares[i] * (primal / gradient)) > p->s[i];
    }
    for (ptrdiff_t i = 0; !exact && i < p->m; i++)
        if (!(isinf(p->b[i]) && p->b[i] > 0.0))
            outside = larger(fabs(gap[i] + p->s[i] - p->b[i]) / (sqrt(squares[i]) * primal), outside);
    out[KKT] = larger(outside, kkt);
    out[OUTSIDE] = outside;
    out[MARGIN] = margin;
    out[UNPAIRED] = unpaired;
}

/* How much larger than a dimensionless question of signs its answer is, see certificate.examine;
   work is (n + k + m). */
static double gain(const System *s, const double *signs_x, const double *signs_z,
                   const double *squares, const double *figures, double *work)
{
    double primal = figures[PRIMAL], gradient = figures[GRADIENT];
    double *x = work, *y = x + s->n, *full = y + s->k, largest_y = 0.0;
    for (ptrdiff_t i = 0; i < s->n; i++)
        x[i] = gradient * signs_x[i];
    for (ptrdiff_t i = 0, j = 0; i < s->m; i++)
        if (s->active[i])
            y[j++] = sqrt(squares[i]) * primal * signs_z[i];
    solve(s, 1, x, y, full);
    for (ptrdiff_t i = 0, j = 0; i < s->m; i++)
        if (s->active[i])
            largest_y = larger(fabs(y[j++]) * sqrt(squares[i]), largest_y);
    return larger(magnitude(s->n, x, 1) / primal, largest_y / gradient);
}

/* Limits of certificate._Bounds. */
typedef struct {
    double rounding, sure, brief, small;
} Limits;

/* What certificate._Bounds.settle says of a polyhedral program with this gain. */
static int settled(double gain, const double *figures, double order, const Limits *limits)
{
    double step = sqrt(order) * (1.0 + gain) * (figures[KKT] + figures[UNPAIRED]);
    double size = smaller(figures[SHARE_X], larger(limits->small, figures[SHARE_Z]));
    double error = sqrt(order) * order * limits->rounding * (1.0 + gain);
    return figures[SHARE_X] >= limits->small && figures[MARGIN] > 0.0 &&
           sqrt(order) * step <= limits->brief * figures[MARGIN] &&
           step <= limits->sure * size && limits->rounding * gain <= limits->sure * size &&
           error <= limits->sure;
}

/* ---------------------------------------------------------------------------------- the batch */

/* What `prepare` makes; the arrays that it looks into stay alive with it. */
typedef struct {
    Py_ssize_t size;
    Py_buffer P, A, active, U;
    double *memory;
    size_t bytes;
    System *systems;
} Batch;

static const char *BATCH = "ffoadapt.batch";

static void release(Batch *b)
{
    PyBuffer_Release(&b->P);
    PyBuffer_Release(&b->A);
    PyBuffer_Release(&b->active);
    if (b->U.obj)
        PyBuffer_Release(&b->U);
    give(b->memory, b->bytes);
    free(b->systems);
    free(b);
}

static void destroy(PyObject *capsule) { release(PyCapsule_GetPointer(capsule, BATCH)); }

/* The numbers of element i, of which there are `count`, in an array of one or of all elements. */
static double *numbers(const Py_buffer *array, Py_ssize_t count, Py_ssize_t i)
{
    return (double *)array->buf + (array->len == count * 8 ? 0 : i * count);
}

static int holds(const Py_buffer *array, Py_ssize_t count, Py_ssize_t size)
{
    return array->len == count * 8 || array->len == count * 8 * size;
}

PyDoc_STRVAR(prepare_doc, "prepare(n, m, size, P, A, active, U or None, counts) -> batch: how many "
                          "rows are active is written to counts (size,)");

static PyObject *prepare(PyObject *module, PyObject *args)
{
    Batch *b = calloc(1, sizeof(Batch));
    Py_buffer counts;
    int n, m;
    if (!b)
        return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "iiny*y*y*z*w*", &n, &m, &b->size, &b->P, &b->A, &b->active, &b->U,
                          &counts)) {
        free(b);
        return NULL;
    }
    Py_ssize_t entries = (Py_ssize_t)n * n, size = b->size, count = 0;
    if (n < 0 || m < 0 || size < 0 || !holds(&b->P, entries, size) ||
        !holds(&b->A, (Py_ssize_t)m * n, size) || b->active.len != size * m ||
        (b->U.obj && !holds(&b->U, entries, size)) || counts.len != size * 8) {
        PyBuffer_Release(&counts);
        release(b);
        PyErr_SetString(PyExc_ValueError, "the arrays do not have the sizes of the batch");
        return NULL;
    }
    b->systems = malloc((size + 1) * sizeof(System));
    for (Py_ssize_t i = 0; b->systems && i < size; i++) {
        System *s = b->systems + i;
        *s = (System){n, m, 0, numbers(&b->P, entries, i), numbers(&b->A, (Py_ssize_t)m * n, i)};
        s->active = (const char *)b->active.buf + i * m;
        for (int j = 0; j < m; j++)
            s->k += s->active[j] != 0;
        ((int64_t *)counts.buf)[i] = s->k;
        count += (Py_ssize_t)s->k * (n + s->k + 1) + (b->U.obj ? 0 : entries);
    }
    PyBuffer_Release(&counts);
    b->bytes = (count + 1) * sizeof(double);
    double *next = b->memory = b->systems ? take(b->bytes) : NULL;
    if (!next) {
        release(b);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        System *s = b->systems + i;
        s->U = next;
        if (b->U.obj)
            s->U = numbers(&b->U, entries, i);
        else
            next += entries;
        s->Y = next;
        s->S = s->Y + (Py_ssize_t)s->k * n;
        s->D = s->S + (Py_ssize_t)s->k * s->k;
        next = s->D + s->k;
    }
    PyObject *capsule = PyCapsule_New(b, BATCH, destroy);
    if (!capsule)
        release(b);
    return capsule;
}

enum { LASTING = 300000 }; /* n^2 (n + m) from which on the GIL is handed over, by measurement */

static Batch *part(PyObject *capsule, Py_ssize_t begin, Py_ssize_t end)
{
    Batch *b = PyCapsule_GetPointer(capsule, BATCH);
    if (b && (begin < 0 || begin > end || end > b->size)) {
        PyErr_SetString(PyExc_IndexError, "no such elements");
        return NULL;
    }
    return b;
}

static int lasts(const Batch *b, Py_ssize_t count)
{
    const System *s = b->systems;
    return count && (double)count * s->n * s->n * ((double)s->n + s->m) > LASTING;
}

PyDoc_STRVAR(factorize_doc, "factorize(batch, begin, end, share, fine): fine is written");

static PyObject *factorize_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    double share;
    Py_buffer fine;
    if (!PyArg_ParseTuple(args, "Onndw*", &capsule, &begin, &end, &share, &fine))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int good = b && fine.len == b->size;
    if (b && !good)
        PyErr_SetString(PyExc_ValueError, "fine is not of the size of the batch");
    if (good) {
        PyThreadState *thread = lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; good && i < end; i++) {
            good = factorize(b->systems + i, b->U.obj != NULL, share);
            ((char *)fine.buf)[i] = (char)b->systems[i].fine;
        }
        if (thread)
            PyEval_RestoreThread(thread);
        if (!good)
            PyErr_NoMemory();
    }
    PyBuffer_Release(&fine);
    return good ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(solve_doc, "solve(batch, begin, end, limit, v_x, v_z, w, zeta, residual): the last "
                        "three (K, size, n), (K, size, m), (size,) are written");

static PyObject *solve_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    double limit;
    Py_buffer v_x, v_z, w, zeta, residual;
    if (!PyArg_ParseTuple(args, "Onndy*y*w*w*w*", &capsule, &begin, &end, &limit, &v_x, &v_z, &w,
                          &zeta, &residual))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int good = b && end > begin;
    if (good) {
        Py_ssize_t step_x = b->size * b->systems->n, step_z = b->size * b->systems->m;
        Py_ssize_t K = step_x ? v_x.len / 8 / step_x : step_z ? v_z.len / 8 / step_z : 0;
        if (v_x.len != K * step_x * 8 || v_z.len != K * step_z * 8 || w.len != v_x.len ||
            zeta.len != v_z.len || residual.len != b->size * 8) {
            PyErr_SetString(PyExc_ValueError, "the vectors do not have the sizes of the batch");
            good = 0;
        }
        PyThreadState *thread = good && lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; good && i < end; i++) {
            const System *s = b->systems + i;
            ptrdiff_t x = i * s->n, z = i * s->m;
            if (s->fine)
                good = solution(s, (int)K, limit, (double *)v_x.buf + x, (double *)v_z.buf + z,
                                (double *)w.buf + x, (double *)zeta.buf + z, step_x, step_z,
                                (double *)residual.buf + i);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        if (!good && !PyErr_Occurred())
            PyErr_NoMemory();
    }
    Py_buffer *all[] = {&v_x, &v_z, &w, &zeta, &residual};
    for (int j = 0; j < 5; j++)
        PyBuffer_Release(all[j]);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(settled_doc, "settled(batch, begin, end, signs_x, signs_z, squares, figures, rounding, "
                          "sure, brief, small) -> whether all elements are");

static PyObject *settled_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    enum { SIGNS_X, SIGNS_Z, SQUARES, MEASURED, ARRAYS };
    Py_buffer a[ARRAYS];
    Limits limits;
    if (!PyArg_ParseTuple(args, "Onny*y*y*y*dddd", &capsule, &begin, &end, a + SIGNS_X,
                          a + SIGNS_Z, a + SQUARES, a + MEASURED, &limits.rounding, &limits.sure,
                          &limits.brief, &limits.small))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int all = 1;
    if (b && end > begin) {
        Py_ssize_t n = b->systems->n, m = b->systems->m;
        int good = a[SIGNS_X].len == n * 8 && a[SIGNS_Z].len == m * 8 &&
                   holds(a + SQUARES, m, b->size) && a[MEASURED].len == b->size * FIGURES * 8;
        double *work = good ? malloc((n + 2 * m + 1) * sizeof(double)) : NULL;
        if (!good)
            PyErr_SetString(PyExc_ValueError, "the arrays do not have the sizes of the batch");
        else if (!work)
            PyErr_NoMemory();
        else {
            PyThreadState *thread = lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
            for (Py_ssize_t i = begin; all && i < end; i++) {
                const double *figures = (double *)a[MEASURED].buf + i * FIGURES;
                const System *s = b->systems + i;
                all = s->fine && settled(gain(s, a[SIGNS_X].buf, a[SIGNS_Z].buf,
                                              numbers(a + SQUARES, m, i), figures, work),
                                         figures, (double)(n + m), &limits);
            }
            if (thread)
                PyEval_RestoreThread(thread);
            free(work);
        }
    }
    for (int j = 0; j < ARRAYS; j++)
        PyBuffer_Release(a + j);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(all);
}

/* Copies P to U; whether all |P - P'| are at most this share of the largest diagonal entry. */
static int symmetric(ptrdiff_t n, const double *P, double *U, double share)
{
    enum { TILE = 16 };
    double size = 0.0, far = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        size = fmax(size, P[i * n + i]);
    for (ptrdiff_t row = 0; row < n; row += TILE)
        for (ptrdiff_t column = row; column < n; column += TILE)
            for (ptrdiff_t i = row; i < n && i < row + TILE; i++)
                for (ptrdiff_t j = column; j < n && j < column + TILE; j++) {
                    double difference = fabs(P[i * n + j] - P[j * n + i]);
                    far = difference > far ? difference : far;
                }
    memcpy(U, P, n * n * sizeof(double));
    return far <= share * size;
}

PyDoc_STRVAR(cholesky_doc, "cholesky(n, P, U, asymmetry, share) -> bool: U (B, n, n) is written");

static PyObject *cholesky(PyObject *module, PyObject *args)
{
    int n;
    double asymmetry, share;
    Py_buffer P, U;
    if (!PyArg_ParseTuple(args, "iy*w*dd", &n, &P, &U, &asymmetry, &share))
        return NULL;
    Py_ssize_t entries = (Py_ssize_t)n * n, count = entries > 0 ? P.len / 8 / entries : 0;
    int good = n >= 0 && U.len == P.len && P.len == count * entries * 8, memory = 1;
    if (good) {
        PyThreadState *thread =
            (double)count * entries * n > LASTING ? PyEval_SaveThread() : NULL;
        double *diagonal = malloc((n + 1) * sizeof(double));
        memory = diagonal != NULL;
        good = memory;
        for (Py_ssize_t k = 0; good && k < count; k++) {
            const double *p = (double *)P.buf + k * entries;
            double *u = (double *)U.buf + k * entries;
            for (ptrdiff_t i = 0; i < n; i++)
                diagonal[i] = p[i * n + i];
            good = symmetric(n, p, u, asymmetry) && factor(n, u) && sure(share, n, u, diagonal);
        }
        free(diagonal);
        if (thread)
            PyEval_RestoreThread(thread);
    } else
        PyErr_SetString(PyExc_ValueError, "P and U do not have the same size");
    PyBuffer_Release(&P);
    PyBuffer_Release(&U);
    if (!memory)
        PyErr_NoMemory();
    return PyErr_Occurred() ? NULL : PyBool_FromLong(good);
}

PyDoc_STRVAR(squares_doc, "squares(m, n, A, out): out (B, m) of A (B, m, n) is written");

static PyObject *squares(PyObject *module, PyObject *args)
{
    int m, n;
    Py_buffer A, out;
    if (!PyArg_ParseTuple(args, "iiy*w*", &m, &n, &A, &out))
        return NULL;
    Py_ssize_t rows = out.len / 8;
    if (n < 0 || m < 0 || A.len != rows * n * 8)
        PyErr_SetString(PyExc_ValueError, "A and its squares do not have sizes that fit");
    else
        for (Py_ssize_t i = 0; i < rows; i++)
            ((double *)out.buf)[i] = dot(n, (double *)A.buf + i * n);
    PyBuffer_Release(&A);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(measure_doc, "measure(n, m, begin, end, P, q, A, b, squares, x, s, z, equality, "
                          "exact, active, figures): the last two (B, m), (B, 8) are written");

static PyObject *measure(PyObject *module, PyObject *args)
{
    int n, m, exact;
    Py_ssize_t begin, end;
    enum { P, Q, A, B, SQUARES, X, S, Z, EQUALITY, ACTIVE, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iinny*y*y*y*y*y*y*y*y*pw*w*", &n, &m, &begin, &end, a + P,
                          a + Q, a + A, a + B, a + SQUARES, a + X, a + S, a + Z, a + EQUALITY,
                          &exact, a + ACTIVE, a + OUT))
        return NULL;
    Py_ssize_t size = a[OUT].len / 8 / FIGURES, rows = m, square = (Py_ssize_t)n * n;
    Py_ssize_t block = (Py_ssize_t)m * n;
    int good = n >= 0 && m >= 0 && begin >= 0 && begin <= end && end <= size &&
               holds(a + P, square, size) && holds(a + Q, n, size) && holds(a + A, block, size) &&
               holds(a + B, rows, size) && a[X].len == size * n * 8 && a[S].len == size * m * 8 &&
               a[Z].len == a[S].len && a[EQUALITY].len == m && a[ACTIVE].len == size * m &&
               holds(a + SQUARES, rows, size);
    double *work = good ? malloc((n + m + 1) * sizeof(double)) : NULL;
    if (!good)
        PyErr_SetString(PyExc_ValueError, "the arrays do not have the sizes of the batch");
    else if (!work)
        PyErr_NoMemory();
    else {
        double count = (double)(end - begin) * n * ((double)n + m);
        PyThreadState *thread = count > LASTING / 32 ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; i < end; i++) {
            Point p = {n, m, numbers(a + P, square, i), numbers(a + Q, n, i),
                       numbers(a + A, block, i), numbers(a + B, rows, i),
                       (double *)a[X].buf + i * n, (double *)a[S].buf + i * m,
                       (double *)a[Z].buf + i * m, a[EQUALITY].buf};
            const double *squares = numbers(a + SQUARES, rows, i);
            double *out = (double *)a[OUT].buf + i * FIGURES;
            scales(&p, squares, out);
            residuals(&p, squares, exact, (char *)a[ACTIVE].buf + i * m, work, out);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        free(work);
    }
    for (int j = 0; j < ARRAYS; j++)
        PyBuffer_Release(a + j);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* ------------------------------------------------------------------------- gradients of matrices */

PyDoc_STRVAR(products_doc, "products(rows, n, begin, end, sign, z, zeta, w, x, out): sign * (z w' + "
                           "zeta x') is written to out (K, rows, n); of z and x there may be fewer, "
                           "which come in turn");

static PyObject *products(PyObject *module, PyObject *args)
{
    Py_ssize_t rows, n, begin, end;
    double sign;
    enum { Z, ZETA, W, X, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "nnnndy*y*y*y*w*", &rows, &n, &begin, &end, &sign, a + Z, a + ZETA,
                          a + W, a + X, a + OUT))
        return NULL;
    int good = rows > 0 && n > 0;
    Py_ssize_t K = good ? a[W].len / 8 / n : 0, of_x = good ? a[X].len / 8 / n : 0;
    Py_ssize_t of_z = good ? a[Z].len / 8 / rows : 0;
    good = good && begin >= 0 && begin <= end && end <= K && (!K || (of_x > 0 && of_z > 0)) &&
           a[W].len == K * n * 8 && a[X].len == of_x * n * 8 && a[Z].len == of_z * rows * 8 &&
           a[ZETA].len == K * rows * 8 && a[OUT].len == K * rows * n * 8;
    if (!good)
        PyErr_SetString(PyExc_ValueError, "the vectors and their products do not have sizes that fit");
    else {
        double count = 8.0 * (end - begin) * rows * n;
        PyThreadState *thread = count > LASTING ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t k = begin; k < end; k++) {
            const double *w = (double *)a[W].buf + k * n, *zeta = (double *)a[ZETA].buf + k * rows;
            const double *x = (double *)a[X].buf + k % of_x * n;
            const double *z = (double *)a[Z].buf + k % of_z * rows;
            double *out = (double *)a[OUT].buf + k * rows * n;
            for (Py_ssize_t i = 0; i < rows; i++, out += n) {
                double left = sign * z[i], right = sign * zeta[i];
                for (Py_ssize_t j = 0; j < n; j++)
                    out[j] = left * w[j] + right * x[j];
            }
        }
        if (thread)
            PyEval_RestoreThread(thread);
    }
    for (int j = 0; j < ARRAYS; j++)
        PyBuffer_Release(a + j);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* --------------------------------------------------------------------------------- the module */

static PyMethodDef methods[] = {
    {"memory", memory_new, METH_VARARGS, memory_doc},
    {"prepare", prepare, METH_VARARGS, prepare_doc},
    {"factorize", factorize_batch, METH_VARARGS, factorize_doc},
    {"solve", solve_batch, METH_VARARGS, solve_doc},
    {"settled", settled_batch, METH_VARARGS, settled_doc},
    {"cholesky", cholesky, METH_VARARGS, cholesky_doc},
    {"squares", squares, METH_VARARGS, squares_doc},
    {"measure", measure, METH_VARARGS, measure_doc},
    {"products", products, METH_VARARGS, products_doc},
    {NULL},
};

/* Finds a function that scipy exports, if its integers are what we pass. */
static int find(const char *module, const char *name, void *target)
{
    PyObject *found = PyImport_ImportModule(module), *capsule = NULL;
    PyObject *functions = found ? PyObject_GetAttrString(found, "__pyx_capi__") : NULL;
    if (functions)
        capsule = PyMapping_GetItemString(functions, name);
    const char *signature = capsule ? PyCapsule_GetName(capsule) : NULL;
    void *pointer = signature ? PyCapsule_GetPointer(capsule, signature) : NULL;
    if (pointer && !strstr(signature, " int *")) {
        PyErr_Format(PyExc_ImportError, "%s of scipy takes other integers: %s", name, signature);
        pointer = NULL;
    }
    if (!pointer && !PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ImportError, "%s has no %s to call", module, name);
    }
    memcpy(target, &pointer, sizeof(pointer));
    Py_XDECREF(capsule);
    Py_XDECREF(functions);
    Py_XDECREF(found);
    return pointer != NULL;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "See batched.py.", -1, methods,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    const char *blas = "scipy.linalg.cython_blas";
    if (find("scipy.linalg.cython_lapack", "dpotrf", &dpotrf) && find(blas, "dtrsv", &dtrsv) &&
        find(blas, "dtrsm", &dtrsm) && find(blas, "dsyrk", &dsyrk) &&
        find(blas, "dgemv", &dgemv) && find(blas, "dgemm", &dgemm))
        memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
    return memory_type ? PyModule_Create(&definition) : NULL;
}
