"""segzoo.models."""
