"""What people look at: the demo page with its files in `static`, and the documentation with its commands.

In come the model's schemas and the description of the routes; out come pages. Imports `words` and `checks`; `http` may
import it.
"""
