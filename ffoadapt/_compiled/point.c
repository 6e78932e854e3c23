/* The sizes and residuals of a point, and whether they leave a doubt. */

#include "kernel.h"

static double magnitude(ptrdiff_t n, const double *values, ptrdiff_t step)
{
    double found = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        found = larger(fabs(values[i * step]), found);
    return found;
}

/* The sizes of a point, see active_set.scales. */
void scales(const Point *p, const double *squares, double *out)
{
    double reach = 0.0, size_z = 0.0;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double norm = sqrt(squares[i]);
        if (isfinite(p->b[i]))
            reach = fmax(reach, fabs(p->b[i]) / norm);
        size_z = larger(fabs(p->z[i]) * norm, size_z);
    }
    double steepness = magnitude(p->n, p->q, 1), size_x = magnitude(p->n, p->x, 1);
    double curvature = magnitude(p->n, p->P, (ptrdiff_t)p->n + 1);
    double primal = larger(size_x, reach), gradient = larger(size_z, steepness);
    double length = curvature > 0.0 ? gradient / curvature : 0.0;
    gradient = larger(gradient, curvature * primal);
    primal = larger(primal, length);
    /* Data without a length (or a gradient) of their own. */
    if (reach == 0.0 && (steepness == 0.0 || !(curvature > 0.0)))
        primal = larger(primal, 1.0);
    if (steepness == 0.0 && (reach == 0.0 || !(curvature > 0.0)))
        gradient = larger(gradient, 1.0);
    out[PRIMAL] = primal;
    out[GRADIENT] = gradient;
    out[SHARE_X] = size_x / primal;
    out[SHARE_Z] = size_z / gradient;
}

/* The residuals of the point, its least margin and the active rows; work is (n + m). `exact` says
   that s is b - Ax. See report.kkt_residuals, report.row_margins and active_set.linearize. */
void residuals(const Point *p, const double *squares, int exact, char *active, double *work,
                      double *out)
{
    double primal = out[PRIMAL], gradient = out[GRADIENT], *gap = work + p->n;
    memcpy(work, p->q, p->n * sizeof(double));
    multiply("T", p->n, p->n, p->P, 1, 1.0, p->x, 1.0, work);
    multiply("N", p->m, p->n, p->A, 1, 1.0, p->z, 1.0, work);
    double kkt = magnitude(p->n, work, 1) / gradient, margin = INFINITY, outside = 0.0;
    double unpaired = 0.0; /* how far s and z of all rows together are from complementary */
    if (!exact)
        multiply("T", p->m, p->n, p->A, 1, 1.0, p->x, 0.0, gap);
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double norm = sqrt(squares[i]), unit = norm * primal;
        int free = isinf(p->b[i]) && p->b[i] > 0.0;
        double s = p->s[i] / unit, z = free ? 0.0 : p->z[i] * norm / gradient;
        int zero = p->kinds[i] == ZERO;
        if (p->kinds[i] == CURVED) { /* which is said of whole cones, elsewhere */
            outside = i ? larger(0.0, outside) : 0.0;
            active[i] = 0;
            continue;
        }
        /* outside where positive, not complementary where negative */
        double violation = zero ? fabs(s) : -smaller(s, z);
        outside = i ? larger(violation, outside) : violation;
        kkt = larger(fabs(violation), kkt);
        unpaired += free ? fabs(p->z[i]) * norm / gradient : fabs(violation);
        if (!free && !zero)
            margin = smaller(larger(s, z), margin);
        active[i] = zero || p->z[i] * (squares[i] * (primal / gradient)) > p->s[i];
    }
    for (ptrdiff_t i = 0; !exact && i < p->m; i++)
        if (!(isinf(p->b[i]) && p->b[i] > 0.0))
            outside = larger(fabs(gap[i] + p->s[i] - p->b[i]) / (sqrt(squares[i]) * primal), outside);
    out[KKT] = larger(outside, kkt);
    out[OUTSIDE] = outside;
    out[MARGIN] = margin;
    out[UNPAIRED] = unpaired;
}

/* How much larger than a dimensionless question of signs its answer is, see certificate.examine;
   work is (n + k + m). */
double gain(const System *s, const double *signs_x, const double *signs_z,
                   const double *squares, const double *figures, double *work)
{
    double primal = figures[PRIMAL], gradient = figures[GRADIENT];
    double *x = work, *y = x + s->n, *full = y + s->k, largest_y = 0.0;
    for (ptrdiff_t i = 0; i < s->n; i++)
        x[i] = gradient * signs_x[i];
    for (ptrdiff_t i = 0, j = 0; i < s->m; i++)
        if (s->active[i])
            y[j++] = sqrt(squares[i]) * primal * signs_z[i];
    solve(s, 1, x, y, full);
    for (ptrdiff_t i = 0, j = 0; i < s->m; i++)
        if (s->active[i])
            largest_y = larger(fabs(y[j++]) * sqrt(squares[i]), largest_y);
    return larger(magnitude(s->n, x, 1) / primal, largest_y / gradient);
}

/* What certificate._Bounds.settle says of a polyhedral program with this gain. */
int settled(double gain, const double *figures, double order, const Limits *limits)
{
    double step = sqrt(order) * (1.0 + gain) * (figures[KKT] + figures[UNPAIRED]);
    double size = smaller(figures[SHARE_X], larger(limits->small, figures[SHARE_Z]));
    double error = sqrt(order) * order * limits->rounding * (1.0 + gain);
    return figures[SHARE_X] >= limits->small && figures[MARGIN] > 0.0 &&
           sqrt(order) * step <= limits->brief * figures[MARGIN] &&
           step <= limits->sure * size && limits->rounding * gain <= limits->sure * size &&
           error <= limits->sure;
}
