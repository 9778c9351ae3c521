"""One module a stage: `run(run, fingerprint)` does its work and returns its outputs by name."""
