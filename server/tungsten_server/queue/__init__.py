"""From inputs to answers: which inputs run together, and on which model process.

In come checked inputs; out come predictions that are done. `dispatcher` is the way in, `batcher` decides what shares a
batch, a `driver` keeps one process busy and knows the dispatcher by a protocol. Imports `words`, `checks` and `model`;
`http` may import it.
"""
