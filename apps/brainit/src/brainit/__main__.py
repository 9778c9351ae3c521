"""``python -m brainit``: the command, in the form that launchers of several processes take."""

from brainit.cli import app

app()
