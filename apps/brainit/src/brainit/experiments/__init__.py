"""Experiments: runs to compare, what their scores per image say, and a page of it.

Each module is one experiment; its `run(base, out, console)` takes a finished run, makes the others
below a folder, and returns its `Findings`.
"""
