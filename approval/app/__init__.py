"""The composition root: a configuration in, a running service out.

`running` puts the parts together and takes them apart in the right order; `serving` runs them until
a signal says stop, and has `reloading` read the configuration again when a signal or a changed file
says so. `opening` is the part of it that the command line shares.
"""
