"""Entry point: `python -m tungsten_server --spec spec.json`."""

if __name__ == "__main__":
    import os
    import sys

    # `-m` puts the working directory first. In an image that is the model's folder, and a `flask.py` there is not
    # for this process.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]  # noqa: PTH109

    from tungsten_server.launch import main

    sys.exit(main(sys.argv[1:], os.environ))
