"""Data sets as device arrays: what is read, what is kept on disk, what is refused."""

import importlib.machinery
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_digits

from l2ljax.tasks import data, data_tfds
from l2ljax.tasks.data import Images, check_images, load_dataset

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("TFDS_DATA_DIR") or ROOT.parent / "shared" / "tfds")


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    """Each test starts with an empty cache of its own and remembers nothing."""
    monkeypatch.setenv("L2LJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    data._load.cache_clear()
    return tmp_path / "cache"


def write_dataset(data_dir, name="shapes", version="1.0.0", shape=(4, 5, 3), dtype="u1", seed=0):
    """A TFDS directory with 10 train and 4 test images, written record by record."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder = Path(data_dir) / name / version
    folder.mkdir(parents=True)
    tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, dtype=np.dtype(dtype).type),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
    ).save_config(folder)
    contents, splits = {}, []
    for split, size in (("train", 10), ("test", 4)):
        images = np.random.default_rng([seed, size]).integers(0, 256, (size, *shape), np.uint8)
        labels = np.arange(size) % 3
        contents[split] = images, labels
        record_file = folder / f"{name}-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(record_file), "group_size:1")
        for image, label in zip(images, labels, strict=True):
            PIL.Image.fromarray(image.squeeze()).save(png := io.BytesIO(), "PNG")
            feature = (example := tf_example_pb2.Example()).features.feature
            feature["image"].bytes_list.value.append(png.getvalue())
            feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        splits.append(
            {"name": split, "shardLengths": [str(size)], "filepathTemplate": template}
            | {"numBytes": str(record_file.stat().st_size)}
        )
    info = {"name": name, "version": version, "fileFormat": "array_record", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return contents


def assert_images(actual, images, labels):
    assert isinstance(actual, Images)
    assert all(isinstance(x, jax.Array) for x in actual)
    assert (actual.images.dtype, actual.labels.dtype) == (jnp.uint8, jnp.int32)
    np.testing.assert_array_equal(actual.images, images)
    np.testing.assert_array_equal(actual.labels, labels)


def test_digits_are_scikit_learns_with_every_fifth_image_of_a_class_for_testing():
    digits = load_digits()
    of_class = [np.flatnonzero(digits.target == c) for c in range(10)]
    test = sorted(row for rows in of_class for row in rows[4::5])
    train = sorted(set(range(1797)) - set(test))
    for split, rows in (("train", train), ("test", test), ("test[3:-9]", test[3:-9])):
        dataset = load_dataset("digits", split)
        grey = digits.images[rows][..., None]  # 0..16
        assert_images(dataset, np.floor(grey * 255 / 16 + 0.5), digits.target[rows])
    assert int(load_dataset("digits", "train").images.max()) == 255


def test_labels_keep_those_classes_renumbered_in_the_given_order():
    images, labels = load_dataset("digits", "train")
    for chosen in [(3, 5), (5, 3), [7, 0, 2]]:
        rows = [i for i, label in enumerate(labels.tolist()) if label in chosen]
        expected = [list(chosen).index(labels[i]) for i in rows]
        assert_images(load_dataset("digits", "train", chosen), images[np.array(rows)], expected)


def test_disjoint_labels_share_no_image_and_together_are_the_data_set():
    parts = [load_dataset("digits", "train", labels) for labels in (range(5), range(5, 10))]
    first, second = ({image.tobytes() for image in np.asarray(part.images)} for part in parts)
    assert not first & second
    assert sum(part.labels.size for part in parts) == load_dataset("digits", "train").labels.size


def test_the_same_call_returns_the_same_arrays_also_under_jit():
    @jax.jit
    def traced():
        kept.append(load_dataset("digits", "test"))
        return ()

    kept = []
    traced()
    assert not isinstance(kept[0].images, jax.core.Tracer)
    assert load_dataset("digits", "test").images is kept[0].images


@pytest.mark.parametrize("name", ["mnist", "mnist:3.0.1", "cifar10"])
def test_real_data_are_what_tfds_reads_one_by_one(name, monkeypatch):
    import tensorflow_datasets as tfds

    if not (REAL / name.split(":")[0]).is_dir():
        pytest.skip(f"{name} is not prepared in {REAL}; set TFDS_DATA_DIR")
    source = tfds.data_source(name, split="test[:200]", data_dir=REAL)
    examples = [source[i] for i in range(200)]
    images, labels = ([example[key] for example in examples] for key in ("image", "label"))
    assert_images(load_dataset(name, "test[:200]", data_dir=REAL), images, labels)
    monkeypatch.setenv("TFDS_DATA_DIR", str(REAL))
    assert_images(load_dataset(name, "test[:200]"), images, labels)


def test_any_tfds_directory_and_its_splits_are_read(tmp_path):
    contents = write_dataset(tmp_path)
    images, labels = map(np.concatenate, zip(contents["train"], contents["test"], strict=True))
    rows = {"train": slice(10), "train[:5]": slice(5), "train[50%:]": slice(5, 10)}
    for split, part in (rows | {"test": slice(10, 14), "train+test": slice(14)}).items():
        dataset = load_dataset("shapes", split, data_dir=tmp_path)
        assert_images(dataset, images[part], labels[part])


def refuse_to_decode(*args):
    raise AssertionError("decoded again")


def test_what_was_decoded_is_read_from_the_cache(tmp_path, cache_dir, monkeypatch):
    contents = write_dataset(tmp_path)
    load_dataset("shapes", "train", data_dir=tmp_path)
    assert [path.suffix for path in cache_dir.iterdir()] == [".npz"]
    data._load.cache_clear()
    monkeypatch.setattr(data_tfds, "_decode", refuse_to_decode)
    assert_images(load_dataset("shapes", "train", data_dir=tmp_path), *contents["train"])
    with pytest.raises(AssertionError, match="decoded again"):
        load_dataset("shapes", "test", data_dir=tmp_path)


def test_the_cache_keeps_apart_directories_that_hold_other_data(tmp_path):
    for seed in (0, 1):  # to the byte the same dataset_info.json
        contents = write_dataset(tmp_path / str(seed), seed=seed)
        dataset = load_dataset("shapes", "train", data_dir=tmp_path / str(seed))
        assert_images(dataset, *contents["train"])


def other_arrays(content):
    file = io.BytesIO()
    np.savez(file, images=np.zeros((9, 4, 5, 3), np.uint8), labels=np.zeros(9, np.int32))
    return file.getvalue()


SPOILS = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"no zip",
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": lambda content: (
        content[:300] + bytes(255 - b for b in content[300:309]) + content[309:]
    ),
    "other arrays": other_arrays,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_spoilt_cache_file_is_ignored_and_rewritten(spoil, tmp_path, cache_dir, monkeypatch):
    contents = write_dataset(tmp_path)
    load_dataset("shapes", "train", data_dir=tmp_path)
    (path,) = cache_dir.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    data._load.cache_clear()
    assert_images(load_dataset("shapes", "train", data_dir=tmp_path), *contents["train"])
    data._load.cache_clear()
    monkeypatch.setattr(data_tfds, "_decode", refuse_to_decode)
    assert_images(load_dataset("shapes", "train", data_dir=tmp_path), *contents["train"])


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, cache_dir, monkeypatch):
    contents = write_dataset(tmp_path)
    cache_dir.write_text("a file where the directory should be")
    assert_images(load_dataset("shapes", "train", data_dir=tmp_path), *contents["train"])
    cache_dir.unlink()
    data._load.cache_clear()

    def full_disk(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(data_tfds.np, "savez", full_disk)
    assert_images(load_dataset("shapes", "train", data_dir=tmp_path), *contents["train"])
    assert list(cache_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "validation"), r"'validation'.*'train' \(1442 images\), 'test' \(355 images\)"),
        (("digits", "train[:1443]"), "beyond the end"),
        (("digits", "train[7:7]"), "empty"),
        (("digits", None), "split must be a string such as 'train', got None"),
        ((3, "train"), "name must be a string such as 'mnist', got 3"),
        (("digits", "test", ()), r"one or more different class numbers.*got \(\)"),
        (("digits", "test", (3, 3)), r"different class numbers.*got \(3, 3\)"),
        (("digits", "test", 3), "got 3; leave it out"),
        (("digits", "test", ("3",)), r"class numbers such as \(3, 5\), got \('3',\)"),
        (("digits", "test", (3, 10)), r"\[10\] are not in .*'test'.*choose from.* 0, 1, .*, 9\."),
        (("minst", "train"), "no data set 'minst'.*such as mnist"),
        (("mnist:9.9.9", "train"), r"'mnist:9\.9\.9' \(.*only: 3\.0\.1\)"),
        (("ag_news_subset", "train"), "features label, title, description; .*needs an image"),
        (("cats_vs_dogs", "train"), r"shape \(None, None, 3\).*images of one size"),
        (("shapes", "validation"), r"'validation'.*'train' \(10 images\), 'test' \(4 images\)"),
        (("shapes", "train[:11]"), "10 examples.*choose from its splits"),
        (("shapes", "train[8:3]"), "it is empty"),
        (("shapes", "train["), "choose from its splits"),
        (("wide", "train"), "dtype uint16.*uint8"),
        (("tfrecords", "train"), "as tfrecord, which only TensorFlow reads.*another data_dir"),
    ],
)
def test_refuses_with_a_sentence(arguments, message, tmp_path):
    if arguments[0] in ("shapes", "wide", "tfrecords"):
        write_dataset(tmp_path, arguments[0], dtype="u2" if arguments[0] == "wide" else "u1")
    if arguments[0] == "tfrecords":
        info = tmp_path / "tfrecords" / "1.0.0" / "dataset_info.json"
        info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=message):
        load_dataset(*arguments, data_dir=tmp_path)


def test_a_data_set_that_is_not_prepared_says_where_and_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    folder = tmp_path / "fashion_mnist" / "3.0.1"
    with pytest.raises(ModuleNotFoundError, match=f"not prepared in {folder}.*TensorFlow") as error:
        load_dataset("fashion_mnist", "train", data_dir=tmp_path)
    assert 'pip install "l2ljax[prepare]"' in str(error.value)
    assert f"tfds build fashion_mnist --data_dir={tmp_path}" in str(error.value)
    assert error.value.name == "tensorflow"


def test_a_data_set_that_is_not_prepared_is_prepared_where_tensorflow_is(tmp_path, monkeypatch):
    """The download is played by a function that writes the files; what surrounds it is real."""
    import tensorflow_datasets as tfds

    def download_and_prepare(builder):
        assert builder.info.file_format.value == "array_record"
        written.update(write_dataset(tmp_path, "fashion_mnist", "3.0.1", shape=(28, 28, 1)))

    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    written = {}
    dataset = load_dataset("fashion_mnist", "test", data_dir=tmp_path)
    assert_images(dataset, *written["test"])


@pytest.mark.parametrize(
    "dataset",
    [
        (np.zeros((3, 2, 2, 1)), np.zeros(4, int)),
        (np.zeros((3, 2, 2, 1)), np.zeros(3)),
        (np.zeros((0, 2, 2, 1)), np.zeros(0, int)),
        (np.zeros(3), np.zeros(3, int)),
        np.zeros((3, 2)),
        None,
    ],
)
def test_check_images_refuses_what_is_no_pair_of_images_and_as_many_integer_labels(dataset):
    with pytest.raises(ValueError, match=r"^dataset must "):
        check_images(dataset)


def test_importing_the_library_leaves_the_heavy_modules_out_and_loading_is_silent(tmp_path):
    write_dataset(tmp_path)
    heavy = {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn"}
    program = (
        "import sys, l2ljax, l2ljax.tasks.data\n"
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)\n"
        f"l2ljax.load_dataset('shapes', 'train', data_dir={str(tmp_path)!r})\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
