/* The arrays that Python passes, and whether they are what they should be. */

#include "kernel.h"

/* Takes an array in C order whose numbers have one of these formats of `struct` and this size, 0
   where both 4 and 8 will do; given NULL, lets it go again. */
static int read_array(PyObject *array, Py_buffer *view, const char *formats, Py_ssize_t size,
                      int writable, const char *expected)
{
    if (!array) {
        PyBuffer_Release(view);
        return 1;
    }
    if (PyObject_GetBuffer(array, view, PyBUF_ND | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)))
        return 0;
    const char *format = view->format ? view->format : "B";
    Py_ssize_t own = view->itemsize;
    if (*format == '@')
        format++;
    if ((own == size || (!size && (own == 4 || own == 8))) && *format && !format[1] &&
        strchr(formats, *format) && (!view->len || (uintptr_t)view->buf % (size_t)own == 0))
        return Py_CLEANUP_SUPPORTED;
    PyErr_Format(PyExc_TypeError, "expected an array of %s, got one of format '%s'", expected,
                 view->format ? view->format : "B");
    PyBuffer_Release(view);
    return 0;
}

static int or_none(int (*read)(PyObject *, void *), PyObject *array, Py_buffer *view)
{
    if (array != Py_None)
        return read(array, view);
    *view = (Py_buffer){.itemsize = 1};
    return Py_CLEANUP_SUPPORTED;
}

int doubles(PyObject *array, void *view)
{
    return read_array(array, view, "d", 8, 0, "float64");
}

int doubles_to_write(PyObject *array, void *view)
{
    return read_array(array, view, "d", 8, 1, "float64");
}

int doubles_or_none(PyObject *array, void *view) { return or_none(doubles, array, view); }

int int32s(PyObject *array, void *view) { return read_array(array, view, "il", 4, 0, "int32"); }

int int32s_to_write(PyObject *array, void *view)
{
    return read_array(array, view, "il", 4, 1, "int32");
}

int int32s_or_none(PyObject *array, void *view) { return or_none(int32s, array, view); }

int int64s_to_write(PyObject *array, void *view)
{
    return read_array(array, view, "lq", 8, 1, "int64");
}

int integers(PyObject *array, void *view)
{
    return read_array(array, view, "ilq", 0, 0, "int32 or int64");
}

int int8s(PyObject *array, void *view) { return read_array(array, view, "b", 1, 0, "int8"); }

int bools(PyObject *array, void *view) { return read_array(array, view, "?", 1, 0, "bool"); }

int bools_to_write(PyObject *array, void *view)
{
    return read_array(array, view, "?", 1, 1, "bool");
}

/* Whether none of the arrays from `read` on, which are written, overlaps another; an exception
   where one does. */
int apart(const Py_buffer *arrays, int read, int all)
{
    for (int j = read; j < all; j++)
        for (int i = 0; i < all; i++) {
            const char *a = arrays[i].buf, *b = arrays[j].buf;
            if (i != j && arrays[i].len && arrays[j].len && a < b + arrays[j].len &&
                b < a + arrays[i].len) {
                PyErr_SetString(PyExc_ValueError, "an array that is written overlaps another one");
                return 0;
            }
        }
    return 1;
}

int misfit(void)
{
    PyErr_SetString(PyExc_ValueError, "the arrays do not have the sizes of the batch");
    return 0;
}

/* Memory for so many numbers, to be freed; NULL with an exception, also where sizes do not fit. */
double *work_for(int fits, size_t count)
{
    double *work = fits && count < PTRDIFF_MAX / 8 ? malloc((count + 1) * sizeof(double)) : NULL;
    if (!fits) {
        if (!PyErr_Occurred())
            misfit();
    } else if (!work)
        PyErr_NoMemory();
    return work;
}

/* A copy of an array, to be freed, with room for `more` bytes after it; NULL with an exception. */
void *copy_of(const Py_buffer *array, size_t more)
{
    char *copy = malloc((size_t)array->len + more + 1);
    if (copy && array->len)
        memcpy(copy, array->buf, (size_t)array->len);
    else if (!copy)
        PyErr_NoMemory();
    return copy;
}

/* Finds the numbers of products and vectors; whether the sizes fit. */
int find_products(Products *p)
{
    const Py_buffer *z = p->arrays, *zeta = z + 1, *w = z + 2, *x = z + 3;
    Py_ssize_t rows = p->rows, n = p->n;
    if (rows <= 0 || n <= 0)
        return 0;
    p->count = length(w) / n;
    p->of_z = length(z) / rows;
    p->of_x = length(x) / n;
    return (!p->count || (p->of_z > 0 && p->of_x > 0)) && has(w, times(p->count, n)) &&
           has(zeta, times(p->count, rows)) && has(z, times(p->of_z, rows)) &&
           has(x, times(p->of_x, n));
}
