"""The server's words: what every other folder speaks of.

Settings and spec as they were read, a prediction and its answers, why a request is refused, what the model prints,
how many bytes are held, what files are called. Values and small guarded objects; nothing here knows HTTP, processes
or the queue. It imports nothing of the server; every folder but `worker` may import it.
"""
