"""Serves one model over HTTP: one process for HTTP, one for the model.

`launch` starts both. A request goes through `http` (connections, routes, answers), `checks` (is it valid, which
options), `queue` (which inputs run together) and `model` (one process, from outside) to `worker`, the only folder
whose files run under the model's interpreter. `words` is what all of them speak of, `page` what people look at.
"""
