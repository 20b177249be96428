"""Serves one model over HTTP: one process for HTTP, one for the model.

`launch` starts both. `settings` and `spec` are what they are told. A request goes through `app` (the wire
format), `inputs` (checks and option keys), `dispatcher` and `batcher` (which inputs run together) to
`model_process`, whose other end is `worker`, the only file that runs under the model's interpreter; `frames`
is what the two say to each other. `serving` is waitress' loop and the graceful stop, `connections`
what is on it.
"""
