"""The server's end of a model process: started, fed, watched, ended.

In come inputs as bytes; out come answers, or how the process died. Imports `words`, and `frames` of `worker`;
`queue` may import it.
"""
