"""What reads data sets is an extra: without it, one sentence says what to install."""

import sys

import pytest

from l2ljax import load_dataset
from l2ljax.tasks import data


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("digits", "sklearn.datasets", "scikit-learn"),
        ("digits", "sklearn", "scikit-learn"),
        ("mnist", "tensorflow_datasets", "tensorflow-datasets"),
        ("no-such-set", "tensorflow_datasets", "tensorflow-datasets"),
    ],
)
def test_without_its_reader_a_data_set_says_what_to_install(
    name, module, package, tmp_path, monkeypatch
):
    """Whether or not there is such a data set."""
    for loaded in [key for key in sys.modules if key.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    data._load.cache_clear()
    with pytest.raises(ModuleNotFoundError) as caught:
        load_dataset(name, "train", data_dir=tmp_path)
    sentence = str(caught.value)
    assert package in sentence
    assert sentence.endswith('run `pip install "l2ljax[data]"`.')
    assert "\n" not in sentence
    assert (caught.value.name or "").partition(".")[0] == module.partition(".")[0]
