"""From wishes to exact files: Python, CUDA, Debian packages and wheels chosen together.

In come a spec, what mirrors list, and the lock before; out comes a lock that is not sealed yet. Indexes and metadata
are read; whole are downloaded only sources and a base image's layers, which say what they are nowhere else. Nothing
of a model's or of a package's is run. What is above imports it."""
