"""Networks that cannot process an image size, or a batch of one image."""

import pytest
import torch

from mtlsi_net.core.errors import InputError, UserError
from mtlsi_net.engine.train import explained_batch_norm
from mtlsi_net.models.encoder import TimmEncoder


@pytest.mark.parametrize(
    ("name", "family", "made_for"),
    [
        ("convit_tiny", "convit", "224x224"),
        ("coat_lite_tiny", "coat", "224x224"),
        ("botnet26t_256", "byoanet", "256x256"),
        ("efficientformer_l1", "efficientformer", "224x224"),
    ],
)
def test_a_family_of_one_size_is_named_with_sizes_and_remedy(name, family, made_for):
    encoder = TimmEncoder(name, pretrained=False, image_size=(96, 128)).eval()
    words = rf"{name} of timm's family {family} cannot process images of 96x128.* made for {made_for}: use that size"
    with pytest.raises(InputError, match=words):
        encoder.check_size((96, 128))
    with pytest.raises(InputError, match=words):
        encoder(torch.zeros(1, 3, 96, 128))


def test_a_backbone_of_any_size_passes():
    TimmEncoder("regnetx_002", pretrained=False).check_size((100, 140))


def test_one_value_per_channel_of_batch_norm_is_explained():
    norm = torch.nn.BatchNorm2d(4)
    words = r"data.batch_size=1 and data.size=\[32,32\].*raise one of the two"
    with pytest.raises(UserError, match=words), explained_batch_norm(1, (32, 32)):
        norm(torch.zeros(1, 4, 1, 1))
    with pytest.raises(ValueError, match="else"), explained_batch_norm(1, (32, 32)):
        raise ValueError("something else")


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "unable to open shared memory object </torch_1_2> in read-write mode: No space left on device (28)",
    ],
)
def test_shared_memory_that_is_too_small_is_told_with_its_remedy(text):
    from mtlsi_net.data.loader import report_worker_crash

    with pytest.raises(UserError, match=r"/dev/shm\) is too small.*data.num_workers=0"), report_worker_crash([], str):
        raise RuntimeError(text)


@pytest.mark.parametrize(
    ("image", "message"),
    [([], "is a list; pass np.asarray"), (b"", "is a bytes; pass PIL"), (None, "None; pass a path")],
)
def test_an_image_of_the_wrong_kind_in_python_is_told(image, message):
    from mtlsi_net.inference.images import as_pixels

    with pytest.raises(UserError, match=message):
        as_pixels(image)
