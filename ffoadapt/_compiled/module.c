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

/* Whether a number is 0 or within a factor of 1. */
static inline int near_one(double value, double factor)
{
    return value == 0.0 || (value >= 1.0 / factor && value <= factor);
}

PyDoc_STRVAR(near_doc, "near(n, m, size, factor, P, q, A, b, squares, near): near (size,) says whether "
                       "the norms of rows, the largest entries of columns, the right-hand side and "
                       "the objective of an element are all within a factor of 1");

static PyObject *near(PyObject *module, PyObject *args)
{
    int n, m;
    Py_ssize_t size;
    double factor;
    enum { P, Q, A, B, SQUARES, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iindy*y*y*y*y*w*", &n, &m, &size, &factor, a + P, a + Q, a + A,
                          a + B, a + SQUARES, a + OUT))
        return NULL;
    Py_ssize_t square = (Py_ssize_t)n * n, block = (Py_ssize_t)m * n;
    int good = n >= 0 && m >= 0 && size >= 0 && factor >= 1.0 && holds(a + P, square, size) &&
               holds(a + Q, n, size) && holds(a + A, block, size) && holds(a + B, m, size) &&
               holds(a + SQUARES, m, size) && a[OUT].len == size;
    double *columns = work_for(good, (size_t)n);
    for (Py_ssize_t k = 0; columns && k < size; k++) {
        const double *matrix = numbers(a + A, block, k), *p = numbers(a + P, square, k);
        const double *b = numbers(a + B, m, k), *q = numbers(a + Q, n, k);
        const double *squares = numbers(a + SQUARES, m, k);
        double reach = 0.0, steep = 0.0, bent = 0.0, least = INFINITY, most = 0.0;
        /* What elements share is looked at once. */
        int again = k > 0 && a[A].len == block * 8 && a[P].len == square * 8;
        for (Py_ssize_t j = 0; !again && j < n; j++)
            columns[j] = 0.0;
        for (Py_ssize_t i = 0; i < m; i++) {
            const double *row = matrix + i * n;
            for (Py_ssize_t j = 0; !again && j < n; j++) {
                double value = fabs(row[j]);
                columns[j] = value > columns[j] ? value : columns[j];
            }
            if (squares[i] != 1.0) { /* as of empty rows */
                least = squares[i] < least ? squares[i] : least;
                most = squares[i] > most ? squares[i] : most;
            }
            double far = isfinite(b[i]) ? fabs(b[i]) / sqrt(squares[i]) : 0.0;
            reach = far > reach ? far : reach;
        }
        for (Py_ssize_t j = 0; j < n; j++) {
            steep = larger(larger(fabs(q[j]), p[j * n + j]), steep);
            bent = larger(p[j * n + j], bent);
            if (columns[j] == 0.0)
                columns[j] = p[j * n + j];
        }
        /* Curvature may be small beside q, but not so small that its square is 0. */
        int fine = near_one(reach, factor) && near_one(steep, factor) && near_one(bent, 1e100) &&
                   (most == 0.0 || (near_one(sqrt(least), factor) && near_one(sqrt(most), factor)));
        for (Py_ssize_t j = 0; fine && j < n; j++)
            fine = near_one(columns[j], factor);
        ((char *)a[OUT].buf)[k] = (char)fine;
    }
    free(columns);
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(measure_doc, "measure(n, m, begin, end, P, q, A, b, squares, x, s, z, kinds, "
                          "exact, active, figures): the last two (B, m), (B, 12) are written");

static PyObject *measure(PyObject *module, PyObject *args)
{
    int n, m, exact;
    Py_ssize_t begin, end;
    enum { P, Q, A, B, SQUARES, X, S, Z, KINDS, ACTIVE, OUT, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "iinny*y*y*y*y*y*y*y*y*pw*w*", &n, &m, &begin, &end, a + P,
                          a + Q, a + A, a + B, a + SQUARES, a + X, a + S, a + Z, a + KINDS,
                          &exact, a + ACTIVE, a + OUT))
        return NULL;
    Py_ssize_t size = a[OUT].len / 8 / FIGURES, rows = m, square = (Py_ssize_t)n * n;
    Py_ssize_t block = (Py_ssize_t)m * n;
    int good = n >= 0 && m >= 0 && begin >= 0 && begin <= end && end <= size &&
               holds(a + P, square, size) && holds(a + Q, n, size) && holds(a + A, block, size) &&
               holds(a + B, rows, size) && a[X].len == size * n * 8 && a[S].len == size * m * 8 &&
               a[Z].len == a[S].len && a[KINDS].len == m && a[ACTIVE].len == size * m &&
               holds(a + SQUARES, rows, size);
    double *work = work_for(good, (size_t)n + m);
    int curved = work && memchr(a[KINDS].buf, CURVED, m) != NULL;
    if (work) {
        double count = (double)(end - begin) * n * ((double)n + m);
        PyThreadState *thread = count > LASTING / 32 ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; i < end; i++) {
            Point p = {n, m, numbers(a + P, square, i), numbers(a + Q, n, i),
                       numbers(a + A, block, i), numbers(a + B, rows, i),
                       (double *)a[X].buf + i * n, (double *)a[S].buf + i * m,
                       (double *)a[Z].buf + i * m, a[KINDS].buf, curved};
            const double *squares = numbers(a + SQUARES, rows, i);
            double *out = (double *)a[OUT].buf + i * FIGURES;
            scales(&p, squares, out);
            residuals(&p, squares, exact, (char *)a[ACTIVE].buf + i * m, work, out);
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
    if (!PyArg_ParseTuple(args, "nnnndy*y*y*y*w*", &rows, &n, &begin, &end, &sign, a + Z, a + ZETA,
                          a + W, a + X, a + OUT))
        return NULL;
    Products all = {a, rows, n};
    if (!find_products(&all) || begin < 0 || begin > end || end > all.count ||
        a[OUT].len != all.count * rows * n * 8)
        PyErr_SetString(PyExc_ValueError, "the vectors and their products do not have sizes that fit");
    else {
        double count = 8.0 * (end - begin) * rows * n;
        PyThreadState *thread = count > LASTING ? PyEval_SaveThread() : NULL;
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

static PyObject *each(PyObject *module, PyObject *args)
{
    enum { MOST = 4 };
    unsigned long long address;
    Py_ssize_t count, steps[MOST] = {0};
    char *at[MOST] = {NULL};
    PyObject *first, *further;
    if (!PyArg_ParseTuple(args, "KnO!O!", &address, &count, &PyTuple_Type, &first, &PyTuple_Type,
                          &further))
        return NULL;
    Py_ssize_t pointers = PyTuple_Size(first);
    if (!address || pointers < 1 || pointers > MOST || PyTuple_Size(further) != pointers) {
        PyErr_SetString(PyExc_ValueError, "each takes a function and one to four pointers");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < pointers; k++) {
        at[k] = PyLong_AsVoidPtr(PyTuple_GetItem(first, k));
        steps[k] = PyLong_AsSsize_t(PyTuple_GetItem(further, k));
    }
    if (PyErr_Occurred())
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    for (Py_ssize_t i = 0; i < count; i++) {
        void *a = at[0], *b = at[1], *c = at[2], *d = at[3];
        switch (pointers) {
        case 1: ((void (*)(void *))(uintptr_t)address)(a); break;
        case 2: ((void (*)(void *, void *))(uintptr_t)address)(a, b); break;
        case 3: ((void (*)(void *, void *, void *))(uintptr_t)address)(a, b, c); break;
        default: ((void (*)(void *, void *, void *, void *))(uintptr_t)address)(a, b, c, d);
        }
        for (Py_ssize_t k = 0; k < pointers; k++)
            at[k] += steps[k];
    }
    PyEval_RestoreThread(thread);
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"memory", memory_new, METH_VARARGS, memory_doc},
    {"cholesky", cholesky, METH_VARARGS, cholesky_doc},
    {"squares", squares, METH_VARARGS, squares_doc},
    {"near", near, METH_VARARGS, near_doc},
    {"measure", measure, METH_VARARGS, measure_doc},
    {"products", products, METH_VARARGS, products_doc},
    {"each", each, METH_VARARGS, each_doc},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "See kernel.h.", -1, methods,
};

PyMODINIT_FUNC PyInit__kernel(void)
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
