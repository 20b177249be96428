"""From a request's body to inputs that are valid: `reading` is the way in.

In come bodies, as JSON or as a form, and the model's input schema; out come inputs with their option keys, or every
problem with its place. `urls` fetches files that are named by address. Imports `words`, and of `worker` what a frame
is; `queue` and `http` may import it.
"""
