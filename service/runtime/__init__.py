"""How the work is run: which graphs, on which threads, and how much of it at once."""
