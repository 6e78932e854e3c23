/* Memory to keep.

   The system takes large blocks back and hands them out anew page by page, which for a batch takes
   as long as its factorizations. So some are kept: the GIL guards them. */

#include "kernel.h"

enum { BLOCKS = 64, STEPS = 4 };               /* kept at most; sizes between two powers of two */
static const size_t LARGE = (size_t)64 << 10; /* bytes from which on a block is kept ... */
static const size_t KEPT = (size_t)128 << 20; /* ... and those of all at most */

static struct {
    size_t size;
    void *memory;
} kept[BLOCKS];

/* Rounds up, so that sizes that depend on the active set meet again. */
static size_t rounded(size_t size)
{
    size_t step = LARGE / STEPS;
    while (step * 2 * STEPS < size)
        step *= 2;
    return (size + step - 1) / step * step;
}

static void forget(void)
{
    for (int j = 0; j < BLOCKS; j++) {
        free(kept[j].memory);
        kept[j].memory = NULL;
    }
}

void *take(size_t size)
{
    if (size < LARGE)
        return malloc(size ? size : 1);
    if (size > PTRDIFF_MAX)
        return NULL;
    size = rounded(size);
    for (int j = 0; j < BLOCKS; j++)
        if (kept[j].memory && kept[j].size == size) {
            void *found = kept[j].memory;
            kept[j].memory = NULL;
            return found;
        }
    void *found = malloc(size);
    if (!found) {
        forget();
        found = malloc(size);
    }
    return found;
}

/* Keeps a block for the next that asks for its size, in place of others where there is no room. */
void give(void *memory, size_t size)
{
    if (size < LARGE || rounded(size) > KEPT || !memory) {
        free(memory);
        return;
    }
    size_t all = size = rounded(size);
    int place = -1;
    for (int j = 0; j < BLOCKS; j++)
        if (kept[j].memory)
            all += kept[j].size;
        else
            place = j;
    if (place < 0 || all > KEPT) {
        forget();
        place = 0;
    }
    kept[place].memory = memory;
    kept[place].size = size;
}

/* A block as an object that arrays can look into. */
typedef struct {
    PyObject_HEAD
    size_t size;
    void *memory;
} Memory;

static PyTypeObject *memory_type;

static int memory_buffer(PyObject *self, Py_buffer *view, int flags)
{
    Memory *m = (Memory *)self;
    return PyBuffer_FillInfo(view, self, m->memory, (Py_ssize_t)m->size, 0, flags);
}

static void memory_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    give(((Memory *)self)->memory, ((Memory *)self)->size);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_buffer},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    "ffoadapt._kernel._compiled.Memory", sizeof(Memory), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, memory_slots,
};

const char memory_doc[] = "memory(bytes) -> a buffer, with anything in it";

PyObject *memory_new(PyObject *module, PyObject *args)
{
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n", &size))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "memory has no negative size");
        return NULL;
    }
    Memory *found = PyObject_New(Memory, memory_type);
    if (!found)
        return NULL;
    found->size = (size_t)size;
    found->memory = take((size_t)size);
    if (!found->memory) {
        Py_DECREF(found);
        return PyErr_NoMemory();
    }
    return (PyObject *)found;
}

/* Makes the type; false, with an exception, if that fails. */
int memory_ready(void)
{
    memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
    return memory_type != NULL;
}
