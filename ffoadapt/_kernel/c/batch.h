/* The systems of a batch: what `prepare` makes, and the calls that use it. */

#ifndef FFOADAPT_BATCH_H
#define FFOADAPT_BATCH_H

#include "kernel.h"

#define BATCH "ffoadapt.batch"

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

int unchanged(const Batch *b);
PyObject *factorize_batch(PyObject *module, PyObject *args);
PyObject *solve_batch(PyObject *module, PyObject *args);
PyObject *bounds_suffice_batch(PyObject *module, PyObject *args);
extern const char factorize_doc[], solve_doc[], bounds_suffice_doc[];

#endif
