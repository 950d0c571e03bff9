"""Takes orders over HTTP and keeps their state."""
