"""A model's folder, and the order of the commands' steps.

In come a folder and what the command line wishes; out go locks, images and shells, as values. What has to be said
meanwhile goes to the observer that is given. Only the command line imports it."""
