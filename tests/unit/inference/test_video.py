import logging

import cv2
import numpy as np
import pytest
import torch
from helpers.clips import write_clip

from mtlsi_net.core.errors import UserError
from mtlsi_net.inference.result import Result, TaskResult
from mtlsi_net.inference.video import Video, is_video, task_videos
from mtlsi_net.tasks.boundary import BoundaryTask
from mtlsi_net.tasks.depth import DepthTask


def test_frames_come_in_order_as_rgb(tmp_path):
    video = Video(write_clip(tmp_path / "clip.mp4"))
    assert (video.rate, video.count) == (12.0, 6)
    frames = list(video.frames())
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 6
    for number, frame in enumerate(frames):
        red, green, blue = frame.reshape(-1, 3).mean(0)
        assert red == pytest.approx(40 * number, abs=6)
        assert max(green, blue) < 12


def test_only_one_frame_is_read_at_a_time(tmp_path):
    video = Video(write_clip(tmp_path / "clip.mp4"))
    next(video.frames())
    assert int(video._capture.get(cv2.CAP_PROP_POS_FRAMES)) <= 1


def result(depth, size=(48, 64)):
    values = {"depth": torch.full((1, *size), depth), "boundary": torch.full((1, *size), 0.5)}
    values["depth"][:, : size[0] // 2] = 1.0
    tasks = {"depth": DepthTask(), "boundary": BoundaryTask()}
    image = np.zeros((*size, 3), np.uint8)
    return Result(image, {name: TaskResult(tasks[name], value) for name, value in values.items()}, "")


def test_one_video_a_task_whose_colours_keep_the_scale_of_the_first_frame(tmp_path):
    with task_videos(tmp_path, "clip", 12.0) as videos:
        for depth in (3.0, 2.0, 3.0):
            videos.add(result(depth))
    assert {path.name for path in tmp_path.iterdir()} == {"clip_depth.mp4", "clip_boundary.mp4"}
    first, second, third = (frame[40].mean(0) for frame in Video(tmp_path / "clip_depth.mp4").frames())
    expected = [DepthTask((1.0, 3.0)).colorize(torch.full((1, 1, 1), depth))[0, 0] for depth in (3.0, 2.0)]
    np.testing.assert_allclose(first, expected[0], atol=12)
    np.testing.assert_allclose(second, expected[1], atol=12)
    np.testing.assert_allclose(first, third, atol=6)


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    with task_videos(tmp_path, "clip", 12.0) as videos:
        videos.add(result(3.0, (47, 63)))
    (frame,) = Video(tmp_path / "clip_depth.mp4").frames()
    assert frame.shape == (46, 62, 3)


def test_a_failure_leaves_no_half_video(tmp_path):
    def broken_off():
        with task_videos(tmp_path, "clip", 12.0) as videos:
            videos.add(result(3.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist; pass a video file"), (b"no video", "cannot be read as a video; convert it")],
)
def test_no_video_is_one_line(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Video(path)


def test_fewer_frames_than_the_file_states_are_told(tmp_path, caplog):
    video = Video(write_clip(tmp_path / "clip.mp4", frames=3))
    video.count = 4
    with caplog.at_level(logging.WARNING):
        assert len(list(video.frames())) == 3
    assert "3 of 4 frames could be read" in caplog.text


def test_videos_are_known_by_their_suffix(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    assert is_video("a/clip.MP4")
    assert not is_video(tmp_path / "folder.mp4")
    assert not is_video("photo.jpg")
    assert not is_video(["clip.mp4"])
