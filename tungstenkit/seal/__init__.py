"""What only downloading, building or running can tell a lock: libraries, builds from source, RUN and post_build.

In goes a lock that `resolve` made; out comes one that `tungsten build` believes. `project` and the command line import
it."""
