"""Many requests for a long time, and all that may happen meanwhile: each is answered once, and right, or it is told."""
