"""Registries and image layouts (OCI): places where manifests and blobs are kept by their digests.

What is asked of them is told to nobody here; what they answer is judged as somebody else's.
"""
