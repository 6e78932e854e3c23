/* Makes a batch of its arrays, which it looks into: `prepare`. */

#include "batch.h"

static void release_arrays(Py_buffer **arrays, int count)
{
    for (int j = 0; j < count; j++)
        if (arrays[j]->obj)
            PyBuffer_Release(arrays[j]);
}

static void release(Batch *b)
{
    Py_buffer *all[] = {&b->P, &b->A, &b->active, &b->U, &b->weight};
    release_arrays(all, 5);
    for (int j = 0; b->of_blocks && j < b->blocks; j++) {
        Arrays *a = b->of_blocks + j;
        Py_buffer *those[] = {&a->G, &a->has, &a->R, &a->sigma};
        release_arrays(those, 4);
        free(a->own_has);
        free(a->own_sigma);
    }
    for (Py_ssize_t i = 0; b->systems && i < b->size; i++)
        free(b->systems[i].dependent);
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
int unchanged(const Batch *b)
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
static int reuse_nearby(Batch *b, PyObject *near, char *reused)
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
        if (!b->ghosts || !from->fine || from->dependent || from->n != s->n || from->k != s->k)
            continue;
        s->U = from->U, s->Y = from->Y, s->S = from->S, s->D = from->D;
        s->penalized = from->penalized, s->steepness = from->steepness;
        reused[i] = 1;
        s->reused = s->fine = 1;
    }
    return 1;
}

/* The memory of the systems, element by element; false if there is none. */
static int lay_out(Batch *b)
{
    Py_ssize_t n = b->n, entries = n * n, count = 1, most = 0;
    for (Py_ssize_t i = 0; i < b->size; i++) {
        Py_ssize_t k = b->systems[i].k, own = 0, ghost = 0;
        if (!b->systems[i].reused)
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
        if (!s->reused) {
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
        good = good && b->systems && (near == Py_None || reuse_nearby(b, near, a[BORROWED].buf)) &&
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

PyMethodDef batch_methods[] = {
    {"prepare", prepare, METH_VARARGS, prepare_doc},
    {"factorize", factorize_batch, METH_VARARGS, factorize_doc},
    {"solve", solve_batch, METH_VARARGS, solve_doc},
    {"bounds_suffice", bounds_suffice_batch, METH_VARARGS, bounds_suffice_doc},
    {NULL},
};
