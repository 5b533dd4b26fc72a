import pytest

from mtlsi_net.models.baselines.shared_encoder import SharedEncoderNet
from mtlsi_net.models.encoder import TimmEncoder
from mtlsi_net.models.mtlsi import MTLSINet
from mtlsi_net.models.size import measure_size

NYUD = {"semseg": 40, "depth": 1, "normals": 3, "boundary": 1}


@pytest.mark.parametrize("network_class", [MTLSINet, SharedEncoderNet])
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_384", pytest.param("vit_large_patch16_384", marks=pytest.mark.slow)]
)
def test_decoder_stays_within_its_budget(network_class, name):
    net = network_class(TimmEncoder(name, pretrained=False, image_size=(448, 576)), NYUD)
    size = measure_size(net, (448, 576))
    assert size["decoder_parameters_m"] <= 45
    assert size["decoder_gflop"] / len(NYUD) <= 75


def test_decoder_cost_is_linear_in_pixels():
    net = MTLSINet(TimmEncoder("test_vit", pretrained=False), NYUD, width=64)
    small, large = (measure_size(net, size)["decoder_gflop"] for size in ((448, 576), (896, 1152)))
    assert large == pytest.approx(4 * small, rel=0.02)
