"""The model process: all that runs under the model's interpreter, and nothing else does.

`main` is run by path; it imports this folder under a private name, so files here import one another relatively, and
beside them the standard library, the model's module and the SDK. In come frames with batches, out go frames with
answers. It imports nothing of the server, and nobody imports it: but `frames`, what the two sides say to each other,
`events`, by which lines of the log are known, and `fold`, what pieces of an output come to.
"""
