"""The subcommands of `brainit-eval`, each of which loads what it needs when it is called."""
