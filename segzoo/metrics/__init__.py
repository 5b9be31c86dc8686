"""segzoo.metrics."""
