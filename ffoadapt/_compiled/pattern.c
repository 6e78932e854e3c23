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
    int good = rows > 0 && n > 0 && group > 0 && fits(a + INDPTR, a + INDICES, n, rows);
    Py_ssize_t count = a[INDICES].len / 4, K = good ? a[W].len / 8 / n : 0;
    Py_ssize_t of_x = good ? a[X].len / 8 / n : 0, of_z = good ? a[Z].len / 8 / rows : 0;
    good = good && (!K || (of_x > 0 && of_z > 0)) && K % group == 0 && a[W].len == K * n * 8 &&
           a[X].len == of_x * n * 8 && a[Z].len == of_z * rows * 8 &&
           a[ZETA].len == K * rows * 8 && a[OUT].len == K / group * count * 8;
    if (!good)
        PyErr_SetString(PyExc_ValueError, "the vectors and the pattern do not have sizes that fit");
    else {
        PyThreadState *thread = (double)K * count > LASTING / 8 ? PyEval_SaveThread() : NULL;
        const int32_t *start = a[INDPTR].buf, *row = a[INDICES].buf;
        for (Py_ssize_t k = 0; k < K; k++) {
            const double *w = (double *)a[W].buf + k * n, *zeta = (double *)a[ZETA].buf + k * rows;
            const double *x = (double *)a[X].buf + k % of_x * n;
            const double *z = (double *)a[Z].buf + k % of_z * rows;
            double *out = (double *)a[OUT].buf + k / group * count;
            int first = k % group == 0;
            for (Py_ssize_t j = 0; j < n; j++)
                for (int32_t e = start[j]; e < start[j + 1]; e++) {
                    double one = sign * (z[row[e]] * w[j] + zeta[row[e]] * x[j]);
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
    Py_buffer indptr, indices, magnitudes, scale;
    if (!PyArg_ParseTuple(args, "idy*y*w*w*", &rounds, &near, &indptr, &indices, &magnitudes,
                          &scale))
        return NULL;
    Py_ssize_t n = scale.len / 8;
    double *data = magnitudes.buf, *d = scale.buf, *largest = malloc((n + 1) * sizeof(double));
    int good = fits(&indptr, &indices, n, n) && magnitudes.len == indices.len * 2;
    if (!largest)
        PyErr_NoMemory();
    else if (!good)
        PyErr_SetString(PyExc_ValueError, "the matrix and its scale do not have sizes that fit");
    else {
        PyThreadState *thread = indices.len / 4 > LASTING / 32 ? PyEval_SaveThread() : NULL;
        const int32_t *start = indptr.buf, *row = indices.buf;
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
    PyBuffer_Release(&indptr);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&magnitudes);
    PyBuffer_Release(&scale);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(same_doc, "same(indptr, indices, order or None, rows, columns) -> bool: whether the "
                       "entries of a matrix, whose rows and columns are of 32 or 64 bits, are those "
                       "of the pattern, in that order");

static PyObject *same(PyObject *module, PyObject *args)
{
    Py_buffer indptr, indices, order, rows, columns;
    if (!PyArg_ParseTuple(args, "y*y*z*y*y*", &indptr, &indices, &order, &rows, &columns))
        return NULL;
    Py_ssize_t entries = indices.len / 4, n = indptr.len / 4 - 1, e = 0, j = 0;
    const int32_t *start = indptr.buf, *row = indices.buf, *place = order.buf;
    int wide = rows.len == entries * 8, found = rows.len == columns.len;
    int good = n >= 0 && start[n] == entries && (!place || order.len == indices.len) &&
               (!found || wide || rows.len == entries * 4);
    for (; good && found && j < n; j++)
        for (; good && found && e < start[j + 1]; e++) {
            Py_ssize_t at = place ? place[e] : e;
            good = at >= 0 && at < entries;
            if (!good)
                break;
            found = wide ? ((int64_t *)rows.buf)[at] == row[e] && ((int64_t *)columns.buf)[at] == j
                         : ((int32_t *)rows.buf)[at] == row[e] && ((int32_t *)columns.buf)[at] == j;
        }
    if (!good)
        PyErr_SetString(PyExc_ValueError, "the entries and the pattern do not have sizes that fit");
    Py_buffer *all[] = {&indptr, &indices, &order, &rows, &columns};
    for (int k = 0; k < 5; k++)
        PyBuffer_Release(all[k]);
    return good ? PyBool_FromLong(found) : NULL;
}

PyMethodDef pattern_methods[] = {
    {"same", same, METH_VARARGS, same_doc},
    {"entries", entries, METH_VARARGS, entries_doc},
    {"equilibrate", equilibrate, METH_VARARGS, equilibrate_doc},
    {NULL},
};
