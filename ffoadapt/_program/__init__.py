"""What a program and a solution are: patterns, structure, forms, batches, points."""
