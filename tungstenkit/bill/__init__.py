"""What is in an image, said to others: its bill of materials, as SPDX and CycloneDX, where it is from, and who says so.

In come a lock, a model's files and a built image; out come documents, the same bytes each time, and artifacts for a
registry. A signature is made and checked here. The image's own digest depends on none of it.
"""
