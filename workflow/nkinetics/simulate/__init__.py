"""A trial with known truth, written as the instruments would have written it."""
