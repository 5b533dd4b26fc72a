import numpy as np
import pytest

from mtlsi_net.data_tools.nyu_mat import CAMERA
from mtlsi_net.data_tools.plane_normals import FEWEST_SAMPLES, RADIUS, STEP, Intrinsics, fit_normals

SIZE = (60, 80)
CENTRED = Intrinsics(300.0, 310.0, 39.5, 29.5)


def plane_depth(normal, distance, camera=CENTRED, size=SIZE):
    """Return the depth of a plane by intersecting each pixel's ray with it; axes are x right, y up, z to the camera."""
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    rays = np.stack([(u - camera.cx) / camera.fx, -(v - camera.cy) / camera.fy, -np.ones(size)], axis=-1)
    return (-distance / (rays @ np.asarray(normal))).astype(
        np.float32
    )  # the camera lies on the side the normal points to


@pytest.mark.parametrize("normal", [
    (0, 0, 1), (0, 0.6, 0.8), (0, -0.28, 0.96), (0.6, 0, 0.8), (-0.48, 0.36, 0.8),
])  # fmt: skip
def test_a_plane_has_its_normal_everywhere(normal):
    depth = plane_depth(normal, 2.0)
    assert depth.min() > 0
    found = fit_normals(depth, depth > 0, CENTRED)
    np.testing.assert_allclose(found, np.broadcast_to(np.asarray(normal, np.float32), found.shape), atol=2e-4)


def test_a_floor_seen_by_the_data_sets_camera_points_up():
    rows = np.arange(480)[:, None] - CAMERA.cy
    depth = np.where(rows > 100, 1.3 * CAMERA.fy / np.maximum(rows, 1), 0).astype(np.float32).repeat(640, axis=1)
    found = fit_normals(depth, depth > 0, CAMERA)
    assert (found[rows[:, 0] <= 100] == 0).all()
    np.testing.assert_allclose(
        found[rows[:, 0] > 130], np.broadcast_to([0, 1, 0], found[rows[:, 0] > 130].shape), atol=5e-3
    )


def test_noise_is_fitted_by_least_squares():
    rng = np.random.default_rng(0)
    depth = plane_depth((0.36, 0.48, 0.8), 2.0)
    noisy = (1 / (1 / depth + rng.normal(0, 1e-3, SIZE))).astype(np.float32)
    y, x = 30, 41
    i, j = (axis.ravel() for axis in np.mgrid[-RADIUS : RADIUS + 1 : STEP, -RADIUS : RADIUS + 1 : STEP])
    design = np.stack([j, i, np.ones_like(i)], axis=1).astype(float)
    near = np.abs(noisy[y + i, x + j] - noisy[y, x]) <= 0.05 * noisy[y, x]
    a, b, c = np.linalg.lstsq(design[near], 1 / noisy[y + i, x + j].astype(float)[near], rcond=None)[0]
    p, q, r = a * CENTRED.fx, b * CENTRED.fy, c - a * (x - CENTRED.cx) - b * (y - CENTRED.cy)
    expected = np.array([-p, q, r]) / np.linalg.norm([p, q, r])
    np.testing.assert_allclose(fit_normals(noisy, noisy > 0, CENTRED)[y, x], expected, atol=1e-6)


def test_a_step_in_depth_does_not_tilt_the_normals_beside_it():
    depth = np.full(SIZE, 2.0, np.float32)
    depth[:, 40:] = 3.0
    found = fit_normals(depth, depth > 0, CENTRED)
    np.testing.assert_allclose(found, np.broadcast_to([0, 0, 1], found.shape), atol=1e-6)


def test_normals_rest_on_measured_pixels():
    depth = plane_depth((0, 0.6, 0.8), 2.0)
    painted = depth.copy()
    painted[10:50, 20:60] = 2.5  # as an in-painting may invent it
    measured = np.ones(SIZE, bool)
    measured[10:50, 20:60] = False
    found = fit_normals(painted, measured, CENTRED)
    assert (found[30, 40] == 0).all(), "there is no measured pixel around"
    assert (np.linalg.norm(found[~measured], axis=1) > 0).any(), "near the rim, enough measured pixels are around"
    np.testing.assert_allclose(found[0, 0], (0, 0.6, 0.8), atol=1e-4)
    assert (fit_normals(np.zeros(SIZE, np.float32), measured, CENTRED) == 0).all()


def test_samples_on_one_line_have_no_plane():
    measured = np.zeros(SIZE, bool)
    measured[30] = True  # a row: 9 samples; three rows of a window: 27
    assert FEWEST_SAMPLES > 9
    assert (fit_normals(np.full(SIZE, 2.0, np.float32), measured, CENTRED) == 0).all()
    column = np.zeros((200, 1), np.float32) + 2
    assert (fit_normals(column, column > 0, CENTRED) == 0).all()
