/* The systems of a batch, one after the other: what `BatchedFactor` calls. */

#include "kernel.h"

/* The arrays of equal cones, and copies of those that decide how many rows there are. */
typedef struct {
    Py_buffer G, has, R, sigma;
    char *own_has;
    double *own_sigma;
} Arrays;

/* What `prepare` makes; the arrays that it looks into stay alive with it. */
typedef struct {
    Py_ssize_t size;
    int n, m;
    Py_buffer P, A, active, U, weight;
    char *own_active;
    double *own_weight;
    Arrays *of_blocks; /* one for each of the blocks */
    int blocks;
    size_t bytes;
    double *memory;
    System *systems;
    Ghost *ghosts; /* NULL where there are unit rows alone */
    Block *block;
    PyObject *near; /* keeps alive whose factors are borrowed */
} Batch;

static const char *BATCH = "ffoadapt.batch";

static void let_go_of(Py_buffer **arrays, int count)
{
    for (int j = 0; j < count; j++)
        if (arrays[j]->obj)
            PyBuffer_Release(arrays[j]);
}

static void release(Batch *b)
{
    Py_buffer *all[] = {&b->P, &b->A, &b->active, &b->U, &b->weight};
    let_go_of(all, 5);
    for (int j = 0; b->of_blocks && j < b->blocks; j++) {
        Arrays *a = b->of_blocks + j;
        Py_buffer *those[] = {&a->G, &a->has, &a->R, &a->sigma};
        let_go_of(those, 4);
        free(a->own_has);
        free(a->own_sigma);
    }
    Py_XDECREF(b->near);
    give(b->memory, b->bytes);
    free(b->own_active);
    free(b->own_weight);
    free(b->of_blocks);
    free(b->systems);
    free(b->ghosts);
    free(b->block);
    free(b);
}

static void destroy(PyObject *capsule) { release(PyCapsule_GetPointer(capsule, BATCH)); }

/* Whether an array still is in the memory where it was: NumPy can be made to move it. */
static int stays(const Py_buffer *array)
{
    Py_buffer now;
    if (!array->obj)
        return 1;
    if (PyObject_GetBuffer(array->obj, &now, PyBUF_SIMPLE)) {
        PyErr_Clear();
        return 0;
    }
    int same = now.buf == array->buf && now.len == array->len;
    PyBuffer_Release(&now);
    return same;
}

/* Whether it also holds what was copied. */
static int keeps(const Py_buffer *array, const void *copy)
{
    return stays(array) && (!array->len || !memcmp(array->buf, copy, (size_t)array->len));
}

/* Whether the batch still is that of its arrays, of whose numbers only those are compared that say
   which rows there are; an exception where it is not. */
static int unchanged(const Batch *b)
{
    int same = stays(&b->P) && stays(&b->A) && stays(&b->U) && keeps(&b->active, b->own_active);
    if (b->ghosts)
        same = same && keeps(&b->weight, b->own_weight);
    for (int j = 0; same && j < b->blocks; j++) {
        const Arrays *a = b->of_blocks + j;
        same = stays(&a->G) && stays(&a->R) && keeps(&a->has, a->own_has) &&
               keeps(&a->sigma, a->own_sigma);
    }
    if (!same)
        PyErr_SetString(PyExc_ValueError, "the active rows or the curvature have changed since "
                                          "prepare; prepare the batch anew");
    return same;
}

/* The arrays of a block and what it is to each element; false with an exception. */
static int read_block(Batch *b, int j, PyObject *block)
{
    Arrays *a = b->of_blocks + j;
    int start, cones, dim;
    if (!PyTuple_Check(block)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple for each of the blocks");
        return 0;
    }
    if (!PyArg_ParseTuple(block, "iiiO&O&O&O&", &start, &cones, &dim, doubles, &a->G, bools,
                          &a->has, doubles, &a->R, doubles, &a->sigma))
        return 0;
    if (start < 0 || start > b->m || cones < 1 || dim < 1 || (b->m - start) / dim < cones)
        return misfit();
    Py_ssize_t all = times(b->size, cones); /* no more than there are active rows to read */
    if (!all) /* of a batch without elements */
        return length(&a->has) || length(&a->sigma) || length(&a->G) || length(&a->R) ? misfit() : 1;
    Py_ssize_t g = length(&a->has) / all, r = length(&a->sigma) / all;
    if (g > INT_MAX || r > INT_MAX || !has(&a->has, times(all, g)) ||
        !has(&a->sigma, times(all, r)) || !has(&a->G, times(length(&a->has), dim)) ||
        !has(&a->R, times(length(&a->sigma), dim)))
        return misfit();
    a->own_has = copy_of(&a->has, 0);
    a->own_sigma = copy_of(&a->sigma, 0);
    if (!a->own_has || !a->own_sigma)
        return 0;
    for (Py_ssize_t i = 0; i < b->size; i++) {
        Py_ssize_t at = i * cones;
        b->ghosts[i].block[j] = (Block){start, cones, dim, (int)g, (int)r,
                                        (double *)a->G.buf + at * g * dim,
                                        (double *)a->R.buf + at * r * dim, a->own_sigma + at * r,
                                        a->own_has + at * g};
    }
    return 1;
}

/* The ghosts of the elements, but for H and C, from (weight, blocks); false with an exception. */
static int read_ghosts(Batch *b, PyObject *curved)
{
    PyObject *blocks;
    if (!PyTuple_Check(curved)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of the weights and the blocks, or None");
        return 0;
    }
    if (!PyArg_ParseTuple(curved, "O&O!", doubles, &b->weight, &PyTuple_Type, &blocks))
        return 0;
    Py_ssize_t size = b->size, count = PyTuple_Size(blocks);
    if (count > INT_MAX || times(size + 1, count + 1) < 0 || !has(&b->weight, times(size, b->m)))
        return misfit();
    b->own_weight = copy_of(&b->weight, 0);
    b->ghosts = calloc(size + 1, sizeof(Ghost));
    b->block = calloc(size * count + 1, sizeof(Block));
    b->of_blocks = calloc(count + 1, sizeof(Arrays));
    if (!b->own_weight || !b->ghosts || !b->block || !b->of_blocks) {
        PyErr_NoMemory();
        return 0;
    }
    b->blocks = (int)count;
    for (Py_ssize_t i = 0; i < size; i++) {
        Ghost *g = b->ghosts + i;
        *g = (Ghost){b->n, b->m, b->blocks, numbers(&b->P, times(b->n, b->n), i),
                     numbers(&b->A, times(b->m, b->n), i), b->own_weight + i * b->m,
                     b->own_active + i * b->m, b->block + i * count};
    }
    for (int j = 0; j < b->blocks; j++)
        if (!read_block(b, j, PyTuple_GetItem(blocks, j)))
            return 0;
    return 1;
}

/* Lends each system the factors of one nearby, of (batch, which) or None in a tuple, where these are
   of its size; false with an exception. */
static int borrow(Batch *b, PyObject *near, char *borrowed)
{
    if (!PyTuple_Check(near)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of batches nearby, or None");
        return 0;
    }
    if (PyTuple_Size(near) != b->size)
        return misfit();
    b->near = Py_NewRef(near);
    for (Py_ssize_t i = 0; i < b->size; i++) {
        PyObject *one = PyTuple_GetItem(near, i), *capsule;
        Py_ssize_t j;
        if (one == Py_None)
            continue;
        if (!PyTuple_Check(one)) {
            PyErr_SetString(PyExc_TypeError, "expected a tuple of a batch and an element, or None");
            return 0;
        }
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
    Py_ssize_t n = b->n, entries = n * n, count = 1, most = 0;
    for (Py_ssize_t i = 0; i < b->size; i++) {
        Py_ssize_t k = b->systems[i].k, own = 0, ghost = 0;
        if (!b->systems[i].borrowed)
            own = times(k, n + k + 1) < 0 ? -1 : k * (n + k + 1) + (b->U.obj ? 0 : entries);
        if (b->ghosts)
            ghost = times(k, n) < 0 ? -1 : k * n + entries;
        /* each of these is below an eighth of what there can be */
        if (own < 0 || ghost < 0 || times(count + own + ghost, 1) < 0)
            return 0;
        count += own + ghost;
        most = k > most ? k : most;
    }
    b->bytes = (size_t)count * sizeof(double) + (b->ghosts ? (size_t)most : 0);
    double *next = b->memory = take(b->bytes);
    if (!next)
        return 0;
    char *ones = (char *)(next + count);
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
    enum { P, A, ACTIVE, U, COUNTS, BORROWED, ARRAYS };
    Py_buffer a[ARRAYS];
    PyObject *curved, *near;
    if (!b)
        return PyErr_NoMemory();
    if (!PyArg_ParseTuple(args, "iinO&O&O&O&OOO&O&", &b->n, &b->m, &b->size, doubles, &b->P, doubles,
                          &b->A, bools, &b->active, doubles_or_none, &b->U, &curved, &near,
                          int64s_to_write, a + COUNTS, bools_to_write, a + BORROWED)) {
        free(b);
        return NULL;
    }
    Py_ssize_t n = b->n, m = b->m, size = b->size, square = times(n, n), block = times(m, n);
    int good = n >= 0 && m >= 0 && size >= 0 && holds(&b->P, square, size) &&
               holds(&b->A, block, size) && has(&b->active, times(size, m)) &&
               (!b->U.obj || holds(&b->U, square, size)) && has(a + COUNTS, size) &&
               has(a + BORROWED, size);
    a[P] = b->P, a[A] = b->A, a[ACTIVE] = b->active, a[U] = b->U;
    good = good ? apart(a, COUNTS, ARRAYS) : misfit();
    if (good && size)
        memset(a[BORROWED].buf, 0, (size_t)size);
    b->own_active = good ? copy_of(&b->active, 0) : NULL;
    good = b->own_active && (curved == Py_None || read_ghosts(b, curved));
    if (good) {
        b->systems = calloc(size + 1, sizeof(System));
        for (Py_ssize_t i = 0; b->systems && i < size; i++) {
            System *s = b->systems + i;
            *s = (System){(int)n, (int)m, 0, numbers(&b->P, square, i), numbers(&b->A, block, i),
                          b->own_active + i * m};
            Py_ssize_t rows = 0;
            if (b->ghosts) {
                rows = ghost_rows(b->ghosts + i);
                if (rows > INT_MAX) {
                    good = misfit();
                    break;
                }
                s->m = (int)rows;
            } else
                for (int j = 0; j < m; j++)
                    rows += s->active[j] != 0;
            s->k = (int)rows;
            ((int64_t *)a[COUNTS].buf)[i] = s->k;
        }
        good = good && b->systems && (near == Py_None || borrow(b, near, a[BORROWED].buf)) &&
               lay_out(b);
        if (!good && !PyErr_Occurred())
            PyErr_NoMemory();
    }
    let_go(a + COUNTS, ARRAYS - COUNTS);
    PyObject *capsule = good ? PyCapsule_New(b, BATCH, destroy) : NULL;
    if (!capsule)
        release(b);
    return capsule;
}

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
    if (!PyArg_ParseTuple(args, "OnndO&", &capsule, &begin, &end, &share, bools_to_write, &fine))
        return NULL;
    Batch *b = part(capsule, begin, end);
    int good = b && has(&fine, b->size);
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
    if (times(K, 8 * (n + k + m + s->m + 1)) < 0) /* more than there is memory for */
        return 0;
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
        PyThreadState *thread = good && lasts(b, end - begin) ? PyEval_SaveThread() : NULL;
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

PyDoc_STRVAR(settled_doc, "settled(batch, begin, end, signs_x, signs_z, squares, figures, margins, "
                          "rounding, sure, brief, small) -> whether all elements are; margins (size,) "
                          "are those of the curved cones");

static PyObject *settled_batch(PyObject *module, PyObject *args)
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
    {"bounds_suffice", settled_batch, METH_VARARGS, settled_doc},
    {NULL},
};
