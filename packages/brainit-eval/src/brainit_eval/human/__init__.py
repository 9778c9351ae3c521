"""A human study: pages of two-alternative trials, and the analysis of their answers."""
