"""Everything that ffoadapt asks of a solver, from signs and statuses to gradients."""

import ffoadapt.testing


class TestTemplate(ffoadapt.testing.SolverSuite):
    solver = "template"
