/* What Python calls, but for the systems of a batch. */

#include "kernel.h"

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
    int n, good = 1;
    double asymmetry, share;
    enum { P, U, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iO&O&dd", &n, doubles, a + P, doubles_to_write, a + U, &asymmetry,
                          &share))
        return NULL;
    Py_ssize_t entries = times(n, n), count = entries > 0 ? length(a + P) / entries : 0;
    int fit = has(a + P, times(count, entries)) && has(a + U, length(a + P));
    if (!fit)
        PyErr_SetString(PyExc_ValueError, "P and U do not have the same size");
    double *diagonal = work_for(fit && apart(a, U, ARRAYS), count ? n : 0);
    if (diagonal) {
        PyThreadState *thread =
            (double)count * entries * n > WORTH_THREADS ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t k = 0; good && k < count; k++) {
            const double *p = (double *)a[P].buf + k * entries;
            double *u = (double *)a[U].buf + k * entries;
            for (ptrdiff_t i = 0; i < n; i++)
                diagonal[i] = p[i * n + i];
            good = symmetric(n, p, u, asymmetry) && factor(n, u) && sure(share, n, u, diagonal);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        free(diagonal);
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(good);
}

PyDoc_STRVAR(finite_doc,
             "finite(*arrays) -> whether the sums of the squares of float64 arrays are finite");

/* Whether that is so of one array, whatever its strides; -1 for an error. */
static int finite_squares(PyObject *array)
{
    enum { PIECE = 8192 }; /* of so many BLAS takes the product in one thread */
    Py_buffer a;
    if (!doubles(array, &a)) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) /* as NumPy says that it is not in C order */
            return -1;
        PyErr_Clear();
        PyObject *flat = PyObject_CallMethod(array, "ravel", "s", "K");
        int read = flat && doubles(flat, &a);
        Py_XDECREF(flat); /* which the buffer keeps */
        if (!read)
            return -1;
    }
    double total = 0.0;
    const double *values = a.buf;
    for (Py_ssize_t left = length(&a); left > 0; left -= PIECE, values += PIECE)
        total += dot(left < PIECE ? left : PIECE, values);
    PyBuffer_Release(&a);
    return isfinite(total) != 0;
}

static PyObject *all_finite(PyObject *module, PyObject *arrays)
{
    int good = 1;
    for (Py_ssize_t k = 0; good == 1 && k < PyTuple_Size(arrays); k++)
        good = finite_squares(PyTuple_GetItem(arrays, k));
    return good < 0 ? NULL : PyBool_FromLong(good);
}

PyDoc_STRVAR(squares_doc, "squares(m, n, A, out): out (B, m) of A (B, m, n) is written");

static PyObject *squares(PyObject *module, PyObject *args)
{
    int m, n;
    enum { A, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iiO&O&", &m, &n, doubles, a + A, doubles_to_write, a + OUT))
        return NULL;
    Py_ssize_t rows = length(a + OUT);
    if (m < 0 || rows % (m ? m : rows + 1) || !has(a + A, times(rows, n)))
        PyErr_SetString(PyExc_ValueError, "A and its squares do not have sizes that fit");
    else if (apart(a, OUT, ARRAYS))
        for (Py_ssize_t i = 0; i < rows; i++)
            ((double *)a[OUT].buf)[i] = dot(n, (double *)a[A].buf + i * n);
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(measure_doc, "measure(n, m, begin, end, P, q, A, b, squares, x, s, z, kinds, "
                          "exact, limits, active, figures): the last two (B, m), (B, 14) are written");

static PyObject *measure(PyObject *module, PyObject *args)
{
    int n, m, exact;
    Limits l;
    Py_ssize_t begin, end;
    enum { P, Q, A, B, SQUARES, X, S, Z, KINDS, ACTIVE, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iinnO&O&O&O&O&O&O&O&O&p(dddddddd)O&O&", &n, &m, &begin, &end, doubles,
                          a + P, doubles, a + Q, doubles, a + A, doubles, a + B, doubles,
                          a + SQUARES, doubles, a + X, doubles, a + S, doubles, a + Z, int8s,
                          a + KINDS, &exact, &l.unseen, &l.small, &l.rounding, &l.row, &l.data,
                          &l.near, &l.far, &l.beyond, bools_to_write, a + ACTIVE, doubles_to_write, a + OUT))
        return NULL;
    Py_ssize_t size = length(a + OUT) / FIGURES, rows = m, square = times(n, n);
    Py_ssize_t block = times(m, n);
    int good = n >= 0 && m >= 0 && begin >= 0 && begin <= end && end <= size &&
               holds(a + P, square, size) && holds(a + Q, n, size) && holds(a + A, block, size) &&
               holds(a + B, rows, size) && has(a + X, times(size, n)) &&
               has(a + S, times(size, m)) && has(a + Z, times(size, m)) && has(a + KINDS, m) &&
               has(a + ACTIVE, times(size, m)) && has(a + OUT, times(size, FIGURES)) &&
               holds(a + SQUARES, rows, size);
    double *work = work_for(good && apart(a, ACTIVE, ARRAYS), (size_t)n + n + m + m);
    double *columns = work ? work + n + m : NULL, *norms = work ? columns + n : NULL;
    int curved = work && memchr(a[KINDS].buf, CURVED, m) != NULL;
    if (work) {
        double count = (double)(end - begin) * n * ((double)n + m);
        PyThreadState *thread = count > WORTH_THREADS / 32 ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; i < end; i++) {
            const double *squares = numbers(a + SQUARES, rows, i);
            int first = i == begin; /* what elements share is looked at once */
            for (int k = 0; (first || !has(a + SQUARES, rows)) && k < m; k++)
                norms[k] = sqrt(squares[k]);
            Point p = {n, m, numbers(a + P, square, i), numbers(a + Q, n, i),
                       numbers(a + A, block, i), numbers(a + B, rows, i),
                       (double *)a[X].buf + i * n, (double *)a[S].buf + i * m,
                       (double *)a[Z].buf + i * m, a[KINDS].buf, curved,
                       squares, norms, &l};
            double *out = (double *)a[OUT].buf + i * FIGURES;
            scales(&p, out);
            residuals(&p, exact, (char *)a[ACTIVE].buf + i * m, work, out);
            if (first || !has(a + A, block))
                column_maxima(&p, columns);
            out[NEAR] = near_one(&p, columns);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        free(work);
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(products_doc, "products(rows, n, begin, end, sign, z, zeta, w, x, out): sign * (z w' + "
                           "zeta x') is written to out (K, rows, n); of z and x there may be fewer, "
                           "which come in turn");

static PyObject *products(PyObject *module, PyObject *args)
{
    Py_ssize_t rows, n, begin, end;
    double sign;
    enum { Z, ZETA, W, X, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "nnnndO&O&O&O&O&", &rows, &n, &begin, &end, &sign, doubles, a + Z,
                          doubles, a + ZETA, doubles, a + W, doubles, a + X, doubles_to_write,
                          a + OUT))
        return NULL;
    Products all = {a, rows, n};
    if (!find_products(&all) || begin < 0 || begin > end || end > all.count ||
        !has(a + OUT, times(times(all.count, rows), n)))
        PyErr_SetString(PyExc_ValueError, "the vectors and their products do not have sizes that fit");
    else if (apart(a, OUT, ARRAYS)) {
        double count = 8.0 * (end - begin) * rows * n;
        PyThreadState *thread = count > WORTH_THREADS ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t k = begin; k < end; k++) {
            Product p = product(&all, k);
            double *out = (double *)a[OUT].buf + k * rows * n;
            for (Py_ssize_t i = 0; i < rows; i++, out += n) {
                double left = sign * p.z[i], right = sign * p.zeta[i];
                for (Py_ssize_t j = 0; j < n; j++)
                    out[j] = left * p.w[j] + right * p.x[j];
            }
        }
        if (thread)
            PyEval_RestoreThread(thread);
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(each_doc, "each(function, count, addresses, steps): the C function is called with up to "
                       "four pointers, count times, each of them a step further each time");

/* Whether an address other than NULL can take so many steps, of which no memory lies beyond. */
static int reaches(uintptr_t address, Py_ssize_t step, Py_ssize_t count)
{
    uintptr_t far = step < 0 ? 0 - (uintptr_t)step : (uintptr_t)step;
    uintptr_t left = step < 0 ? address : UINTPTR_MAX - address;
    return address && (count < 2 || !far || left / far >= (uintptr_t)count - 1);
}

static PyObject *each(PyObject *module, PyObject *args)
{
    enum { POINTERS = 4 };
    Py_ssize_t count, steps[POINTERS] = {0};
    uintptr_t at[POINTERS] = {0};
    PyObject *function, *first, *further;
    if (!PyArg_ParseTuple(args, "O!nO!O!", &PyLong_Type, &function, &count, &PyTuple_Type, &first,
                          &PyTuple_Type, &further))
        return NULL;
    uintptr_t address = (uintptr_t)PyLong_AsVoidPtr(function);
    Py_ssize_t pointers = PyTuple_Size(first);
    if (PyErr_Occurred())
        return NULL;
    if (!address || count < 0 || pointers < 1 || pointers > POINTERS ||
        PyTuple_Size(further) != pointers) {
        PyErr_SetString(PyExc_ValueError, "each takes a function and one to four pointers");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < pointers; k++) {
        PyObject *pointer = PyTuple_GetItem(first, k), *step = PyTuple_GetItem(further, k);
        at[k] = PyLong_Check(pointer) ? (uintptr_t)PyLong_AsVoidPtr(pointer) : 0;
        steps[k] = PyErr_Occurred() ? 0 : PyLong_AsSsize_t(step);
        if (PyErr_Occurred())
            return NULL;
        if (count && !reaches(at[k], steps[k], count)) {
            PyErr_SetString(PyExc_ValueError, "there is no memory where each would call with it");
            return NULL;
        }
    }
    PyThreadState *thread = PyEval_SaveThread();
    for (Py_ssize_t i = 0; i < count; i++) {
        void *a = (void *)at[0], *b = (void *)at[1], *c = (void *)at[2], *d = (void *)at[3];
        switch (pointers) {
        case 1: ((void (*)(void *))address)(a); break;
        case 2: ((void (*)(void *, void *))address)(a, b); break;
        case 3: ((void (*)(void *, void *, void *))address)(a, b, c); break;
        default: ((void (*)(void *, void *, void *, void *))address)(a, b, c, d);
        }
        for (Py_ssize_t k = 0; k < pointers; k++)
            at[k] += (uintptr_t)steps[k];
    }
    PyEval_RestoreThread(thread);
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"memory", memory_new, METH_VARARGS, memory_doc},
    {"cholesky", cholesky, METH_VARARGS, cholesky_doc},
    {"all_finite", all_finite, METH_VARARGS, finite_doc},
    {"row_squares", squares, METH_VARARGS, squares_doc},
    {"measure", measure, METH_VARARGS, measure_doc},
    {"products", products, METH_VARARGS, products_doc},
    {"call_each", each, METH_VARARGS, each_doc},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_compiled", "See kernel.h.", -1, methods,
};

PyMODINIT_FUNC PyInit__compiled(void)
{
    if (!find_functions() || !memory_ready())
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module && (PyModule_AddFunctions(module, batch_methods) ||
                   PyModule_AddFunctions(module, distance_methods) ||
                   PyModule_AddFunctions(module, pattern_methods) ||
                   PyModule_AddFunctions(module, signal_methods))) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
