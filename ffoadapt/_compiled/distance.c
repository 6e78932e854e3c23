/* The least-distance form of dense programs; _least_distance.py says what it is.

   Of an element with p equalities, `rows` (m, n) keeps in this order: the (m - p, n - p) rows of the
   form; their part along the equalities (m - p, p); and the equalities as dgeqrf packs them, R and
   the Householder vectors, (p, n). */

#include "kernel.h"

typedef struct {
    int n, m;
    const double *P, *q, *A, *l, *u;
    double *U, *rows, *tau, *v, *w, *lower, *upper;
    int32_t *order;
} Distance;

enum { P, Q, A, BELOW, ABOVE, FACTOR, ROWS, TAU, V, W, LOWER, UPPER, ORDER, SIZES, ARRAYS };

/* Element i of the arrays. */
static Distance element(const Py_buffer *a, int n, int m, Py_ssize_t i)
{
    Py_ssize_t square = (Py_ssize_t)n * n, block = (Py_ssize_t)m * n, rows = m;
    return (Distance){n, m, numbers(a + P, square, i), numbers(a + Q, n, i),
                      numbers(a + A, block, i), numbers(a + BELOW, rows, i), numbers(a + ABOVE, rows, i),
                      numbers(a + FACTOR, square, i), (double *)a[ROWS].buf + i * block,
                      (double *)a[TAU].buf + i * n, (double *)a[V].buf + i * n,
                      (double *)a[W].buf + i * n, (double *)a[LOWER].buf + i * m,
                      (double *)a[UPPER].buf + i * m, (int32_t *)a[ORDER].buf + i * m};
}

/* Whether the arrays are those of `size` elements, the data and factors of one or of all. */
static int fit(const Py_buffer *a, int n, int m, Py_ssize_t size)
{
    Py_ssize_t square = (Py_ssize_t)n * n, block = (Py_ssize_t)m * n, rows = m;
    return n > 0 && m >= 0 && holds(a + P, square, size) && holds(a + Q, n, size) &&
           holds(a + A, block, size) && holds(a + BELOW, rows, size) && holds(a + ABOVE, rows, size) &&
           holds(a + FACTOR, square, size) && a[ROWS].len == size * block * 8 &&
           a[TAU].len == size * n * 8 && a[V].len == size * n * 8 && a[W].len == size * n * 8 &&
           a[LOWER].len == size * m * 8 && a[UPPER].len == size * m * 8 &&
           a[ORDER].len == size * m * 4 && a[SIZES].len == size * 4;
}

static int diagonal(int n, const double *M)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = i + 1; j < n; j++)
            if (M[i * n + j] != 0.0)
                return 0;
    return 1;
}

typedef struct {
    double least, pivot, dependent; /* see _least_distance.py */
} Rules;

/* Makes the form, and says how many equalities it eliminated; -1 where it is not to be had. */
static int reduce(Distance *d, int known, const Rules *rules, double *work)
{
    int n = d->n, m = d->m, p = 0, taken;
    for (int i = 0; i < m; i++)
        if (d->l[i] == d->u[i])
            d->order[p++] = i;
    taken = p;
    for (int i = 0; i < m; i++)
        if (d->l[i] != d->u[i])
            d->order[taken++] = i;
    if ((double)n * n * (n + m - 2.0 * p) < rules->least || p >= n || (!p && diagonal(n, d->P)))
        return -1;
    double *lengths = work, *rest = work + m, *rows = d->rows;
    for (ptrdiff_t i = 0; i < n; i++)
        rest[i] = d->P[i * n + i];
    if (!known) {
        memcpy(d->U, d->P, (ptrdiff_t)n * n * sizeof(double));
        if (!factor(n, d->U))
            return -1;
    }
    if (!sure(rules->pivot, n, d->U, rest))
        return -1;
    memcpy(d->v, d->q, n * sizeof(double));
    for (ptrdiff_t k = 0; k < m; k++)
        memcpy(rows + k * n, d->A + (ptrdiff_t)d->order[k] * n, n * sizeof(double));
    divide("N", n, d->U, m, rows);
    divide("N", n, d->U, 1, d->v);
    for (ptrdiff_t k = 0; k < m; k++) {
        double shift = inner(n, rows + k * n, d->v);
        lengths[k] = dot(n, rows + k * n);
        d->lower[k] = d->l[d->order[k]] + shift;
        d->upper[k] = d->u[d->order[k]] + shift;
    }
    if (!p)
        return 0;
    orthogonalize(n, p, m, rows, d->tau, rest);
    double share = rules->dependent * rules->dependent;
    for (ptrdiff_t k = 0; k < m; k++) {
        const double *row = rows + k * n;
        if (!((k < p ? row[k] * row[k] : dot(n - p, row + p)) > share * lengths[k]))
            return -1;
    }
    for (ptrdiff_t k = 0; k < p; k++)
        d->w[k] = (d->lower[k] - inner(k, rows + k * n, d->w)) / rows[k * n + k];
    for (ptrdiff_t k = p; k < m; k++) {
        double shift = inner(p, rows + k * n, d->w);
        d->lower[k - p] = d->lower[k] - shift;
        d->upper[k - p] = d->upper[k] - shift;
    }
    ptrdiff_t left = m - p, along = left * p;
    for (ptrdiff_t k = 0; k < left; k++)
        memcpy(rest + k * p, rows + (p + k) * n, p * sizeof(double));
    memcpy(rest + along, rows, (ptrdiff_t)p * n * sizeof(double));
    for (ptrdiff_t k = 0; k < left; k++)
        memmove(rows + k * (n - p), rows + (p + k) * n + p, (n - p) * sizeof(double));
    memcpy(rows + left * (n - p), rest, (along + (ptrdiff_t)p * n) * sizeof(double));
    return p;
}

/* x and the multipliers from t and the multipliers of the form. */
static void restore(const Distance *d, int p, const double *t, const double *found, double *x,
                    double *multipliers, double *work)
{
    ptrdiff_t n = d->n, left = d->m - p;
    const double *along = d->rows + left * (n - p), *packed = along + left * p;
    memcpy(x, d->w, p * sizeof(double));
    memcpy(x + p, t, (n - p) * sizeof(double));
    memcpy(work, d->w, p * sizeof(double));
    for (ptrdiff_t k = 0; k < left; k++) {
        multipliers[d->order[p + k]] = found[k];
        if (found[k] != 0.0)
            add(p, found[k], along + k * p, work);
    }
    for (ptrdiff_t k = p - 1; k >= 0; k--) {
        const double *column = packed + k * n, *vector = column + k + 1;
        double y = work[k] / column[k];
        add(k, -y, column, work);
        multipliers[d->order[k]] = -y;
        double turn = d->tau[k] * (x[k] + inner(n - k - 1, vector, x + k + 1));
        x[k] -= turn;
        add(n - k - 1, -turn, vector, x + k + 1);
    }
    add(n, -1.0, d->v, x);
    divide("T", (int)n, d->U, 1, x);
}

PyDoc_STRVAR(distance_doc, "distance(n, m, known, least, pivot, dependent, P, q, A, l, u, U, rows, "
                           "tau, v, w, lower, upper, order, sizes): what is after U is written, "
                           "and U unless it is known; sizes (B,) are the equalities, or -1");

static PyObject *distance(PyObject *module, PyObject *args)
{
    int n, m, known;
    Rules rules;
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iipdddy*y*y*y*y*y*w*w*w*w*w*w*w*w*", &n, &m, &known, &rules.least,
                          &rules.pivot, &rules.dependent, a + P, a + Q, a + A, a + BELOW, a + ABOVE,
                          a + FACTOR, a + ROWS, a + TAU, a + V, a + W, a + LOWER, a + UPPER,
                          a + ORDER, a + SIZES))
        return NULL;
    Py_ssize_t size = a[SIZES].len / 4;
    int good = fit(a, n, m, size) && (known || a[FACTOR].len == size * n * n * 8);
    double *work = good ? malloc((m + room_to_orthogonalize(n, m)) * sizeof(double)) : NULL;
    if (!good)
        misfit();
    else if (!work)
        PyErr_NoMemory();
    else {
        PyThreadState *thread = PyEval_SaveThread();
        for (Py_ssize_t i = 0; i < size; i++) {
            Distance d = element(a, n, m, i);
            ((int32_t *)a[SIZES].buf)[i] = reduce(&d, known, &rules, work);
        }
        PyEval_RestoreThread(thread);
        free(work);
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(undistance_doc, "undistance(n, m, P, q, A, l, u, U, rows, tau, v, w, lower, upper, "
                             "order, sizes, t, found, x, multipliers): the last two, (B, n) and "
                             "(B, m), are written from t (B, n) and found (B, m)");

static PyObject *undistance(PyObject *module, PyObject *args)
{
    int n, m;
    enum { T = ARRAYS, FOUND, X, MULTIPLIERS, ALL };
    Py_buffer a[ALL];
    if (!PyArg_ParseTuple(args, "iiy*y*y*y*y*y*y*y*y*y*y*y*y*y*y*y*w*w*", &n, &m, a + P, a + Q,
                          a + A, a + BELOW, a + ABOVE, a + FACTOR, a + ROWS, a + TAU, a + V, a + W,
                          a + LOWER, a + UPPER, a + ORDER, a + SIZES, a + T, a + FOUND, a + X,
                          a + MULTIPLIERS))
        return NULL;
    Py_ssize_t size = a[SIZES].len / 4;
    int good = fit(a, n, m, size) && a[T].len == size * n * 8 && a[FOUND].len == size * m * 8 &&
               a[X].len == a[T].len && a[MULTIPLIERS].len == a[FOUND].len;
    double *work = good ? malloc(n * sizeof(double)) : NULL;
    if (!good)
        misfit();
    else if (!work)
        PyErr_NoMemory();
    else {
        PyThreadState *thread = PyEval_SaveThread();
        for (Py_ssize_t i = 0; i < size; i++) {
            Distance d = element(a, n, m, i);
            int p = ((int32_t *)a[SIZES].buf)[i];
            const double *t = (double *)a[T].buf + i * n, *found = (double *)a[FOUND].buf + i * m;
            double *x = (double *)a[X].buf + i * n;
            double *multipliers = (double *)a[MULTIPLIERS].buf + i * m;
            if (p >= 0)
                restore(&d, p, t, found, x, multipliers, work);
            else {
                memcpy(x, t, n * sizeof(double));
                memcpy(multipliers, found, m * sizeof(double));
            }
        }
        PyEval_RestoreThread(thread);
        free(work);
    }
    let_go(a, ALL);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyMethodDef distance_methods[] = {
    {"distance", distance, METH_VARARGS, distance_doc},
    {"undistance", undistance, METH_VARARGS, undistance_doc},
    {NULL},
};
