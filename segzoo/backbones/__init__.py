"""segzoo.backbones."""
