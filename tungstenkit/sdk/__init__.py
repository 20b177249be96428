"""What model code imports, and the server's model process: all of ours that is in an image, errors included.

Needs pydantic and Pillow alone, and runs on Python 3.9. Everything may import it; it imports nothing of ours."""
