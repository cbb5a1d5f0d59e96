"""Photographs: those held out, a user's own, and what is refused."""

import sys

import numpy as np
import pytest
from PIL import Image

from l2ljax.tasks import pictures
from l2ljax.tasks.pictures import CONTENT, STYLES, load_content, load_picture, resize_square


def save(path, height=40, width=60, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_every_named_picture_is_there_in_colours():
    """Without a download."""
    for name in {*CONTENT["train"], *CONTENT["test"], *STYLES}:
        picture = load_picture(name)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert min(picture.shape[:2]) >= 300


def test_held_out_photographs_are_others():
    """Whole photographs: by name, by pixels, and no crop in common."""
    train, test = (CONTENT[part] for part in ("train", "test"))
    assert not {*train} & {*test}
    assert not ({*train} | {*test}) & {*STYLES}
    whole = {load_picture(name).tobytes() for name in train}
    assert not whole & {load_picture(name).tobytes() for name in test}
    seen = {crop.tobytes() for crop in load_content("train", 64, num_crops=8)}
    unseen = {crop.tobytes() for crop in load_content("test", 64, num_crops=8)}
    assert len(seen) == 8 * len(train)  # no two alike
    assert len(unseen) == 8 * len(test)
    assert not seen & unseen


def test_crops_are_parts_of_the_photograph(tmp_path):
    """At a scale of 1 each is all of it, every other one mirrored; equal seeds, equal crops."""
    pixels = save(tmp_path / "a.png", 12, 12)
    crops = load_content([str(tmp_path / "a.png")], 12, num_crops=3)
    np.testing.assert_array_equal(crops[0], pixels)
    np.testing.assert_array_equal(crops[1], pixels[:, ::-1])
    np.testing.assert_array_equal(crops[2], pixels)
    some = load_content("test", 16, num_crops=3)
    np.testing.assert_array_equal(some, load_content("test", 16, num_crops=3))
    assert (some != load_content("test", 16, num_crops=3, seed=1)).any()
    np.testing.assert_array_equal(some[3], resize_square(load_picture("china"), 16))


def test_resizing_keeps_a_flat_colour_and_the_middle():
    """A grey picture stays grey; of a wide one, the middle square is taken."""
    flat = np.full((50, 70, 3), 99, np.uint8)
    np.testing.assert_array_equal(resize_square(flat, 20), np.full((20, 20, 3), 99))
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 7
    assert (resize_square(wide, 10) == 7).all()


def test_a_directory_of_pictures(tmp_path):
    """All of them in order of name, and nothing else that lies there."""
    second, first = save(tmp_path / "b.PNG", seed=1), save(tmp_path / "a.png", seed=2)
    (tmp_path / "notes.txt").write_text("hello")
    crops = load_content(tmp_path, 40, num_crops=1)
    np.testing.assert_array_equal(crops, [first[:, 10:50], second[:, 10:50]])
    np.testing.assert_array_equal(crops, load_content(str(tmp_path), 40, num_crops=1))


def test_bad_pictures_are_refused(tmp_path):
    """Each in one sentence."""
    save(tmp_path / "a.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for source, error, words in [
        ("monalisa", FileNotFoundError, "no picture 'monalisa': it is no file, .* astronaut"),
        (tmp_path / "none.png", FileNotFoundError, "it is no file"),
        (tmp_path / "half.png", ValueError, "is damaged or no picture"),
        (tmp_path / "text.jpg", ValueError, "is damaged or no picture"),
        (3, FileNotFoundError, "no picture 3"),
    ]:
        with pytest.raises(error, match=words):
            load_picture(source)
    for source, error, words in [
        (tmp_path / "empty", ValueError, "holds no picture"),
        ("training", FileNotFoundError, 'content must be "train", "test", a directory'),
        ([], FileNotFoundError, "content must be"),
        ([str(tmp_path / "a.png")], ValueError, "a.png has 40 x 60 pixels, less than size=64"),
    ]:
        with pytest.raises(error, match=words):
            load_content(source, 64)
    with pytest.raises(ValueError, match="num_crops must be an integer"):
        load_content("test", 64, num_crops=0)


@pytest.mark.parametrize(
    ("package", "name", "words"), [("PIL", "china", "Pillow"), ("skimage", "cat", "scikit-image")]
)
def test_missing_packages_name_the_extra(package, name, words, monkeypatch):
    """What to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf'need {words}.*"l2ljax\[art\]"'):
        pictures.load_picture(name)
