"""Out of distribution: NSD-synthetic and NSD-imagery, scored by their own rules."""
