"""Commands: the only place that prints.

`main` names every command and its options, and imports nothing heavy: the help answers at once.
What a command does stands in the module of its group.
"""
