"""Is this machine ready for a profile? Checks that take seconds, before hours are spent."""
