/* The ghost rows of curved cones: the system of a program is that of P + A'WA and C = GA.

   G and W of an element are its unit rows and diagonal curvature and those of the blocks, see
   _oracle/active_set.py. Every product is one of this element alone, with the rows that it has. */

#include "kernel.h"

/* The number of rows of C. */
Py_ssize_t ghost_rows(const Ghost *g)
{
    Py_ssize_t rows = 0;
    for (int i = 0; i < g->m; i++)
        rows += g->active[i] != 0;
    for (const Block *b = g->block; b < g->block + g->blocks; b++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)b->count * b->g; j++)
            rows += b->has[j] != 0;
    return rows;
}

enum { SPARSE = 8 }; /* BLAS is faster from this share of nonzeros on: one in so many */

/* out (count, n) = rows (count, dim) A, where A (dim, n) may have few nonzeros. */
static void combine(int count, int dim, int n, const double *rows, const double *A, double *out)
{
    ptrdiff_t entries = (ptrdiff_t)dim * n, nonzeros = 0;
    if (!count)
        return;
    for (ptrdiff_t j = 0; j < entries; j++)
        nonzeros += A[j] != 0.0;
    if (nonzeros * SPARSE > entries) {
        multiply("N", dim, n, A, count, 1.0, rows, 0.0, out);
        return;
    }
    memset(out, 0, (ptrdiff_t)count * n * sizeof(double));
    for (ptrdiff_t d = 0; d < dim; d++, A += n)
        for (ptrdiff_t c = 0; c < n; c++)
            if (A[c] != 0.0)
                for (ptrdiff_t i = 0; i < count; i++)
                    out[i * n + c] += rows[i * dim + d] * A[c];
}

/* Writes RA, of the rows R of the blocks whose sigma has this sign, or GA where it is 0, from `next`
   on; false if there is no memory. */
static int combine_blocks(const Ghost *g, double sign, double *next)
{
    ptrdiff_t most = 1;
    for (const Block *b = g->block; b < g->block + g->blocks; b++) {
        ptrdiff_t size = (ptrdiff_t)(sign ? b->r : b->g) * b->dim;
        most = size > most ? size : most;
    }
    double *there = malloc(most * sizeof(double));
    if (!there)
        return 0;
    for (const Block *b = g->block; b < g->block + g->blocks; b++) {
        ptrdiff_t rows = sign ? b->r : b->g, dim = b->dim;
        const double *row = sign ? b->R : b->G;
        for (ptrdiff_t j = 0, at = 0; j < b->count; j++) {
            int count = 0;
            for (ptrdiff_t i = 0; i < rows; i++, at++, row += dim)
                if (sign ? b->sigma[at] * sign > 0.0 : b->has[at] != 0)
                    memcpy(there + dim * count++, row, dim * sizeof(double));
            combine(count, b->dim, g->n, there, g->A + (b->start + j * dim) * g->n, next);
            next += count * (ptrdiff_t)g->n;
        }
    }
    free(there);
    return 1;
}

/* Adds sign * A'W A of the curvature with this sign to H; false if there is no memory. */
static int curvature(Ghost *g, double sign)
{
    ptrdiff_t n = g->n, rows = 0;
    for (int i = 0; sign > 0.0 && i < g->m; i++)
        rows += g->weight[i] != 0.0;
    for (const Block *b = g->block; b < g->block + g->blocks; b++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)b->count * b->r; j++)
            rows += b->sigma[j] * sign > 0.0;
    if (!rows)
        return 1;
    double *all = malloc((rows * n + 1) * sizeof(double)), *next = all;
    if (!all)
        return 0;
    for (ptrdiff_t i = 0; sign > 0.0 && i < g->m; i++)
        if (g->weight[i] != 0.0) {
            double root = sqrt(g->weight[i]);
            for (ptrdiff_t c = 0; c < n; c++)
                next[c] = root * g->A[i * n + c];
            next += n;
        }
    int good = combine_blocks(g, sign, next);
    if (good)
        square("N", (int)rows, g->n, all, sign, 1.0, g->H);
    free(all);
    return good;
}

/* Writes H and C; false if there is no memory. */
int assemble_curved(Ghost *g)
{
    ptrdiff_t n = g->n;
    memcpy(g->H, g->P, n * n * sizeof(double));
    if (!curvature(g, 1.0) || !curvature(g, -1.0))
        return 0;
    enum { TILE = 16 };
    for (ptrdiff_t row = 0; row < n; row += TILE) /* what lies below the diagonal was not written */
        for (ptrdiff_t column = 0; column <= row; column += TILE)
            for (ptrdiff_t i = row; i < n && i < row + TILE; i++)
                for (ptrdiff_t j = column; j < i && j < column + TILE; j++)
                    g->H[i * n + j] = g->H[j * n + i];
    double *next = g->C;
    for (ptrdiff_t i = 0; i < g->m; i++)
        if (g->active[i]) {
            memcpy(next, g->A + i * n, n * sizeof(double));
            next += n;
        }
    return combine_blocks(g, 0.0, next);
}

/* out = W v (m,) */
static void weigh(const Ghost *g, const double *v, double *out)
{
    for (ptrdiff_t i = 0; i < g->m; i++)
        out[i] = g->weight[i] * v[i];
    for (const Block *b = g->block; b < g->block + g->blocks; b++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)b->count * b->r; j++)
            if (b->sigma[j] != 0.0) {
                ptrdiff_t at = b->start + j / b->r * b->dim;
                const double *R = b->R + j * b->dim;
                add(b->dim, b->sigma[j] * inner(b->dim, R, v + at), R, out + at);
            }
}

/* The right-hand side x (n,), y (k,) of cotangents v_x (n,), which x may be, and v_z (m,); work is
   (m,). */
void build_rhs(const Ghost *g, const double *v_x, const double *v_z, double *x, double *y, double *work)
{
    if (x != v_x)
        memcpy(x, v_x, g->n * sizeof(double));
    weigh(g, v_z, work);
    multiply("N", g->m, g->n, g->A, 1, 1.0, work, 1.0, x);
    for (ptrdiff_t i = 0; i < g->m; i++)
        if (g->active[i])
            *y++ = v_z[i];
    for (const Block *b = g->block; b < g->block + g->blocks; b++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)b->count * b->g; j++)
            if (b->has[j])
                *y++ = inner(b->dim, b->G + j * b->dim, v_z + b->start + j / b->g * b->dim);
}

/* zeta (m,) = G'y + W (A w - v_z); work (m,) is then A w - v_z. */
void recover_multipliers(const Ghost *g, const double *w, const double *y, const double *v_z, double *zeta,
            double *work)
{
    memcpy(work, v_z, g->m * sizeof(double));
    multiply("T", g->m, g->n, g->A, 1, 1.0, w, -1.0, work);
    weigh(g, work, zeta);
    for (ptrdiff_t i = 0; i < g->m; i++)
        if (g->active[i])
            zeta[i] += *y++;
    for (const Block *b = g->block; b < g->block + g->blocks; b++)
        for (ptrdiff_t j = 0; j < (ptrdiff_t)b->count * b->g; j++)
            if (b->has[j])
                add(b->dim, *y++, b->G + j * b->dim, zeta + b->start + j / b->g * b->dim);
}
