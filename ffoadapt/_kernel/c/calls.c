/* What is done with the systems of a batch, one after the other. */

#include "batch.h"

/* The batch, if it has these elements and is what it was; NULL with an exception. */
static Batch *part(PyObject *capsule, Py_ssize_t begin, Py_ssize_t end)
{
    Batch *b = PyCapsule_GetPointer(capsule, BATCH);
    if (b && (begin < 0 || begin > end || end > b->size)) {
        PyErr_SetString(PyExc_IndexError, "no such elements");
        return NULL;
    }
    return b && unchanged(b) ? b : NULL;
}

static int worth_threads(const Batch *b, Py_ssize_t count)
{
    return (double)count * b->n * b->n * ((double)b->n + b->m) > WORTH_THREADS;
}

const char factorize_doc[] =
    "factorize(batch, begin, end, share, fine, lost): fine and lost, the number of rows "
    "that depend on others, are written";

PyObject *factorize_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    double share;
    enum { FINE, LOST, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "OnndO&O&", &capsule, &begin, &end, &share, bools_to_write, a + FINE,
                          int64s_to_write, a + LOST))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int good = b && has(a + FINE, b->size) && has(a + LOST, b->size);
    if (b && !good)
        PyErr_SetString(PyExc_ValueError, "fine and lost are not of the size of the batch");
    good = good && apart(a, 0, ARRAYS);
    if (good) {
        PyThreadState *thread = worth_threads(b, end - begin) ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; good && i < end; i++) {
            good = (!b->ghosts || assemble_curved(b->ghosts + i)) && factorize(b->systems + i, share);
            ((char *)a[FINE].buf)[i] = (char)b->systems[i].fine;
            ((int64_t *)a[LOST].buf)[i] = lost_rows(b->systems + i);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        if (!good)
            PyErr_NoMemory();
    }
    let_go(a, ARRAYS);
    return good ? Py_NewRef(Py_None) : NULL;
}

const char solve_doc[] =
    "solve(batch, begin, end, limit, v_x, v_z, w, zeta, residual): the last "
                        "three (K, size, n), (K, size, m), (size,) are written";

/* Solves for the K columns v_x and v_z of an element, which lie `step_x` and `step_z` apart, as do
   the solutions w and zeta. False if there is no memory. */
static int solve_element(const System *s, const Ghost *g, int K, double limit, const double *v_x,
                         const double *v_z, double *w, double *zeta, ptrdiff_t step_x,
                         ptrdiff_t step_z, double *size)
{
    ptrdiff_t n = s->n, k = s->k, m = g ? g->m : s->m;
    if (times(K, 8 * (n + k + m + s->m + 1)) < 0) /* more than there is memory for */
        return 0;
    size_t own = K * (n + k) + m;
    double *memory = malloc((own + workspace_size(s, K, limit < DBL_MAX) + 1) * sizeof(double));
    if (!memory)
        return 0;
    Pair at = {memory, memory + K * n};
    double *spare = at.y + K * k, *y = at.y;
    for (int c = 0; c < K; c++, v_x += step_x, v_z += step_z) {
        if (g) {
            build_rhs(g, v_x, v_z, at.x + c * n, at.y + c * k, spare);
            continue;
        }
        memcpy(at.x + c * n, v_x, n * sizeof(double));
        for (ptrdiff_t i = 0; i < m; i++)
            if (s->active[i])
                *y++ = v_z[i];
    }
    *size = solution(s, K, limit, at, spare + m);
    v_z -= K * step_z;
    for (int c = 0; c < K; c++, w += step_x, zeta += step_z, v_z += step_z) {
        memcpy(w, at.x + c * n, n * sizeof(double));
        if (g)
            recover_multipliers(g, w, at.y + c * k, v_z, zeta, spare);
        else
            scatter(s, 1, at.y + c * k, NULL, zeta);
    }
    free(memory);
    return 1;
}

PyObject *solve_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    double limit;
    enum { V_X, V_Z, W, ZETA, RESIDUAL, ARRAYS };
    Py_buffer a[ARRAYS];
    if (!PyArg_ParseTuple(args, "OnndO&O&O&O&O&", &capsule, &begin, &end, &limit, doubles, a + V_X,
                          doubles, a + V_Z, doubles_to_write, a + W, doubles_to_write, a + ZETA,
                          doubles_to_write, a + RESIDUAL))
        return NULL;
    Batch *b = part(capsule, begin, end);
    if (b && end > begin) {
        Py_ssize_t step_x = times(b->size, b->n), step_z = times(b->size, b->m);
        Py_ssize_t K = step_x > 0   ? length(a + V_X) / step_x
                       : step_z > 0 ? length(a + V_Z) / step_z
                                    : 0;
        int good = K <= INT_MAX && has(a + V_X, times(K, step_x)) &&
                   has(a + V_Z, times(K, step_z)) && has(a + W, times(K, step_x)) &&
                   has(a + ZETA, times(K, step_z)) && has(a + RESIDUAL, b->size);
        if (!good)
            PyErr_SetString(PyExc_ValueError, "the vectors do not have the sizes of the batch");
        good = good && apart(a, W, ARRAYS);
        PyThreadState *thread = good && worth_threads(b, end - begin) ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; good && i < end; i++) {
            const System *s = b->systems + i;
            ptrdiff_t x = i * b->n, z = i * b->m;
            if (s->fine)
                good = solve_element(s, b->ghosts ? b->ghosts + i : NULL, (int)K, limit,
                                     (double *)a[V_X].buf + x, (double *)a[V_Z].buf + z,
                                     (double *)a[W].buf + x, (double *)a[ZETA].buf + z, step_x,
                                     step_z, (double *)a[RESIDUAL].buf + i);
        }
        if (thread)
            PyEval_RestoreThread(thread);
        if (!good && !PyErr_Occurred())
            PyErr_NoMemory();
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

const char bounds_suffice_doc[] =
    "settled(batch, begin, end, signs_x, signs_z, squares, figures, margins, "
                          "rounding, sure, brief, small) -> whether all elements are; margins (size,) "
                          "are those of the curved cones";

PyObject *bounds_suffice_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    enum { SIGNS_X, SIGNS_Z, SQUARES, MEASURED, MARGINS, ARRAYS };
    Py_buffer a[ARRAYS];
    Sureness limits;
    if (!PyArg_ParseTuple(args, "OnnO&O&O&O&O&dddd", &capsule, &begin, &end, doubles, a + SIGNS_X,
                          doubles, a + SIGNS_Z, doubles, a + SQUARES, doubles, a + MEASURED,
                          doubles, a + MARGINS, &limits.rounding, &limits.sure, &limits.brief,
                          &limits.small))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int all = 1;
    if (b && end > begin) {
        Py_ssize_t n = b->n, m = b->m, most = 0;
        int good = has(a + SIGNS_X, n) && has(a + SIGNS_Z, m) && holds(a + SQUARES, m, b->size) &&
                   has(a + MEASURED, times(b->size, FIGURES)) && has(a + MARGINS, b->size);
        for (Py_ssize_t i = begin; i < end; i++)
            most = b->systems[i].m > most ? b->systems[i].m : most;
        double *work = work_for(good, n + 2 * most + 3 * m);
        if (work) {
            PyThreadState *thread = worth_threads(b, end - begin) ? PyEval_SaveThread() : NULL;
            for (Py_ssize_t i = begin; all && i < end; i++) {
                const double *figures = (double *)a[MEASURED].buf + i * FIGURES;
                const System *s = b->systems + i;
                all = s->fine && !s->dependent &&
                      bounds_suffice(respond(s, b->ghosts ? b->ghosts + i : NULL, a[SIGNS_X].buf,
                                      a[SIGNS_Z].buf, numbers(a + SQUARES, m, i), figures, work),
                              figures, ((double *)a[MARGINS].buf)[i], (double)(n + m), &limits);
            }
            if (thread)
                PyEval_RestoreThread(thread);
            free(work);
        }
    }
    let_go(a, ARRAYS);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(all);
}
