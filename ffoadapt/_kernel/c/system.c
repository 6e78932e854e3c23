/* One ghost KKT system.

   It is the algorithm of _oracle/dense.py, by the same LAPACK: the Cholesky factor of P, U'U = P (of
   P + C'DC where P has none), Y = C U^-1, and the factor of the Schur complement S'S = YY', with C
   the active rows of A. A system whose pivots show a lost rank is marked and left to dense.py. */

#include "kernel.h"

/* Copies C, the active rows of A, to rows (k, n). */
static void gather(const System *s, double *rows)
{
    for (ptrdiff_t i = 0; i < s->m; i++)
        if (s->active[i]) {
            memcpy(rows, s->A + i * s->n, s->n * sizeof(double));
            rows += s->n;
        }
}

/* full (m, K) with values (k, K), times the weights where there are any, in the active rows. */
void scatter(const System *s, int K, const double *values, const double *weights,
                    double *full)
{
    for (int c = 0; c < K; c++, values += s->k, full += s->m)
        for (int i = 0, j = 0; i < s->m; i++)
            if (s->active[i]) {
                full[i] = weights ? weights[j] * values[j] : values[j];
                j++;
            } else
                full[i] = 0.0;
}

/* P + C'DC in place of U, D the weights that bring C'DC to the size of P; C is in Y. */
static void penalize(System *s)
{
    ptrdiff_t n = s->n, k = s->k;
    double size = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        size = fmax(size, fabs(s->P[i * n + i]));
    if (size == 0.0)
        size = 1.0;
    for (ptrdiff_t j = 0; j < k; j++) {
        double norm = dot(n, s->Y + j * n);
        s->D[j] = size / (norm > 0.0 ? norm : 1.0);
        for (ptrdiff_t i = 0; i < n; i++)
            s->Y[j * n + i] *= sqrt(s->D[j]);
    }
    memcpy(s->U, s->P, n * n * sizeof(double));
    square("N", s->k, s->n, s->Y, 1.0, 1.0, s->U);
    gather(s, s->Y);
}

/* The factors of a system of full rank, C being in Y; s->fine says whether there are any. `diagonal`
   has room for n and for k. */
static void factorize_regular(System *s, double share, double *diagonal)
{
    ptrdiff_t n = s->n, k = s->k;
    s->fine = 1;
    s->penalized = 0;
    if (!s->known) {
        for (ptrdiff_t i = 0; i < n; i++)
            diagonal[i] = s->P[i * n + i];
        memcpy(s->U, s->P, n * n * sizeof(double));
        if (!factor(s->n, s->U) || !sure(share, s->n, s->U, diagonal)) {
            s->penalized = 1;
            penalize(s);
            for (ptrdiff_t i = 0; i < n; i++)
                diagonal[i] = s->U[i * n + i];
            s->fine = factor(s->n, s->U) && sure(share, s->n, s->U, diagonal);
        }
    }
    if (s->fine && k) {
        divide("N", s->n, s->U, s->k, s->Y);
        square("T", s->k, s->n, s->Y, 1.0, 0.0, s->S);
        for (ptrdiff_t j = 0; j < k; j++)
            diagonal[j] = s->S[j * k + j];
        s->fine = factor(s->k, s->S) && sure(share, s->k, s->S, diagonal);
    }
}

/* The factors of a system, unless it has borrowed some; P is factorized unless U is known. False if
   there is no memory. */
int factorize(System *s, double share)
{
    if (s->reused || s->dependent)
        return 1;
    double *diagonal = malloc(((size_t)s->n + s->k + 1) * sizeof(double));
    if (!diagonal)
        return 0;
    gather(s, s->Y);
    s->steepness = dot((ptrdiff_t)s->k * s->n, s->Y);
    s->fine = 0;
    if (s->k <= s->n) /* else rows depend on each other */
        factorize_regular(s, share, diagonal);
    free(diagonal);
    if (s->fine)
        return 1;
    gather(s, s->Y);
    return find_dependent(s);
}

/* Overwrites the right-hand side x (n, K), y (k, K) with the solution; full is (m, K). */
void solve(const System *s, int K, double *x, double *y, double *full)
{
    if (s->penalized) {
        scatter(s, K, y, s->D, full);
        multiply("N", s->m, s->n, s->A, K, 1.0, full, 1.0, x);
    }
    divide("N", s->n, s->U, K, x);
    multiply("T", s->k, s->n, s->Y, K, 1.0, x, -1.0, y);
    divide("N", s->k, s->S, K, y);
    divide("T", s->k, s->S, K, y);
    multiply("N", s->k, s->n, s->Y, K, -1.0, y, 1.0, x);
    divide("T", s->n, s->U, K, x);
}

/* The same, whatever the rank; work is (3 n + 3 k) where rows depend on each other. */
static void solve_any(const System *s, int K, Pair at, double *full, double *work)
{
    if (s->dependent)
        solve_dependent(s, K, at, work);
    else
        solve(s, K, at.x, at.y, full);
}

/* What is left of `right` at `at`, and its sizes (K,) as in dense.relative_sizes. */
static void residual(const System *s, int K, Pair right, Pair at, Pair left, double *full,
                     double *sizes, double *blocks)
{
    ptrdiff_t n = s->n, k = s->k;
    scatter(s, K, at.y, NULL, full);
    multiply("N", s->m, s->n, s->A, K, 1.0, full, 0.0, left.x);
    for (int c = 0; c < K; c++)
        blocks[c] = dot(n, left.x + c * n); /* of C'y, for now */
    for (ptrdiff_t i = 0; i < n * K; i++)
        left.x[i] = right.x[i] - left.x[i];
    multiply("T", s->n, s->n, s->P, K, -1.0, at.x, 1.0, left.x);
    multiply("T", s->m, s->n, s->A, K, 1.0, at.x, 0.0, full);
    double *y = left.y;
    for (int c = 0; c < K; c++)
        for (int i = 0; i < s->m; i++)
            if (s->active[i])
                *y++ = full[c * (ptrdiff_t)s->m + i];
    for (ptrdiff_t i = 0; i < k * K; i++)
        left.y[i] = right.y[i] - left.y[i];
    for (int c = 0; c < K; c++) {
        double r = dot(n, left.x + c * n), g = dot(k, left.y + c * k);
        double top = dot(n, right.x + c * n), bottom = dot(k, right.y + c * k);
        double upper = ratio(r, top + blocks[c]);
        double lower = ratio(g, bottom + s->steepness * dot(n, at.x + c * n));
        double block = larger(upper, lower);
        sizes[c] = sqrt(smaller(ratio(r + g, top + bottom), block));
        blocks[c] = sqrt(block);
    }
}

static double largest(int K, const double *values)
{
    double found = 0.0;
    for (int c = 0; c < K; c++)
        found = larger(values[c], found);
    return found;
}

enum { ROUNDS = 8 }; /* refinement steps at most, as in dense.py */

/* Refines the solution `at`, as DenseFactor does; `left` and `again` are pairs to work in. */
static double refined(const System *s, int K, double limit, Pair right, Pair at, Pair left,
                      Pair again, double *full, double *sizes)
{
    ptrdiff_t n = s->n, k = s->k;
    double *blocks = sizes + K, *others = sizes + 2 * K, *spare = sizes + 3 * K;
    residual(s, K, right, at, left, full, sizes, blocks);
    for (int round = 0; round < ROUNDS && largest(K, blocks) > limit; round++) {
        int last = largest(K, sizes) <= limit, better = 0; /* one beyond, for the smaller block */
        solve(s, K, left.x, left.y, full);
        for (ptrdiff_t i = 0; i < n * K; i++)
            left.x[i] += at.x[i];
        for (ptrdiff_t i = 0; i < k * K; i++)
            left.y[i] += at.y[i];
        residual(s, K, right, left, again, full, others, spare);
        for (int c = 0; c < K; c++)
            if (others[c] < fmax(sizes[c], limit)) {
                better = 1;
                sizes[c] = others[c];
                memcpy(at.x + c * n, left.x + c * n, n * sizeof(double));
                memcpy(at.y + c * k, left.y + c * k, k * sizeof(double));
            }
        if (last || !better)
            break;
        residual(s, K, right, at, left, full, sizes, blocks);
    }
    return largest(K, sizes);
}

/* The numbers that `solution` needs to work in. */
size_t workspace_size(const System *s, int K, int refine)
{
    size_t own = 3 * ((size_t)s->n + s->k); /* also where rows are not known to depend on others */
    return own + (size_t)K * ((refine ? 3 : 0) * ((size_t)s->n + s->k) + s->m + 4);
}

/* Overwrites the right-hand side with the solution, without a limit with one that is not refined,
   and returns its relative residual. */
double solution(const System *s, int K, double limit, Pair at, double *work)
{
    ptrdiff_t n = s->n, m = s->m, k = s->k;
    double *full = work, *sizes = full + K * m, *next = sizes + 4 * K;
    if (!(limit < DBL_MAX)) {
        solve_any(s, K, at, full, next);
        return 0.0;
    }
    Pair pairs[3];
    for (int p = 0; p < 3; p++, next += K * (n + k)) {
        pairs[p].x = next;
        pairs[p].y = next + K * n;
    }
    memcpy(pairs[0].x, at.x, K * n * sizeof(double));
    memcpy(pairs[0].y, at.y, K * k * sizeof(double));
    solve_any(s, K, at, full, next);
    if (s->dependent) { /* of least squares, which no step makes better */
        residual(s, K, pairs[0], at, pairs[1], full, sizes, sizes + K);
        return largest(K, sizes);
    }
    return refined(s, K, limit, pairs[0], at, pairs[1], pairs[2], full, sizes);
}
