"""What an image is made of, told by its bytes: it is built again of what is kept beside it, and two are told apart.

In come references, folders and archives that may be anybody's; out go values that say what is the same, and what is
not. Nothing that is judged here is run, but by Nix, in its sandbox and without a network.
"""
