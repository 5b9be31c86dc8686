"""The papers of the backbones."""

from segzoo.backbones._rows import Paper

RESNET = Paper(
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    "Deep Residual Learning for Image Recognition",
    2015,
    "1512.03385",
)
RESNET_V2 = Paper(
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    "Identity Mappings in Deep Residual Networks",
    2016,
    "1603.05027",
)
RESNEXT = Paper(
    "Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He",
    "Aggregated Residual Transformations for Deep Neural Networks",
    2016,
    "1611.05431",
)
SENET = Paper(
    "Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Enhua Wu",
    "Squeeze-and-Excitation Networks",
    2017,
    "1709.01507",
)
VGG = Paper(
    "Karen Simonyan, Andrew Zisserman",
    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2014,
    "1409.1556",
)
DENSENET = Paper(
    "Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger",
    "Densely Connected Convolutional Networks",
    2016,
    "1608.06993",
)
MOBILENET = Paper(
    "Andrew G. Howard, Menglong Zhu, Bo Chen, Dmitry Kalenichenko, Weijun Wang, Tobias Weyand, "
    "Marco Andreetto, Hartwig Adam",
    "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    2017,
    "1704.04861",
)
MOBILENET_V2 = Paper(
    "Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
    "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    2018,
    "1801.04381",
)
MOBILENET_V3 = Paper(
    "Andrew Howard, Mark Sandler, Grace Chu, Liang-Chieh Chen, Bo Chen, Mingxing Tan, Weijun Wang, "
    "Yukun Zhu, Ruoming Pang, Vijay Vasudevan, Quoc V. Le, Hartwig Adam",
    "Searching for MobileNetV3",
    2019,
    "1905.02244",
)
EFFICIENTNET = Paper(
    "Mingxing Tan, Quoc V. Le",
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    2019,
    "1905.11946",
)
EFFICIENTNET_V2 = Paper(
    "Mingxing Tan, Quoc V. Le",
    "EfficientNetV2: Smaller Models and Faster Training",
    2021,
    "2104.00298",
)
NOISY_STUDENT = Paper(
    "Qizhe Xie, Minh-Thang Luong, Eduard Hovy, Quoc V. Le",
    "Self-training with Noisy Student improves ImageNet classification",
    2019,
    "1911.04252",
)
CONVNEXT = Paper(
    "Zhuang Liu, Hanzi Mao, Chao-Yuan Wu, Christoph Feichtenhofer, Trevor Darrell, Saining Xie",
    "A ConvNet for the 2020s",
    2022,
    "2201.03545",
)
XCEPTION = Paper(
    "François Chollet",
    "Xception: Deep Learning with Depthwise Separable Convolutions",
    2016,
    "1610.02357",
)
ALIGNED_XCEPTION = Paper(
    "Liang-Chieh Chen, Yukun Zhu, George Papandreou, Florian Schroff, Hartwig Adam",
    "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
    2018,
    "1802.02611",
)
INCEPTION_V3 = Paper(
    "Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    "Rethinking the Inception Architecture for Computer Vision",
    2015,
    "1512.00567",
)
INCEPTION_RESNET_V2 = Paper(
    "Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
    "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    2016,
    "1602.07261",
)
NASNET = Paper(
    "Barret Zoph, Vijay Vasudevan, Jonathon Shlens, Quoc V. Le",
    "Learning Transferable Architectures for Scalable Image Recognition",
    2017,
    "1707.07012",
)
SEGFORMER = Paper(
    "Enze Xie, Wenhai Wang, Zhiding Yu, Anima Anandkumar, Jose M. Alvarez, Ping Luo",
    "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers",
    2021,
    "2105.15203",
)
