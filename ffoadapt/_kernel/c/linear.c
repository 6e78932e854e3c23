/* BLAS and LAPACK, from scipy. */

#include "kernel.h"

static void (*dpotrf)(char *, int *, double *, int *, int *);
static void (*dpstrf)(char *, int *, double *, int *, int *, int *, double *, double *, int *);
static void (*dtrsv)(char *, char *, char *, int *, double *, int *, double *, int *);
static void (*dtrsm)(char *, char *, char *, char *, int *, int *, double *, double *, int *,
                     double *, int *);
static void (*dsyrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *,
                     int *);
static void (*dgemv)(char *, int *, int *, double *, double *, int *, double *, int *, double *,
                     double *, int *);
static void (*dgemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *,
                     int *, double *, double *, int *);

static void (*dgeqrt)(int *, int *, int *, double *, int *, double *, int *, double *, int *);
static void (*dgemqrt)(char *, char *, int *, int *, int *, int *, double *, int *, double *, int *,
                       double *, int *, double *, int *);

static int one = 1;
static double unit = 1.0;

/* Overwrites the upper triangle of a matrix M with its factor U; false if it has none. */
int factor(int n, double *M)
{
    int info = 0;
    if (n)
        dpotrf("L", &n, M, &n, &info);
    return info == 0;
}

/* The same with pivots, of which none is below `least`: rows and columns `order` (from 1 on) of M, the
   rank being returned. work has room for 2 n. */
int factor_with_pivots(int n, double *M, int *order, double least, double *work)
{
    int rank = 0, info = 0;
    dpstrf("L", &n, M, &n, order, &rank, &least, work, &info);
    return rank;
}

enum { FEW = 24 }; /* the order up to which a call of BLAS, which takes a lock, takes longer */

/* Overwrites K columns with U'^-1 ("N") or U^-1 ("T") times them. */
void divide(const char *on, int n, const double *U, int K, double *columns)
{
    if (K == 1 && n <= FEW && *on == 'N') {
        for (ptrdiff_t i = 0; i < n; i++, U += n) {
            columns[i] /= U[i];
            for (ptrdiff_t j = i + 1; j < n; j++)
                columns[j] -= columns[i] * U[j];
        }
    } else if (K == 1 && n <= FEW) {
        U += (ptrdiff_t)n * n;
        for (ptrdiff_t i = n - 1; i >= 0; i--) {
            U -= n;
            columns[i] = (columns[i] - inner(n - i - 1, U + i + 1, columns + i + 1)) / U[i];
        }
    } else if (K == 1)
        dtrsv("L", (char *)on, "N", &n, (double *)U, &n, columns, &one);
    else if (n && K)
        dtrsm("L", "L", (char *)on, "N", &n, &K, &unit, (double *)U, &n, columns, &n);
}

/* out = scale * out + sign * M v ("T") or M' v ("N") for K columns and M (k, n). */
void multiply(const char *on, int k, int n, const double *M, int K, double sign,
                     const double *v, double scale, double *out)
{
    int rows = *on == 'N' ? n : k, inner = *on == 'N' ? k : n;
    if (!rows || !K)
        return;
    if (!inner) {
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * K; i++)
            out[i] = scale == 0.0 ? 0.0 : scale * out[i];
        return;
    }
    if (K == 1)
        dgemv((char *)on, &n, &k, &sign, (double *)M, &n, (double *)v, &one, &scale, out, &one);
    else
        dgemm((char *)on, "N", &rows, &K, &inner, &sign, (double *)M, &n, (double *)v, &inner, &scale, out,
              &rows);
}

/* The upper triangle of scale * M + sign * R'R ("N", M (n, n)) or RR' ("T", M (k, k)) for R
   (k, n). */
void square(const char *on, int k, int n, const double *R, double sign, double scale, double *M)
{
    int order = *on == 'N' ? n : k, inner = *on == 'N' ? k : n;
    if (!order)
        return;
    int lead = n ? n : 1;
    dsyrk("L", (char *)on, &order, &inner, &sign, (double *)R, &lead, &scale, M, &order);
}

/* Whether the pivots of a factor keep more than this share of the diagonal of the matrix. */
int sure(double share, int n, const double *U, const double *diagonal)
{
    for (ptrdiff_t i = 0; i < n; i++)
        if (!(U[i * n + i] * U[i * n + i] > share * diagonal[i]))
            return 0;
    return 1;
}

enum { PANEL = 32 }; /* columns that LAPACK takes at once */

/* Numbers that `orthogonalize`, or who packs its result, needs for work. */
size_t orthogonalize_workspace(int n, int m)
{
    size_t work = PANEL * ((size_t)n + m), packed = (size_t)m * n;
    return work > packed ? work : packed;
}

/* Turns the m rows (m, n) so that the first p < n have no more than p entries: these become R and
   the Householder vectors, with tau (p,), as dgeqrf packs them, and the others are multiplied by
   Q. Where there are fewer than 32 columns, dormqr would take one after the other. */
void orthogonalize(int n, int p, int m, double *rows, double *tau, double *work)
{
    int info, left = m - p, panel = p < PANEL ? p : PANEL;
    double *T = work, *rest = work + (ptrdiff_t)panel * p;
    dgeqrt(&n, &p, &panel, rows, &n, T, &panel, rest, &info);
    for (ptrdiff_t k = 0; k < p; k++)
        tau[k] = T[k * panel + k % panel];
    if (left)
        dgemqrt("L", "T", &n, &left, &p, &panel, rows, &n, T, &panel, rows + (ptrdiff_t)p * n, &n,
                rest, &info);
}

/* Finds a function that scipy exports, if its integers are what we pass. */
static int find(const char *module, const char *name, void *target)
{
    PyObject *found = PyImport_ImportModule(module), *capsule = NULL;
    PyObject *functions = found ? PyObject_GetAttrString(found, "__pyx_capi__") : NULL;
    if (functions)
        capsule = PyMapping_GetItemString(functions, name);
    const char *signature = capsule ? PyCapsule_GetName(capsule) : NULL;
    void *pointer = signature ? PyCapsule_GetPointer(capsule, signature) : NULL;
    if (pointer && !strstr(signature, " int *")) {
        PyErr_Format(PyExc_ImportError, "%s of scipy takes other integers: %s", name, signature);
        pointer = NULL;
    }
    if (!pointer && !PyErr_ExceptionMatches(PyExc_ImportError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ImportError, "%s has no %s to call", module, name);
    }
    memcpy(target, &pointer, sizeof(pointer));
    Py_XDECREF(capsule);
    Py_XDECREF(functions);
    Py_XDECREF(found);
    return pointer != NULL;
}

int find_functions(void)
{
    const char *blas = "scipy.linalg.cython_blas";
    const char *lapack = "scipy.linalg.cython_lapack";
    return find(lapack, "dpotrf", &dpotrf) && find(lapack, "dpstrf", &dpstrf) &&
            find(lapack, "dgeqrt", &dgeqrt) &&
           find(lapack, "dgemqrt", &dgemqrt) &&
           find(blas, "dtrsv", &dtrsv) && find(blas, "dtrsm", &dtrsm) &&
           find(blas, "dsyrk", &dsyrk) && find(blas, "dgemv", &dgemv) &&
           find(blas, "dgemm", &dgemm);
}
