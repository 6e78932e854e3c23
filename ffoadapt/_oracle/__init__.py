"""The one thing that does not vary: derivatives of a solution from the primal and dual alone.

`active_set` linearizes the program at the point, `dense` and `sparse` factorize the ghost problem's
KKT matrix, `gradient` turns cotangents into gradients with it, `resolve` is the second,
independent way, `report` says how far to trust the answer. Nothing here knows a solver, a
framework or a plugin.
"""
