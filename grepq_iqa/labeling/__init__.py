"""Getting labels: which images to rate next, and a page to rate them in."""
