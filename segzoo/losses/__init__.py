"""segzoo.losses."""
