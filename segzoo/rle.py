"""segzoo.rle."""
