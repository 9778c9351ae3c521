"""What two pictures have in common: pixels, identification by features, retrieval."""
