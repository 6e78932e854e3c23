/* The least-distance form of dense programs; _least_distance.py says what it is.

   Of an element with p equalities, `rows` (m, n) keeps in this order: the (m - p, n - p) rows of the
   form; their part along the equalities (m - p, p); and the equalities as dgeqrf packs them, R and
   the Householder vectors, (p, n). */

#include "kernel.h"

typedef struct {
    int n, m;
    const double *P, *q, *A, *l, *u;
    double *U, *rows, *lower, *upper, *tau, *v, *w;
    int32_t *order;
} Distance;

enum { P, Q, A, BELOW, ABOVE, DATA };

/* The state of an element: rows, lower, upper, tau, v, w, order, and U where it is not known. */
static Py_ssize_t state_size(Py_ssize_t n, Py_ssize_t m, int known)
{
    return m * n + 2 * m + 3 * n + (m + 1) / 2 + (known ? 0 : n * n);
}

static Distance element(const Py_buffer *data, const Py_buffer *factor, const Py_buffer *state,
                        int n, int m, Py_ssize_t i)
{
    Py_ssize_t square = (Py_ssize_t)n * n, block = (Py_ssize_t)m * n, rows = m;
    double *at = (double *)state->buf + i * state_size(n, m, factor->obj != NULL);
    Distance d = {n, m, numbers(data + P, square, i), numbers(data + Q, n, i),
                  numbers(data + A, block, i), numbers(data + BELOW, rows, i),
                  numbers(data + ABOVE, rows, i)};
    d.rows = at;
    d.lower = d.rows + block;
    d.upper = d.lower + rows;
    d.tau = d.upper + rows;
    d.v = d.tau + n;
    d.w = d.v + n;
    d.order = (int32_t *)(d.w + n);
    d.U = factor->obj ? numbers(factor, square, i) : d.w + n + (rows + 1) / 2;
    return d;
}

/* Whether the arrays are those of `size` elements, the data of one or of all. */
static int fit(const Py_buffer *data, const Py_buffer *factor, const Py_buffer *state, int n, int m,
               Py_ssize_t size)
{
    Py_ssize_t square = times(n, n), block = times(m, n), rows = m;
    return n > 0 && m >= 0 && holds(data + P, square, size) && holds(data + Q, n, size) &&
           holds(data + A, block, size) && holds(data + BELOW, rows, size) &&
           holds(data + ABOVE, rows, size) &&
           (!factor->obj || holds(factor, square, size)) &&
           has(state, times(size, state_size(n, m, factor->obj != NULL)));
}

/* Copies the order of an element, if its sizes are those of a form and the order has each row. */
static int read_order(const Distance *d, int p, int32_t *order)
{
    int m = d->m, good = p >= -1 && p < d->n && p <= m;
    if (p < 0)
        return good;
    unsigned char *seen = (unsigned char *)(order + m);
    memset(seen, 0, (size_t)m);
    for (int k = 0; good && k < m; k++) {
        int32_t row = d->order[k];
        good = row >= 0 && row < m && !seen[row];
        if (good) {
            seen[row] = 1;
            order[k] = row;
        }
    }
    return good;
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

/* Writes the equalities to `order`, then the others, and says how many equalities there are. */
static int sort(const Distance *d, int32_t *order)
{
    int m = d->m, p = 0, end = m;
    for (int i = 0; i < m; i++)
        if (d->l[i] == d->u[i])
            order[p++] = i;
        else
            order[--end] = i;
    for (int i = p, j = m - 1; i < j; i++, j--) {
        int32_t row = order[i];
        order[i] = order[j];
        order[j] = row;
    }
    return p;
}

/* Makes the form, and says how many equalities it eliminated; -1 where it is not to be had. */
static int reduce(Distance *d, int known, const Rules *rules, double *work)
{
    int n = d->n, m = d->m, p;
    int32_t *order = (int32_t *)work; /* nobody else knows it */
    work += (m + 1) / 2;
    p = sort(d, order);
    if (m)
        memcpy(d->order, order, m * sizeof(int32_t));
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
        memcpy(rows + k * n, d->A + (ptrdiff_t)order[k] * n, n * sizeof(double));
    divide("N", n, d->U, m, rows);
    divide("N", n, d->U, 1, d->v);
    for (ptrdiff_t k = 0; k < m; k++) {
        double shift = inner(n, rows + k * n, d->v);
        lengths[k] = dot(n, rows + k * n);
        d->lower[k] = d->l[order[k]] + shift;
        d->upper[k] = d->u[order[k]] + shift;
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

PyDoc_STRVAR(distance_doc, "distance(n, m, least, pivot, dependent, P, q, A, l, u, U or None, "
                           "state, equalities): state (B, ...) and equalities (B,) are written");

static PyObject *distance(PyObject *module, PyObject *args)
{
    int n, m;
    Rules rules;
    Py_buffer a[DATA + 3];
    Py_buffer *factor = a + DATA, *state = a + DATA + 1, *sizes = a + DATA + 2;
    if (!PyArg_ParseTuple(args, "iidddO&O&O&O&O&O&O&O&", &n, &m, &rules.least, &rules.pivot,
                          &rules.dependent, doubles, a + P, doubles, a + Q, doubles, a + A,
                          doubles, a + BELOW, doubles, a + ABOVE, doubles_or_none, factor,
                          doubles_to_write, state, int32s_to_write, sizes))
        return NULL;
    Py_ssize_t size = length(sizes);
    int good = fit(a, factor, state, n, m, size) && apart(a, DATA + 1, DATA + 3);
    size_t rows = m;
    double *work = work_for(good, (rows + 1) / 2 + rows + orthogonalize_workspace(n, m));
    if (work) {
        PyThreadState *thread = PyEval_SaveThread();
        for (Py_ssize_t i = 0; i < size; i++) {
            Distance d = element(a, factor, state, n, m, i);
            ((int32_t *)sizes->buf)[i] = reduce(&d, factor->obj != NULL, &rules, work);
        }
        PyEval_RestoreThread(thread);
        free(work);
    }
    let_go(a, DATA + 3);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(undistance_doc, "undistance(n, m, P, q, A, l, u, U or None, state, equalities, t, "
                             "found, x, multipliers): the last two, (B, n) and (B, m), are written "
                             "from t (B, n) and found (B, m)");

static PyObject *undistance(PyObject *module, PyObject *args)
{
    int n, m;
    enum { FACTOR = DATA, STATE, SIZES, T, FOUND, X, MULTIPLIERS, ALL };
    Py_buffer a[ALL];
    if (!PyArg_ParseTuple(args, "iiO&O&O&O&O&O&O&O&O&O&O&O&", &n, &m, doubles, a + P, doubles, a + Q,
                          doubles, a + A, doubles, a + BELOW, doubles, a + ABOVE, doubles_or_none,
                          a + FACTOR, doubles, a + STATE, int32s, a + SIZES, doubles, a + T,
                          doubles, a + FOUND, doubles_to_write, a + X, doubles_to_write,
                          a + MULTIPLIERS))
        return NULL;
    Py_ssize_t size = length(a + SIZES);
    int good = fit(a, a + FACTOR, a + STATE, n, m, size) && has(a + T, times(size, n)) &&
               has(a + FOUND, times(size, m)) && has(a + X, times(size, n)) &&
               has(a + MULTIPLIERS, times(size, m)) && apart(a, X, ALL);
    double *work = work_for(good, (size_t)n + m); /* after n numbers an order, and m bytes */
    if (work) {
        PyThreadState *thread = PyEval_SaveThread();
        for (Py_ssize_t i = 0; good && i < size; i++) {
            Distance d = element(a, a + FACTOR, a + STATE, n, m, i);
            int p = ((int32_t *)a[SIZES].buf)[i];
            int32_t *order = (int32_t *)(work + n);
            good = read_order(&d, p, order);
            d.order = order;
            const double *t = (double *)a[T].buf + i * n, *found = (double *)a[FOUND].buf + i * m;
            double *x = (double *)a[X].buf + i * n;
            double *multipliers = (double *)a[MULTIPLIERS].buf + i * m;
            if (good && p >= 0)
                restore(&d, p, t, found, x, multipliers, work);
            else if (good) {
                memcpy(x, t, n * sizeof(double));
                memcpy(multipliers, found, m * sizeof(double));
            }
        }
        PyEval_RestoreThread(thread);
        if (!good)
            PyErr_SetString(PyExc_ValueError, "the state is not what distance left there");
        free(work);
    }
    let_go(a, ALL);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyMethodDef distance_methods[] = {
    {"to_least_distance", distance, METH_VARARGS, distance_doc},
    {"from_least_distance", undistance, METH_VARARGS, undistance_doc},
    {NULL},
};
