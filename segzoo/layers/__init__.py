"""segzoo.layers."""
