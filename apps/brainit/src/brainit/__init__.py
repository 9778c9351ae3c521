"""Brain-IT from scans to images: thin bridges between packages that stand alone."""
