"""The end of an error that has a name in it: near names."""

import difflib
from collections.abc import Iterable


def near(name: object, known: Iterable[str]) -> str:
    """Say which known names are near, or nothing.

    Example:
        >>> near("resnet5", ["resnet50", "vgg16"])
        '; near names: resnet50'
    """
    found = difflib.get_close_matches(str(name).lower(), list(known), n=5, cutoff=0.5)
    return f"; near names: {', '.join(found)}" if found else ""
