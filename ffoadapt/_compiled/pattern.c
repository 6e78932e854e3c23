/* Numbers on sparsity patterns: CSC, indptr and indices of 32 bits, as _pattern.py has them. */

#include "kernel.h"

/* Whether indptr (n + 1,) and indices (entries,) are those of a matrix with so many rows. */
static int fits(const Py_buffer *indptr, const Py_buffer *indices, Py_ssize_t n, Py_ssize_t rows)
{
    const int32_t *start = indptr->buf, *row = indices->buf;
    Py_ssize_t entries = indices->len / 4;
    if (n < 0 || indptr->len != (n + 1) * 4 || start[0] != 0 || start[n] != entries)
        return 0;
    for (Py_ssize_t j = 0; j < n; j++)
        if (start[j] > start[j + 1])
            return 0;
    for (Py_ssize_t e = 0; e < entries; e++)
        if (row[e] < 0 || row[e] >= rows)
            return 0;
    return 1;
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
    if (!PyArg_ParseTuple(args, "nnndy*y*y*y*y*y*w*", &rows, &n, &group, &sign, a + INDPTR,
                          a + INDICES, a + Z, a + ZETA, a + W, a + X, a + OUT))
        return NULL;
    Products all = {a + Z, rows, n};
    Py_ssize_t count = a[INDICES].len / 4;
    int good = group > 0 && find_products(&all) && all.count % group == 0 &&
               a[OUT].len == all.count / group * count * 8 &&
               fits(a + INDPTR, a + INDICES, n, rows);
    if (!good)
        PyErr_SetString(PyExc_ValueError, "the vectors and the pattern do not have sizes that fit");
    else {
        PyThreadState *thread = (double)all.count * count > LASTING / 8 ? PyEval_SaveThread() : NULL;
        const int32_t *start = a[INDPTR].buf, *row = a[INDICES].buf;
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
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(equilibrate_doc, "equilibrate(rounds, near, indptr, indices, magnitudes, scale): scale "
                              "(n,) makes the largest entries of the rows of a symmetric matrix, "
                              "whose upper triangle it scales in place, near 1");

static PyObject *equilibrate(PyObject *module, PyObject *args)
{
    int rounds;
    double near;
    enum { INDPTR, INDICES, MAGNITUDES, SCALE, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "idy*y*w*w*", &rounds, &near, a + INDPTR, a + INDICES,
                          a + MAGNITUDES, a + SCALE))
        return NULL;
    Py_ssize_t n = a[SCALE].len / 8, count = a[INDICES].len / 4;
    double *data = a[MAGNITUDES].buf, *d = a[SCALE].buf, *largest = malloc((n + 1) * sizeof(double));
    int good = fits(a + INDPTR, a + INDICES, n, n) && a[MAGNITUDES].len == count * 8;
    if (!largest)
        PyErr_NoMemory();
    else if (!good)
        PyErr_SetString(PyExc_ValueError, "the matrix and its scale do not have sizes that fit");
    else {
        PyThreadState *thread = count > LASTING / 32 ? PyEval_SaveThread() : NULL;
        const int32_t *start = a[INDPTR].buf, *row = a[INDICES].buf;
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
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static int64_t whole(const Py_buffer *array, int wide, Py_ssize_t at)
{
    return wide ? ((int64_t *)array->buf)[at] : ((int32_t *)array->buf)[at];
}

/* Whether rows and columns are those of the pattern, in the order; -1 where the sizes do not fit. */
static int equal(const Py_buffer *indptr, const Py_buffer *indices, const Py_buffer *order,
                 const Py_buffer *rows, const Py_buffer *columns)
{
    const int32_t *start = indptr->buf, *row = indices->buf, *place = order->buf;
    Py_ssize_t count = indices->len / 4, n = indptr->len / 4 - 1;
    int wide = rows->len == count * 8;
    if (rows->len != columns->len)
        return 0;
    if (n < 0 || start[n] != count || (place && order->len != indices->len) ||
        !(wide || rows->len == count * 4))
        return -1;
    for (Py_ssize_t j = 0, e = 0; j < n; j++)
        for (; e < start[j + 1]; e++) {
            Py_ssize_t at = place ? place[e] : e;
            if (at < 0 || at >= count)
                return -1;
            if (whole(rows, wide, at) != row[e] || whole(columns, wide, at) != j)
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
    if (!PyArg_ParseTuple(args, "y*y*z*y*y*", a + INDPTR, a + INDICES, a + ORDER, a + ROWS,
                          a + COLUMNS))
        return NULL;
    int found = equal(a + INDPTR, a + INDICES, a + ORDER, a + ROWS, a + COLUMNS);
    if (found < 0)
        PyErr_SetString(PyExc_ValueError, "the entries and the pattern do not have sizes that fit");
    let_go(a, ARRAYS);
    return found < 0 ? NULL : PyBool_FromLong(found);
}

PyMethodDef pattern_methods[] = {
    {"same", same, METH_VARARGS, same_doc},
    {"entries", entries, METH_VARARGS, entries_doc},
    {"equilibrate", equilibrate, METH_VARARGS, equilibrate_doc},
    {NULL},
};
