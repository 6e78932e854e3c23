"""From a user's data to a program, and the adjoint of that way."""
