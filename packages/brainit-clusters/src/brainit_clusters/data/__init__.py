"""Sources of scans, and the dataset file that each of them becomes."""
