/* A ghost KKT system whose active rows depend on each other.

   It is the algorithm of _oracle/dependent.py: rows with one entry fix a variable each and are taken
   out with it, pivots of the Schur complement of the others say which of these are independent, and N
   has the combinations of rows that are nothing. Where the gap is not clear, or N not right by the
   rows themselves, the system is left to dense.py. */

#include "kernel.h"

/* See _oracle/dependent.py. */
static const double LOST = 1e-14, KEPT = 1e-7, EXACT = 1e-11, SPREAD = 1e6;

enum { ORDER = 200 }; /* the number of variables up to which Python takes longer than LAPACK */

/* The arrays of a system with k rows and n variables: s rows with one entry, their variables `fixed`
   and entries; r other rows and f other variables; U'U = H of these (+ C'DC where there is a penalty
   D), rows = CU^-1 of the others, of which Y has the `rank` independent ones, `kept`; R'R = YY', and d
   rows N whose NN' has the factor G. */
struct Dependent {
    ptrdiff_t s, r, f, rank, d;
    int penalized;
    double *U, *rows, *Y, *R, *N, *G, *value, *D;
    int *single, *fixed, *others, *left, *kept, *order;
};

/* The row with one entry in each column, or -1: row_of (n,). How many there are is returned. */
static ptrdiff_t find_singles(ptrdiff_t k, ptrdiff_t n, const double *C, int *row_of)
{
    ptrdiff_t found = 0;
    for (ptrdiff_t c = 0; c < n; c++)
        row_of[c] = -1;
    for (ptrdiff_t i = 0; i < k; i++) {
        ptrdiff_t count = 0, at = 0;
        for (ptrdiff_t c = 0; c < n && count < 2; c++)
            if (C[i * n + c] != 0.0)
                count++, at = c;
        if (count == 1)
            found += row_of[at] < 0, row_of[at] = (int)i;
    }
    return found;
}

/* Sorts rows and variables by the rows with one entry. */
static void sort_rows(Dependent *e, ptrdiff_t k, ptrdiff_t n, const double *C, const int *row_of)
{
    ptrdiff_t s = 0, f = 0, r = 0;
    for (ptrdiff_t i = 0; i < k; i++)
        e->order[i] = 0;
    for (ptrdiff_t c = 0; c < n; c++)
        if (row_of[c] >= 0) {
            e->single[s] = row_of[c];
            e->value[s] = C[row_of[c] * n + c];
            e->order[row_of[c]] = 1;
            e->fixed[s++] = (int)c;
        } else
            e->left[f++] = (int)c;
    for (ptrdiff_t i = 0; i < k; i++)
        if (!e->order[i])
            e->others[r++] = (int)i;
    for (ptrdiff_t o = 0; o < r; o++)
        for (ptrdiff_t i = 0; i < f; i++)
            e->rows[o * f + i] = C[(ptrdiff_t)e->others[o] * n + e->left[i]];
}

/* Writes H of the variables left, plus C'DC of the rows C (r, f) where there is a penalty, and makes it
   its factor; false where a pivot is not clear. `diagonal` has room for f. */
static int factor_left(Dependent *e, const System *s, double *diagonal)
{
    ptrdiff_t f = e->f, n = s->n;
    double size = 0.0;
    for (ptrdiff_t i = 0; i < f; i++)
        for (ptrdiff_t j = i; j < f; j++)
            e->U[i * f + j] = s->P[e->left[i] * n + e->left[j]];
    for (ptrdiff_t i = 0; i < f; i++)
        size = fmax(size, fabs(e->U[i * f + i]));
    for (ptrdiff_t o = 0; e->penalized && o < e->r; o++) {
        double norm = dot(f, e->rows + o * f);
        e->D[o] = (size > 0.0 ? size : 1.0) / (norm > 0.0 ? norm : 1.0);
        for (ptrdiff_t i = 0; i < f; i++)
            add(f - i, e->D[o] * e->rows[o * f + i], e->rows + o * f + i, e->U + i * f + i);
    }
    for (ptrdiff_t i = 0; i < f; i++)
        diagonal[i] = e->U[i * f + i];
    return factor((int)f, e->U) && sure(KEPT, (int)f, e->U, diagonal);
}

/* Finds independent rows among the others, which are divided by U, and what they make of those that
   are not: R, kept, rank, and N in the columns of the others. M (r, r) and scale (r,) are to work
   in. False where it is not clear, or none depends on others. */
static int find_independent(Dependent *e, ptrdiff_t k, double *M, double *scale, double *work)
{
    ptrdiff_t r = e->r, f = e->f;
    int rank = 0, zero = 1;
    if (f)
        square("T", (int)r, (int)f, e->rows, 1.0, 0.0, M);
    else
        memset(M, 0, r * r * sizeof(double));
    for (ptrdiff_t i = 0; i < r; i++) {
        zero = zero && M[i * r + i] == 0.0;
        scale[i] = M[i * r + i] > 0.0 ? 1.0 / sqrt(M[i * r + i]) : 1.0;
    }
    for (ptrdiff_t i = 0; i < r; i++)
        for (ptrdiff_t j = i; j < r; j++) {
            M[i * r + j] *= scale[i] * scale[j];
            if (!isfinite(M[i * r + j]))
                return 0;
        }
    if (!zero)
        rank = factor_with_pivots((int)r, M, e->order, LOST * r, work);
    for (int i = 0; zero && i < r; i++)
        e->order[i] = i + 1;
    if (rank == r || (rank && !(M[(rank - 1) * r + rank - 1] * M[(rank - 1) * r + rank - 1] >= KEPT)))
        return 0;
    e->rank = rank, e->d = r - rank;
    for (ptrdiff_t i = 0; i < rank; i++) {
        e->kept[i] = e->order[i] - 1;
        memcpy(e->R + i * rank, M + i * r, rank * sizeof(double));
    }
    memset(e->N, 0, e->d * k * sizeof(double));
    for (ptrdiff_t j = 0; j < e->d; j++) {
        double *row = e->N + j * k;
        int lost = e->order[rank + j] - 1;
        for (ptrdiff_t i = 0; i < rank; i++)
            work[i] = M[i * r + rank + j];
        divide("T", rank, e->R, 1, work);
        for (ptrdiff_t i = 0; i < rank; i++)
            row[e->others[e->kept[i]]] = -work[i] * scale[e->kept[i]];
        row[e->others[lost]] = scale[lost];
    }
    for (ptrdiff_t i = 0; i < rank; i++)
        for (ptrdiff_t j = i; j < rank; j++)
            e->R[i * rank + j] /= scale[e->kept[j]]; /* back in the units of the rows */
    return 1;
}

/* Completes N in the columns of the rows with one entry; false where its rows do not combine those of
   C (k, n) to nothing. `sum` has room for n, `size` for n and the r others. */
static int complete_null(Dependent *e, ptrdiff_t k, ptrdiff_t n, const double *C, double *sum,
                         double *size)
{
    double least = INFINITY, most = 0.0, *columns = size, *rows = size + n;
    memset(columns, 0, n * sizeof(double));
    for (ptrdiff_t o = 0; o < e->r; o++) {
        const double *row = C + (ptrdiff_t)e->others[o] * n;
        rows[o] = 0.0;
        for (ptrdiff_t c = 0; c < n; c++)
            rows[o] = fmax(rows[o], fabs(row[c]));
        rows[o] = rows[o] > 0.0 ? rows[o] : 1.0;
        least = fmin(least, rows[o]), most = fmax(most, rows[o]);
        for (ptrdiff_t c = 0; c < n; c++)
            columns[c] = fmax(columns[c], fabs(row[c]) / rows[o]);
    }
    for (ptrdiff_t i = 0; i < e->s; i++)
        least = fmin(least, fabs(e->value[i])), most = fmax(most, fabs(e->value[i]));
    if (!(most <= SPREAD * least))
        return 0;
    for (ptrdiff_t j = 0; j < e->d; j++) {
        double *row = e->N + j * k, terms = 0.0;
        memset(sum, 0, n * sizeof(double));
        for (ptrdiff_t o = 0; o < e->r; o++) {
            double weight = row[e->others[o]];
            if (weight != 0.0)
                add(n, weight, C + (ptrdiff_t)e->others[o] * n, sum);
            terms = fmax(terms, fabs(weight) * rows[o]);
        }
        for (ptrdiff_t i = 0; i < e->s; i++) {
            row[e->single[i]] = -sum[e->fixed[i]] / e->value[i];
            terms = fmax(terms, fabs(sum[e->fixed[i]]));
        }
        for (ptrdiff_t i = 0; i < e->f; i++)
            if (!(fabs(sum[e->left[i]]) <= EXACT * columns[e->left[i]] * terms))
                return 0;
    }
    return 1;
}

/* Memory for what depends on the sizes alone, all in one piece. */
static Dependent *new_dependent(ptrdiff_t k, ptrdiff_t n, ptrdiff_t s)
{
    ptrdiff_t r = k - s, f = n - s;
    size_t numbers = f * f + 2 * r * f + 2 * r * r + k * r + s + r, whole = 2 * s + f + 2 * r + k;
    Dependent *e = malloc(sizeof(Dependent) + numbers * sizeof(double) + whole * sizeof(int));
    if (!e)
        return NULL;
    *e = (Dependent){s, r, f};
    e->U = (double *)(e + 1);
    e->rows = e->U + f * f;
    e->Y = e->rows + r * f;
    e->R = e->Y + r * f;
    e->G = e->R + r * r;
    e->N = e->G + r * r;
    e->value = e->N + k * r;
    e->D = e->value + s;
    e->single = (int *)(e->U + numbers);
    e->fixed = e->single + s;
    e->left = e->fixed + s;
    e->others = e->left + f;
    e->kept = e->others + r;
    e->order = e->kept + r;
    return e;
}

/* Makes s->dependent of a system with C in s->Y and the k (k,) room of s->S, where that is clear, and
   has the system fine then; false if there is no memory. */
int find_dependent(System *s)
{
    ptrdiff_t n = s->n, k = s->k;
    if (!k || n > ORDER || k > 4 * ORDER)
        return 1;
    const double *C = s->Y;
    double *work = malloc((2 * n + 4 * k + 1) * sizeof(double));
    int *row_of = malloc((n + 1) * sizeof(int));
    Dependent *e = row_of ? new_dependent(k, n, find_singles(k, n, C, row_of)) : NULL;
    if (!e || !work) {
        free(e), free(work), free(row_of);
        return 0;
    }
    sort_rows(e, k, n, C, row_of);
    ptrdiff_t f = e->f, r = e->r;
    int good = r > 0 && (factor_left(e, s, work) || (e->penalized = 1, factor_left(e, s, work)));
    if (good) {
        divide("N", (int)f, e->U, (int)r, e->rows);
        good = find_independent(e, k, s->S, work, work + r) &&
               complete_null(e, k, n, C, work, work + n);
    }
    if (good) {
        for (ptrdiff_t i = 0; i < e->rank; i++)
            memcpy(e->Y + i * f, e->rows + e->kept[i] * f, f * sizeof(double));
        square("T", (int)e->d, (int)k, e->N, 1.0, 0.0, e->G);
        good = factor((int)e->d, e->G);
    }
    free(work), free(row_of);
    if (good)
        s->dependent = e, s->fine = 1;
    else
        free(e);
    return 1;
}

/* How many rows depend on others. */
int lost_rows(const System *s) { return s->dependent ? (int)s->dependent->d : 0; }

/* v (k,) without what is in the null space; t has room for d. */
static void project(const Dependent *e, int k, double *v, double *t)
{
    for (int twice = 0; twice < 2; twice++) {
        multiply("T", (int)e->d, k, e->N, 1, 1.0, v, 0.0, t);
        divide("N", (int)e->d, e->G, 1, t);
        divide("T", (int)e->d, e->G, 1, t);
        multiply("N", (int)e->d, k, e->N, 1, -1.0, t, 1.0, v);
    }
}

/* Overwrites the right-hand side with the minimal solution; work is (3 n + 3 k). */
void solve_dependent(const System *s, int K, Pair at, double *work)
{
    const Dependent *e = s->dependent;
    const double *C = s->Y;
    ptrdiff_t n = s->n, k = s->k, f = e->f;
    double *w = work, *left = w + n, *inside = left + n, *rest = inside + n, *mu = rest + k, *t = mu + k;
    for (double *x = at.x, *y = at.y; K > 0; K--, x += n, y += k) {
        project(e, (int)k, y, t);
        memset(w, 0, n * sizeof(double));
        for (ptrdiff_t i = 0; i < e->s; i++)
            w[e->fixed[i]] = y[e->single[i]] / e->value[i];
        memcpy(left, x, n * sizeof(double));
        multiply("T", (int)n, (int)n, s->P, 1, -1.0, w, 1.0, left);
        for (ptrdiff_t o = 0; o < e->r; o++) {
            const double *row = C + (ptrdiff_t)e->others[o] * n;
            rest[o] = y[e->others[o]] - inner(n, row, w);
            if (e->penalized)
                add(n, e->D[o] * rest[o], row, left);
        }
        for (ptrdiff_t i = 0; i < f; i++)
            inside[i] = left[e->left[i]];
        divide("N", (int)f, e->U, 1, inside);
        for (ptrdiff_t i = 0; i < e->rank; i++)
            t[i] = inner(f, e->Y + i * f, inside) - rest[e->kept[i]];
        divide("N", (int)e->rank, e->R, 1, t);
        divide("T", (int)e->rank, e->R, 1, t);
        memset(mu, 0, k * sizeof(double));
        for (ptrdiff_t i = 0; i < e->rank; i++) {
            add(f, -t[i], e->Y + i * f, inside);
            mu[e->others[e->kept[i]]] = t[i];
        }
        divide("T", (int)f, e->U, 1, inside);
        for (ptrdiff_t i = 0; i < f; i++)
            w[e->left[i]] = inside[i];
        multiply("T", (int)n, (int)n, s->P, 1, -1.0, w, 1.0, x);
        multiply("N", (int)k, (int)n, C, 1, -1.0, mu, 1.0, x);
        for (ptrdiff_t i = 0; i < e->s; i++)
            mu[e->single[i]] = x[e->fixed[i]] / e->value[i];
        project(e, (int)k, mu, t);
        memcpy(x, w, n * sizeof(double));
        memcpy(y, mu, k * sizeof(double));
    }
}
