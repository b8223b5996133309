"""One table per kind of file that says which of its tensors becomes which leaf of a model."""

from ftjax.weights.maps.hf_bert import HF_BERTS
from ftjax.weights.maps.hf_conv import HF_CONVNEXT, HF_RESNET
from ftjax.weights.maps.hf_decoder import HF_DECODER
from ftjax.weights.maps.hf_modernbert import HF_MODERNBERT
from ftjax.weights.maps.hf_vit import HF_VITS
from ftjax.weights.maps.mobilenet_keras import KERAS_MOBILENET_V2
from ftjax.weights.maps.native import NATIVE
from ftjax.weights.maps.resnet_flax import FLAX_PREACT_RESNET, FLAX_RESNET
from ftjax.weights.maps.resnet_torch import CIFAR_TORCH_RESNET, TORCHVISION_RESNET
from ftjax.weights.maps.s3rec import S3REC
from ftjax.weights.maps.vit_jax import BIG_VISION_VIT, VISION_TRANSFORMER_VIT
from ftjax.weights.maps.vit_timm import TIMM_VIT

NAME_MAPS = {
    name_map.name: name_map
    for name_map in (
        NATIVE,
        TIMM_VIT,
        VISION_TRANSFORMER_VIT,
        BIG_VISION_VIT,
        TORCHVISION_RESNET,
        CIFAR_TORCH_RESNET,
        FLAX_RESNET,
        FLAX_PREACT_RESNET,
        KERAS_MOBILENET_V2,
        *HF_VITS.values(),
        HF_CONVNEXT,
        HF_RESNET,
        *HF_BERTS.values(),
        HF_MODERNBERT,
        HF_DECODER,
        S3REC,
    )
}
"""Every table by its name, in the order in which a file is tried."""
