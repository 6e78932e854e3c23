/* The systems of a batch, one after the other: what `BatchedFactor` calls. */

#include "kernel.h"

/* What `prepare` makes; the arrays that it looks into stay alive with it. */
typedef struct {
    Py_ssize_t size;
    int n, m;
    Py_buffer P, A, active, U, weight;
    Py_buffer *of_blocks; /* four for each of the blocks: G, has, R, sigma */
    int blocks;
    size_t bytes;
    double *memory;
    System *systems;
    Ghost *ghosts; /* NULL where there are unit rows alone */
    Block *block;
    PyObject *near; /* keeps alive whose factors are borrowed */
} Batch;

static const char *BATCH = "ffoadapt.batch";

static void release(Batch *b)
{
    Py_buffer *all[] = {&b->P, &b->A, &b->active, &b->U, &b->weight};
    for (int j = 0; j < 5; j++)
        if (all[j]->obj)
            PyBuffer_Release(all[j]);
    for (int j = 0; b->of_blocks && j < 4 * b->blocks; j++)
        if (b->of_blocks[j].obj)
            PyBuffer_Release(b->of_blocks + j);
    Py_XDECREF(b->near);
    give(b->memory, b->bytes);
    free(b->of_blocks);
    free(b->systems);
    free(b->ghosts);
    free(b->block);
    free(b);
}

static void destroy(PyObject *capsule) { release(PyCapsule_GetPointer(capsule, BATCH)); }

/* The ghosts of the elements, but for H and C, from (weight, blocks); false with an exception. */
static int read_ghosts(Batch *b, PyObject *curved)
{
    PyObject *weight, *blocks;
    if (!PyArg_ParseTuple(curved, "OO", &weight, &blocks) ||
        PyObject_GetBuffer(weight, &b->weight, PyBUF_SIMPLE))
        return 0;
    Py_ssize_t size = b->size, count = PyTuple_Size(blocks);
    if (count < 0)
        return 0;
    if (b->weight.len != size * b->m * 8)
        return misfit();
    b->ghosts = calloc(size + 1, sizeof(Ghost));
    b->block = calloc(size * count + 1, sizeof(Block));
    b->of_blocks = calloc(4 * count + 1, sizeof(Py_buffer));
    if (!b->ghosts || !b->block || !b->of_blocks) {
        PyErr_NoMemory();
        return 0;
    }
    b->blocks = (int)count;
    for (Py_ssize_t i = 0; i < size; i++) {
        Ghost *g = b->ghosts + i;
        *g = (Ghost){b->n, b->m, b->blocks, numbers(&b->P, (Py_ssize_t)b->n * b->n, i),
                     numbers(&b->A, (Py_ssize_t)b->m * b->n, i),
                     (double *)b->weight.buf + i * b->m, (char *)b->active.buf + i * b->m,
                     b->block + i * count};
    }
    for (Py_ssize_t j = 0; j < count; j++) {
        Py_buffer *G = b->of_blocks + 4 * j, *has = G + 1, *R = G + 2, *sigma = G + 3;
        int start, cones, dim;
        if (!PyArg_ParseTuple(PyTuple_GetItem(blocks, j), "iiiy*y*y*y*", &start, &cones, &dim, G,
                              has, R, sigma))
            return 0;
        Py_ssize_t all = size * cones;
        if (start < 0 || cones < 1 || dim < 1 || (b->m - start) / dim < cones || !all ||
            has->len % all || sigma->len % (8 * all) || G->len != has->len * dim * 8 ||
            R->len != sigma->len * dim)
            return size ? misfit() : 1;
        Py_ssize_t g = has->len / all, r = sigma->len / 8 / all;
        for (Py_ssize_t i = 0; i < size; i++) {
            Py_ssize_t at = i * cones;
            b->ghosts[i].block[j] = (Block){start, cones, dim, (int)g, (int)r,
                                            (double *)G->buf + at * g * dim,
                                            (double *)R->buf + at * r * dim,
                                            (double *)sigma->buf + at * r,
                                            (char *)has->buf + at * g};
        }
    }
    return 1;
}

/* Lends each system the factors of one nearby, of (batch, which) or None in a tuple, where these are
   of its size; false with an exception. */
static int borrow(Batch *b, PyObject *near, char *borrowed)
{
    if (PyTuple_Size(near) != b->size)
        return PyErr_Occurred() ? 0 : misfit();
    b->near = Py_NewRef(near);
    for (Py_ssize_t i = 0; i < b->size; i++) {
        PyObject *one = PyTuple_GetItem(near, i), *capsule;
        Py_ssize_t j;
        borrowed[i] = 0;
        if (one == Py_None)
            continue;
        if (!PyArg_ParseTuple(one, "On", &capsule, &j))
            return 0;
        const Batch *other = PyCapsule_GetPointer(capsule, BATCH);
        if (!other)
            return 0;
        if (j < 0 || j >= other->size)
            return misfit();
        System *s = b->systems + i;
        const System *from = other->systems + j;
        if (!b->ghosts || !from->fine || from->n != s->n || from->k != s->k)
            continue;
        s->U = from->U, s->Y = from->Y, s->S = from->S, s->D = from->D;
        s->penalized = from->penalized, s->steepness = from->steepness;
        borrowed[i] = 1;
        s->borrowed = s->fine = 1;
    }
    return 1;
}

/* The memory of the systems, element by element; false if there is none. */
static int lay_out(Batch *b)
{
    Py_ssize_t n = b->n, entries = n * n, count = 0, most = 0;
    for (Py_ssize_t i = 0; i < b->size; i++) {
        Py_ssize_t k = b->systems[i].k;
        if (!b->systems[i].borrowed)
            count += k * (n + k + 1) + (b->U.obj ? 0 : entries);
        count += b->ghosts ? entries + k * n : 0;
        most = k > most ? k : most;
    }
    b->bytes = (count + 1) * sizeof(double) + (b->ghosts ? most : 0);
    double *next = b->memory = take(b->bytes);
    if (!next)
        return 0;
    char *ones = (char *)(next + count + 1);
    if (b->ghosts)
        memset(ones, 1, most);
    for (Py_ssize_t i = 0; i < b->size; i++) {
        System *s = b->systems + i;
        if (!s->borrowed) {
            s->known = b->U.obj != NULL;
            s->U = s->known ? numbers(&b->U, entries, i) : next;
            next += s->known ? 0 : entries;
            s->Y = next;
            s->S = s->Y + s->k * n;
            s->D = s->S + (Py_ssize_t)s->k * s->k;
            next = s->D + s->k;
        }
        if (b->ghosts) {
            s->P = b->ghosts[i].H = next;
            s->A = b->ghosts[i].C = next + entries;
            s->active = ones;
            next += entries + s->k * n;
        }
    }
    return 1;
}

PyDoc_STRVAR(prepare_doc,
             "prepare(n, m, size, P, A, active, U or None, (weight, blocks) or None, near or None, "
             "counts, borrowed) -> batch: how many rows are active, and whether the factors are those "
             "of a system nearby, is written to the last two (size,); blocks are (start, count, dim, "
             "G, has, R, sigma)");

static PyObject *prepare(PyObject *module, PyObject *args)
{
    Batch *b = calloc(1, sizeof(Batch));
    Py_buffer counts, borrowed;
    PyObject *curved, *near;
    if (!b)
        return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "iiny*y*y*z*OOw*w*", &b->n, &b->m, &b->size, &b->P, &b->A,
                          &b->active, &b->U, &curved, &near, &counts, &borrowed)) {
        free(b);
        return NULL;
    }
    Py_ssize_t n = b->n, m = b->m, size = b->size;
    int good = n >= 0 && m >= 0 && size >= 0 && holds(&b->P, n * n, size) &&
               holds(&b->A, m * n, size) && b->active.len == size * m &&
               (!b->U.obj || holds(&b->U, n * n, size)) && counts.len == size * 8 &&
               borrowed.len == size;
    good = good ? curved == Py_None || read_ghosts(b, curved) : misfit();
    if (good) {
        b->systems = calloc(size + 1, sizeof(System));
        for (Py_ssize_t i = 0; b->systems && i < size; i++) {
            System *s = b->systems + i;
            *s = (System){(int)n, (int)m, 0, numbers(&b->P, n * n, i), numbers(&b->A, m * n, i),
                          (char *)b->active.buf + i * m};
            if (b->ghosts)
                s->m = s->k = ghost_rows(b->ghosts + i);
            else
                for (int j = 0; j < m; j++)
                    s->k += s->active[j] != 0;
            ((int64_t *)counts.buf)[i] = s->k;
        }
        good = b->systems && (near == Py_None || borrow(b, near, borrowed.buf)) && lay_out(b);
        if (!good && !PyErr_Occurred())
            PyErr_NoMemory();
    }
    PyBuffer_Release(&counts);
    PyBuffer_Release(&borrowed);
    PyObject *capsule = good ? PyCapsule_New(b, BATCH, destroy) : NULL;
    if (!capsule)
        release(b);
    return capsule;
}

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
    return (double)count * b->n * b->n * ((double)b->n + b->m) > LASTING;
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
            good = (!b->ghosts || bend(b->ghosts + i)) && factorize(b->systems + i, share);
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

/* Solves for the K columns v_x and v_z of an element, which lie `step_x` and `step_z` apart, as do
   the solutions w and zeta. False if there is no memory. */
static int solve_element(const System *s, const Ghost *g, int K, double limit, const double *v_x,
                         const double *v_z, double *w, double *zeta, ptrdiff_t step_x,
                         ptrdiff_t step_z, double *size)
{
    ptrdiff_t n = s->n, k = s->k, m = g ? g->m : s->m;
    size_t own = K * (n + k) + m;
    double *memory = malloc((own + room(s, K, limit < DBL_MAX) + 1) * sizeof(double));
    if (!memory)
        return 0;
    Pair at = {memory, memory + K * n};
    double *spare = at.y + K * k, *y = at.y;
    for (int c = 0; c < K; c++, v_x += step_x, v_z += step_z) {
        if (g) {
            ask(g, v_x, v_z, at.x + c * n, at.y + c * k, spare);
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
            answer(g, w, at.y + c * k, v_z, zeta, spare);
        else
            scatter(s, 1, at.y + c * k, NULL, zeta);
    }
    free(memory);
    return 1;
}

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
        Py_ssize_t step_x = b->size * b->n, step_z = b->size * b->m;
        Py_ssize_t K = step_x ? v_x.len / 8 / step_x : step_z ? v_z.len / 8 / step_z : 0;
        if (v_x.len != K * step_x * 8 || v_z.len != K * step_z * 8 || w.len != v_x.len ||
            zeta.len != v_z.len || residual.len != b->size * 8) {
            PyErr_SetString(PyExc_ValueError, "the vectors do not have the sizes of the batch");
            good = 0;
        }
        PyThreadState *thread = good && lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = begin; good && i < end; i++) {
            const System *s = b->systems + i;
            ptrdiff_t x = i * b->n, z = i * b->m;
            if (s->fine)
                good = solve_element(s, b->ghosts ? b->ghosts + i : NULL, (int)K, limit,
                                     (double *)v_x.buf + x, (double *)v_z.buf + z,
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

PyDoc_STRVAR(settled_doc, "settled(batch, begin, end, signs_x, signs_z, squares, figures, margins, "
                          "rounding, sure, brief, small) -> whether all elements are; margins (size,) "
                          "are those of the curved cones");

static PyObject *settled_batch(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    Py_ssize_t begin, end;
    enum { SIGNS_X, SIGNS_Z, SQUARES, MEASURED, MARGINS, ARRAYS };
    Py_buffer a[ARRAYS];
    Limits limits;
    if (!PyArg_ParseTuple(args, "Onny*y*y*y*y*dddd", &capsule, &begin, &end, a + SIGNS_X,
                          a + SIGNS_Z, a + SQUARES, a + MEASURED, a + MARGINS, &limits.rounding,
                          &limits.sure, &limits.brief, &limits.small))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int all = 1;
    if (b && end > begin) {
        Py_ssize_t n = b->n, m = b->m, most = 0;
        int good = a[SIGNS_X].len == n * 8 && a[SIGNS_Z].len == m * 8 &&
                   holds(a + SQUARES, m, b->size) && a[MEASURED].len == b->size * FIGURES * 8 &&
                   a[MARGINS].len == b->size * 8;
        for (Py_ssize_t i = begin; i < end; i++)
            most = b->systems[i].m > most ? b->systems[i].m : most;
        double *work = work_for(good, n + 2 * most + 3 * m);
        if (work) {
            PyThreadState *thread = lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
            for (Py_ssize_t i = begin; all && i < end; i++) {
                const double *figures = (double *)a[MEASURED].buf + i * FIGURES;
                const System *s = b->systems + i;
                all = s->fine &&
                      settled(respond(s, b->ghosts ? b->ghosts + i : NULL, a[SIGNS_X].buf,
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

PyMethodDef batch_methods[] = {
    {"prepare", prepare, METH_VARARGS, prepare_doc},
    {"factorize", factorize_batch, METH_VARARGS, factorize_doc},
    {"solve", solve_batch, METH_VARARGS, solve_doc},
    {"settled", settled_batch, METH_VARARGS, settled_doc},
    {NULL},
};
