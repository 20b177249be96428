"""What earlier releases have made, one archive of each: an export with its lock, and all files that it takes but tools.

`make` makes one of the release in a checkout; `tests/end_to_end/test_kept.py` holds this tungsten to them.
"""
