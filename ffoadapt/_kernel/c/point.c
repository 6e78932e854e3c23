/* The sizes and residuals of a point, and whether they leave a doubt. */

#include "kernel.h"

static double magnitude(ptrdiff_t n, const double *values, ptrdiff_t step)
{
    double found = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        found = larger(fabs(values[i * step]), found);
    return found;
}

/* How far the constraints are from 0, and beyond which distance a bound says nothing of that: see
   DataSizes. */
static double distance(const Point *p, double *farthest)
{
    double reach = 0.0, held = 0.0, least = INFINITY, within = 0.0;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double far = isfinite(p->b[i]) ? fabs(p->b[i]) / p->norms[i] : 0.0;
        reach = far > reach ? far : reach; /* fmax() would be called */
        if (p->kinds[i] != NONNEGATIVE)
            held = far > held ? far : held;
        else if (far > 0.0)
            least = far < least ? far : least;
    }
    *farthest = p->limits->far * (held > 0.0 ? held : least);
    if (!(reach > *farthest))
        return reach;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double far = isfinite(p->b[i]) ? fabs(p->b[i]) / p->norms[i] : 0.0;
        within = fmax(within, p->kinds[i] == NONNEGATIVE ? fmin(far, *farthest) : far);
    }
    return within;
}

/* The sizes of a point, see active_set.scales. */
void scales(const Point *p, double *out)
{
    double farthest, reach = distance(p, &farthest), size_z = 0.0;
    for (ptrdiff_t i = 0; i < p->m; i++)
        size_z = larger(fabs(p->z[i]) * p->norms[i], size_z);
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
    /* The same of the data alone, whatever the point. */
    double length_of_data = curvature > 0.0 ? fmax(reach, steepness / curvature) : reach;
    double gradient_of_data = fmax(steepness, curvature * length_of_data);
    out[LENGTH] = length_of_data > 0.0 ? length_of_data : primal;
    out[STEEPNESS] = gradient_of_data > 0.0 ? gradient_of_data : gradient;
    out[PRIMAL] = primal;
    out[GRADIENT] = gradient;
    out[SHARE_X] = size_x / primal;
    out[SHARE_Z] = size_z / gradient;
}

/* The largest entries (n) of the columns of A. */
void column_maxima(const Point *p, double *columns)
{
    memset(columns, 0, p->n * sizeof(double));
    for (ptrdiff_t i = 0; i < p->m; i++) {
        const double *row = p->A + i * p->n;
        for (ptrdiff_t j = 0; j < p->n; j++) {
            double value = fabs(row[j]);
            columns[j] = value > columns[j] ? value : columns[j];
        }
    }
}

static int within(double value, double factor)
{
    return value == 0.0 || (value >= 1.0 / factor && value <= factor);
}

/* See ProgramBatch.near_one. */
int near_one(const Point *p, const double *columns)
{
    double reach = 0.0, steep = 0.0, bent = 0.0, least = INFINITY, most = 0.0;
    int fine = 1;
    double near = p->limits->near;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        if (p->squares[i] != 1.0) { /* as of empty rows */
            least = p->squares[i] < least ? p->squares[i] : least;
            most = p->squares[i] > most ? p->squares[i] : most;
        }
        double far = isfinite(p->b[i]) ? fabs(p->b[i]) / p->norms[i] : 0.0;
        reach = far > reach ? far : reach;
    }
    for (ptrdiff_t j = 0; j < p->n; j++) {
        double diagonal = p->P[j * p->n + j];
        steep = larger(fabs(p->q[j]), steep);
        bent = larger(diagonal, bent);
        fine &= within(columns[j] > 0.0 ? columns[j] : diagonal, near);
    }
    /* Curvature may be small beside q, but not so small that its square is 0. */
    return fine && within(reach, near) && within(larger(steep, bent), near) &&
           within(bent, 1e100) &&
           (most == 0.0 || (within(sqrt(least), near) && within(sqrt(most), near)));
}

/* The sizes (n) of the variables, or, where `held`, those that equalities say alone; see
   acceptance.column_sizes. */
static void column_sizes(const Point *p, int held, double *sizes)
{
    double farthest;
    distance(p, &farthest);
    for (ptrdiff_t j = 0; j < p->n; j++)
        sizes[j] = fabs(p->x[j]);
    for (ptrdiff_t i = 0; i < p->m; i++) {
        const double *row = p->A + i * p->n;
        double far = isfinite(p->b[i]) ? fabs(p->b[i]) / p->squares[i] : 0.0;
        if (held && p->kinds[i] != ZERO)
            continue;
        if (p->kinds[i] == NONNEGATIVE)
            far = fmin(far, farthest / p->norms[i]);
        for (ptrdiff_t j = 0; far > 0.0 && j < p->n; j++)
            sizes[j] = fmax(sizes[j], far * fabs(row[j]));
    }
}

/* The largest violation of a row beside the row's own size, see acceptance.beside_rows: 0 where
   none matters. `gap` is Ax, or NULL where s is b - Ax; sizes is (n). */
static double row_violation(const Point *p, double length, const double *gap, double *sizes,
                            int *known)
{
    const Limits *limits = p->limits;
    double worst = 0.0;
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double b = p->b[i], norm = p->norms[i], far = 0.0;
        if (isinf(b) && b > 0.0)
            continue;
        if (p->kinds[i] == ZERO)
            far = fabs(p->s[i]);
        else if (p->kinds[i] == NONNEGATIVE)
            far = p->s[i] < 0.0 ? -p->s[i] : 0.0;
        double off = gap ? fabs(gap[i] + p->s[i] - b) : 0.0;
        far = off > far ? off : far;
        if (!(far > limits->unseen * norm * length) || far <= limits->small * fabs(b))
            continue;
        if (!*known)
            column_sizes(p, 0, sizes);
        *known = 1;
        double own = 0.0;
        for (ptrdiff_t j = 0; j < p->n; j++)
            own += fabs(p->A[i * p->n + j]) * sizes[j];
        worst = larger(far / fmax(fmin(own, norm * length), fabs(b)), worst);
    }
    return worst;
}

/* The duality gap beside the objective, see acceptance.beside_objective; `bent` is x'Px. */
static double objective_gap(const Point *p, double bent, double *sizes, int *known)
{
    double gap = bent, apart = 0.0, size = fabs(bent), steep = 0.0, curvature = 0.0;
    for (ptrdiff_t j = 0; j < p->n; j++) {
        steep = larger(fabs(p->q[j]), steep);
        curvature = larger(p->P[j * p->n + j], curvature);
        gap += p->q[j] * p->x[j];
        size += fabs(p->q[j] * p->x[j]);
    }
    for (ptrdiff_t i = 0; i < p->m; i++)
        if (isfinite(p->b[i])) {
            gap += p->b[i] * p->z[i];
            apart += fabs(p->s[i] * p->z[i]);
        }
    gap = larger(fabs(gap), p->curved ? 0.0 : apart);
    if (gap <= p->limits->small * size || gap == 0.0)
        return 0.0;
    if (curvature > 0.0 && gap <= p->limits->rounding * steep * (steep / curvature))
        return 0.0;
    if (!*known)
        column_sizes(p, 0, sizes);
    for (ptrdiff_t j = 0; j < p->n; j++)
        size += fabs(p->q[j]) * sizes[j];
    column_sizes(p, 1, sizes);
    *known = 0;
    for (ptrdiff_t j = 0; j < p->n; j++)
        size += p->P[j * p->n + j] * sizes[j] * sizes[j];
    return ratio(gap, size);
}

/* The residuals of the point, its least margin and the active rows; work is (n + m). `exact` says
   that s is b - Ax. See report.kkt_residuals, report.row_margins and active_set.linearize. */
void residuals(const Point *p, int exact, char *active, double *work, double *out)
{
    double primal = out[PRIMAL], gradient = out[GRADIENT], *gap = work + p->n;
    memcpy(work, p->q, p->n * sizeof(double));
    multiply("T", p->n, p->n, p->P, 1, 1.0, p->x, 1.0, work);
    double bent = inner(p->n, p->x, work) - inner(p->n, p->x, p->q); /* x'Px */
    multiply("N", p->m, p->n, p->A, 1, 1.0, p->z, 1.0, work);
    double kkt = magnitude(p->n, work, 1) / gradient, margin = INFINITY, outside = 0.0;
    double unpaired = 0.0; /* how far s and z of all rows together are from complementary */
    if (!exact)
        multiply("T", p->m, p->n, p->A, 1, 1.0, p->x, 0.0, gap);
    for (ptrdiff_t i = 0; i < p->m; i++) {
        double norm = p->norms[i], unit = norm * primal;
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
        active[i] = zero || p->z[i] * (p->squares[i] * (primal / gradient)) > p->s[i];
    }
    for (ptrdiff_t i = 0; !exact && i < p->m; i++)
        if (!(isinf(p->b[i]) && p->b[i] > 0.0))
            outside = larger(fabs(gap[i] + p->s[i] - p->b[i]) / (p->norms[i] * primal), outside);
    out[KKT] = larger(outside, kkt);
    out[OUTSIDE] = outside;
    out[MARGIN] = margin;
    out[UNPAIRED] = unpaired;
    const Limits *limits = p->limits;
    int known = 0;
    out[ROW] = row_violation(p, out[LENGTH], exact ? NULL : gap, work, &known);
    out[GAP] = objective_gap(p, bent, work, &known);
    double grown = larger(larger(primal / out[LENGTH], gradient / out[STEEPNESS]), 1.0);
    out[DOUBT] = larger(larger(out[ROW], out[GAP]) / limits->row, out[KKT] * grown / limits->data);
    if (!(primal < limits->beyond && gradient < limits->beyond)) /* products with x and z overflow */
        out[DOUBT] = INFINITY;
}

/* The answer to a dimensionless question of signs: how much larger than the question it is, and how
   far it moves the slacks where there is curvature. See certificate.examine; work is
   (n + 2 k + 3 m). */
Response respond(const System *s, const Ghost *g, const double *signs_x, const double *signs_z,
                 const double *squares, const double *figures, double *work)
{
    ptrdiff_t n = s->n, k = s->k, m = g ? g->m : s->m;
    double primal = figures[PRIMAL], gradient = figures[GRADIENT], largest_z = 0.0, moved = 0.0;
    double *x = work, *y = x + n, *full = y + k, *v_z = full + s->m, *zeta = v_z + m;
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = gradient * signs_x[i];
    for (ptrdiff_t i = 0; i < m; i++)
        v_z[i] = sqrt(squares[i]) * primal * signs_z[i];
    if (g)
        build_rhs(g, x, v_z, x, y, zeta);
    else
        for (ptrdiff_t i = 0, j = 0; i < m; i++)
            if (s->active[i])
                y[j++] = v_z[i];
    solve(s, 1, x, y, full);
    if (g) {
        double *left = zeta + m; /* Aw - v_z, the slacks' with the opposite sign */
        recover_multipliers(g, x, y, v_z, zeta, left);
        for (ptrdiff_t i = 0; i < m; i++)
            moved = larger(fabs(left[i]) / (sqrt(squares[i]) * primal), moved);
    } else
        scatter(s, 1, y, NULL, zeta);
    for (ptrdiff_t i = 0; i < m; i++)
        largest_z = larger(fabs(zeta[i]) * sqrt(squares[i]), largest_z);
    return (Response){larger(magnitude(n, x, 1) / primal, largest_z / gradient), moved};
}

/* What certificate._Bounds.settle says where the curved cones have this margin, inf where there are
   none. */
int bounds_suffice(Response response, const double *figures, double margin, double order,
            const Sureness *limits)
{
    double gain = response.gain, bent = 1.0 / larger(margin, 1e-300);
    double steep = larger(gain, bent), worse = steep > gain ? steep / larger(gain, 1e-300) : 1.0;
    double step = sqrt(order) * (1.0 + steep) * (figures[KKT] + figures[UNPAIRED]);
    double moved = sqrt(order) * step, least = smaller(figures[MARGIN], margin);
    double size = smaller(figures[SHARE_X], larger(limits->small, figures[SHARE_Z]));
    double rounding = order * limits->rounding * (1.0 + gain);
    double error = sqrt(order) * (rounding + moved / margin * response.moves) * worse;
    return figures[SHARE_X] >= limits->small && least > 0.0 && moved <= limits->brief * least &&
           step <= limits->sure * size && limits->rounding * steep <= limits->sure * size &&
           error <= limits->sure;
}
