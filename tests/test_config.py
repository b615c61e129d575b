"""Parameter files: the shipped ones hold, a bad value is named before any work."""

from pathlib import Path

import pytest
import yaml

from vec2face.config import Params, Section
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[1]
SHIPPED = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


def keys(content, prefix=""):
    """All key paths of nested dicts."""
    for key, value in content.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_files_are_valid_and_have_the_same_keys(path):
    Params.load(path)
    wanted = set(keys(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert set(keys(yaml.safe_load(path.read_text()))) == wanted


def sections(model=Section):
    """All classes of the configuration."""
    return [model, *(found for child in model.__subclasses__() for found in sections(child))]


def test_no_field_has_a_default():
    found = {f"{s.__name__}.{name}": f for s in sections() for name, f in s.model_fields.items()}
    assert len(found) > 100
    assert not [name for name, field in found.items() if not field.is_required()]


@pytest.fixture
def load(tmp_path):
    def changed(**changes):
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in changes.items():
            *path, last = key.split("__")
            section = content
            for part in path:
                section = section[part]
            section[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return Params.load(path)

    return changed


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tau": 1.5}, "tau"),
        ({"sigma": [0.3, 0.5], "sigma_share": [0.6, 0.6]}, "sigma_share"),
        ({"sigma": [0.3], "sigma_share": [0.5, 0.5]}, "sigma_share"),
        ({"sigma": [-0.3], "sigma_share": [1.0]}, "sigma"),
        ({"sigmma": 0.3}, "sigmma"),
        ({"training__lr": "fast"}, "training.lr"),
        ({"image_size": 64}, "image_size"),
        ({"image_size": 112}, "generator.channels"),
        ({"generator__encoder_heads": 7}, "encoder_heads"),
        ({"identities": 0}, "identities"),
        ({"fr__augment__flip": 2}, "fr.augment.flip"),
        ({"fr__augment__least_window": 0}, "fr.augment.least_window"),
        ({"fr__augment__photometric_change": 2}, "fr.augment.photometric_change"),
        ({"fr__augment__erased": [0.3, 0.2]}, "fr.augment.erased"),
        ({"fr__schedule": "steps"}, "fr.schedule"),
        ({"generator__channels": [4, 8]}, "generator.channels"),
        ({"training_sets": {"generated": "a"}}, "training_sets.*real"),
        ({"training_sets": {"generated": "a", "real": "b", "../x": "c"}}, "training_sets"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_key(load, changes, named):
    with pytest.raises(InputError, match=named) as raised:
        load(**changes)
    assert "params.yaml" in str(raised.value)


def test_a_single_sigma_needs_no_share(load):
    params = load(sigma=0.3)
    assert (params.sigma, params.sigma_share) == ([0.3], [1.0])


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="absent.yaml"):
        Params.load(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"broken\.yaml.*YAML"):
        Params.load(tmp_path / "broken.yaml")
