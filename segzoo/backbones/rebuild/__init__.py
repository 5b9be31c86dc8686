"""Make a published classifier anew, layer by layer, as a backbone.

    walk        goes through the graph, lays nested models flat, keeps count of strides
    names       gives layers that Keras numbers the names of a first build
    windows     decides of each convolution and pool: padding, stride, dilation
    remake      makes one layer from the config of the published one

The weights stay valid, and each new layer is paired with the one that it was made from.
"""

from segzoo.backbones.rebuild.names import stable_names
from segzoo.backbones.rebuild.walk import Rebuilt, rebuild
from segzoo.backbones.rebuild.windows import Scale

__all__ = ["Rebuilt", "Scale", "rebuild", "stable_names"]
