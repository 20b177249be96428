"""HTTP: the loop and its connections, the routes and their answers, and what is remembered between requests.

In come connections; out go responses. `serving` and `connections` are on waitress, `app` on Flask, `direct` on
neither. Imports every folder but `worker` and `model`; only `launch` may import it.
"""
