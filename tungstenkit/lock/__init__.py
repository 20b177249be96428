"""`tungsten.lock`: its form, whether it fits its model, and what is pinned."""
