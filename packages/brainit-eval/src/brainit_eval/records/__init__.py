"""What is written to disk and read back, every name and number checked: results, above all."""
