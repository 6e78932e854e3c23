/* Numbers on sparsity patterns: CSC, indptr and indices of 32 bits, as _program/pattern.py has them. */

#include "kernel.h"

/* Where a matrix has entries: column j has those from start[j] to start[j + 1], in these rows. */
typedef struct {
    int32_t *start, *row;
} Places;

/* A copy of indptr (n + 1,) and indices (entries,) of a matrix with so many rows, to be freed by its
   `start`. That is NULL, with an exception, where they are not what they should be; `fit` is what
   else had to fit. */
static Places places(int fit, const Py_buffer *indptr, const Py_buffer *indices, Py_ssize_t n,
                     Py_ssize_t rows, const char *misfit)
{
    Py_ssize_t entries = length(indices);
    Places p = {NULL, NULL};
    if (!fit || n < 0 || length(indptr) - 1 != n) {
        PyErr_SetString(PyExc_ValueError, misfit);
        return p;
    }
    p.start = copy_of(indptr, (size_t)indices->len);
    if (!p.start)
        return p;
    p.row = p.start + n + 1;
    if (entries)
        memcpy(p.row, indices->buf, (size_t)indices->len);
    int good = p.start[0] == 0 && p.start[n] == entries;
    for (Py_ssize_t j = 0; j < n; j++)
        good &= p.start[j] <= p.start[j + 1];
    for (Py_ssize_t e = 0; e < entries; e++)
        good &= p.row[e] >= 0 && p.row[e] < rows;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, misfit);
        free(p.start);
        p.start = NULL;
    }
    return p;
}

PyDoc_STRVAR(entries_doc, "entries(rows, n, group, sign, indptr, indices, z, zeta, w, x, out): the "
                          "entries of sign * (z w' + zeta x') on the pattern, the sums of groups of "
                          "K, are written to out; of z and x there may be fewer, which come in turn");

static PyObject *entries(PyObject *module, PyObject *args)
{
    Py_ssize_t rows, n, group;
    double sign;
    enum { INDPTR, INDICES, Z, ZETA, W, X, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "nnndO&O&O&O&O&O&O&", &rows, &n, &group, &sign, int32s, a + INDPTR,
                          int32s, a + INDICES, doubles, a + Z, doubles, a + ZETA, doubles, a + W,
                          doubles, a + X, doubles_to_write, a + OUT))
        return NULL;
    Products all = {a + Z, rows, n};
    Py_ssize_t count = length(a + INDICES);
    int good = group > 0 && find_products(&all) && all.count % group == 0 &&
               has(a + OUT, times(all.count / group, count));
    Places at = places(good, a + INDPTR, a + INDICES, n, rows,
                       "the vectors and the pattern do not have sizes that fit");
    if (at.start && apart(a, OUT, ARRAYS)) {
        PyThreadState *thread = (double)all.count * count > WORTH_THREADS / 8 ? PyEval_SaveThread() : NULL;
        const int32_t *start = at.start, *row = at.row;
        for (Py_ssize_t k = 0; k < all.count; k++) {
            Product p = product(&all, k);
            double *out = (double *)a[OUT].buf + k / group * count;
            int first = k % group == 0;
            for (Py_ssize_t j = 0; j < n; j++)
                for (int32_t e = start[j]; e < start[j + 1]; e++) {
                    double one = sign * (p.z[row[e]] * p.w[j] + p.zeta[row[e]] * p.x[j]);
                    out[e] = first ? one : out[e] + one;
                }
        }
        if (thread)
            PyEval_RestoreThread(thread);
    }
    free(at.start);
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

enum { ROUNDS = 1000 }; /* at most: some ten are enough, and nobody can interrupt them */

PyDoc_STRVAR(equilibrate_doc, "equilibrate(rounds, near, indptr, indices, magnitudes, scale): scale "
                              "(n,) makes the largest entries of the rows of a symmetric matrix, "
                              "whose upper triangle it scales in place, near 1");

static PyObject *equilibrate(PyObject *module, PyObject *args)
{
    int rounds;
    double near;
    enum { INDPTR, INDICES, MAGNITUDES, SCALE, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "idO&O&O&O&", &rounds, &near, int32s, a + INDPTR, int32s,
                          a + INDICES, doubles_to_write, a + MAGNITUDES, doubles_to_write,
                          a + SCALE))
        return NULL;
    Py_ssize_t n = length(a + SCALE), count = length(a + INDICES);
    double *data = a[MAGNITUDES].buf, *d = a[SCALE].buf;
    int good = has(a + MAGNITUDES, count) && rounds <= ROUNDS;
    Places at = places(good, a + INDPTR, a + INDICES, n, n,
                       "the matrix and its scale do not have sizes that fit, or there are "
                       "too many rounds");
    double *largest = at.start ? work_for(apart(a, MAGNITUDES, ARRAYS), (size_t)n) : NULL;
    if (largest) {
        PyThreadState *thread = count > WORTH_THREADS / 32 ? PyEval_SaveThread() : NULL;
        const int32_t *start = at.start, *row = at.row;
        for (int round = 0; round < rounds; round++) {
            for (Py_ssize_t j = 0; j < n; j++)
                largest[j] = 0.0;
            for (Py_ssize_t j = 0; j < n; j++)
                for (int32_t e = start[j]; e < start[j + 1]; e++) {
                    double *other = largest + row[e];
                    largest[j] = data[e] > largest[j] ? data[e] : largest[j];
                    *other = data[e] > *other ? data[e] : *other;
                }
            int done = 1;
            for (Py_ssize_t j = 0; j < n; j++) {
                largest[j] = largest[j] == 0.0 ? 1.0 : largest[j];
                done = done && largest[j] >= 1.0 / near && largest[j] <= near;
            }
            if (done)
                break;
            for (Py_ssize_t j = 0; j < n; j++) {
                largest[j] = 1.0 / sqrt(largest[j]);
                d[j] *= largest[j];
            }
            for (Py_ssize_t j = 0; j < n; j++)
                for (int32_t e = start[j]; e < start[j + 1]; e++)
                    data[e] = data[e] * largest[row[e]] * largest[j];
        }
        if (thread)
            PyEval_RestoreThread(thread);
    }
    free(largest);
    free(at.start);
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static int64_t whole(const Py_buffer *array, Py_ssize_t at)
{
    return array->itemsize == 8 ? ((int64_t *)array->buf)[at] : ((int32_t *)array->buf)[at];
}

/* Whether rows and columns are those of the pattern, in the order; -1 where the sizes do not fit.
   The GIL is kept, so nothing can change meanwhile. */
static int equal(const Py_buffer *indptr, const Py_buffer *indices, const Py_buffer *order,
                 const Py_buffer *rows, const Py_buffer *columns)
{
    const int32_t *start = indptr->buf, *row = indices->buf, *place = order->obj ? order->buf : NULL;
    Py_ssize_t count = length(indices), n = length(indptr) - 1;
    if (n < 0 || start[0] != 0 || start[n] != count || (place && length(order) != count))
        return -1;
    for (Py_ssize_t j = 0; j < n; j++)
        if (start[j] > start[j + 1])
            return -1;
    if (length(rows) != length(columns) || rows->itemsize != columns->itemsize)
        return 0;
    if (length(rows) != count)
        return -1;
    for (Py_ssize_t j = 0, e = 0; j < n; j++)
        for (; e < start[j + 1]; e++) {
            Py_ssize_t at = place ? place[e] : e;
            if (at < 0 || at >= count)
                return -1;
            if (whole(rows, at) != row[e] || whole(columns, at) != j)
                return 0;
        }
    return 1;
}

PyDoc_STRVAR(same_doc, "same(indptr, indices, order or None, rows, columns) -> bool: whether the "
                       "entries of a matrix, whose rows and columns are of 32 or 64 bits, are those "
                       "of the pattern, in that order");

static PyObject *same(PyObject *module, PyObject *args)
{
    enum { INDPTR, INDICES, ORDER, ROWS, COLUMNS, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "O&O&O&O&O&", int32s, a + INDPTR, int32s, a + INDICES,
                          int32s_or_none, a + ORDER, integers, a + ROWS, integers, a + COLUMNS))
        return NULL;
    int found = equal(a + INDPTR, a + INDICES, a + ORDER, a + ROWS, a + COLUMNS);
    if (found < 0)
        PyErr_SetString(PyExc_ValueError, "the entries and the pattern do not have sizes that fit");
    let_go(a, ARRAYS);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

PyMethodDef pattern_methods[] = {
    {"same_entries", same, METH_VARARGS, same_doc},
    {"products_on_pattern", entries, METH_VARARGS, entries_doc},
    {"equilibrate", equilibrate, METH_VARARGS, equilibrate_doc},
    {NULL},
};
