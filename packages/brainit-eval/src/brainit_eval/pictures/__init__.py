"""Pictures: opened from what holds them, checked, resized, read in batches, encoded."""
