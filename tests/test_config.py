"""Parameter files: the shipped ones hold, a bad value is named before any work."""

import copy
import math
import re
import string
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.parameters import SMOKE, changed
from vec2face.config import params
from vec2face.config.bounds import Backbone, Benchmark
from vec2face.config.document import read_yaml
from vec2face.config.params import RESERVED, Params
from vec2face.config.sections import Section
from vec2face.dataset.perturbation import Perturbation
from vec2face.identities.pca import PCA
from vec2face.recognizers.backbones import DEPTHS, TRANSFORMERS
from vec2face.rendered.benchmarks import KINDS
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[1]
SHIPPED = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


def keys(content, prefix=""):
    """All key paths of nested dicts, but for what AttrOP does and estimators give."""
    for key, value in content.items():
        yield prefix + key
        if isinstance(value, dict) and key not in ("attrop", "outputs"):
            yield from keys(value, f"{prefix}{key}.")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_files_are_valid_and_have_the_same_keys(path):
    Params.load(path)
    wanted = set(keys(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert set(keys(yaml.safe_load(path.read_text()))) == wanted


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_an_experiment_changes_one_line_of_the_file(tmp_path, path):
    """DVC writes the whole file anew for `-S`: it has to be laid out as DVC would lay it out."""
    before = path.read_text().splitlines()
    file = tmp_path / "params.yaml"
    for changes in ([], ["tau=0.125"], ["sampling.seed=9"], ["attrop.groups.0.share=0.03"]):
        file.write_text(path.read_text())
        apply_overrides(file, changes)
        after = file.read_text().splitlines()
        changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(changed) == len(changes), changed


def sections(model=Section):
    """All classes of the configuration, which is in one package."""
    children = [c for c in model.__subclasses__() if c.__module__.startswith("vec2face.config.")]
    return [model, *(found for child in children for found in sections(child))]


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
        ({"perturbation": "isotropic"}, "perturbation: .*'gaussian', 'within' or 'angular'"),
        ({"max_angle": 0}, "max_angle"),
        ({"max_angle": 181}, "max_angle"),
        ({"max_angle": True}, "max_angle: .*not true or false"),
        ({"sampling__noise": "within"}, "sampling.noise"),
        ({"training__lr": "fast"}, "training.lr"),
        ({"image_size": 64}, "image_size"),
        ({"image_size": 112}, "generator.channels"),
        ({"generator__encoder_heads": 7}, "encoder_heads"),
        ({"identities": 0}, "identities"),
        ({"away_from": "faces"}, "away_from"),
        ({"away_from": ["/proc"]}, "away_from.0"),
        ({"away_cosine": 1.1}, "away_cosine"),
        ({"certificates__false_alarm_rate": 0}, "certificates.false_alarm_rate"),
        ({"fr__augment__flip": 2}, "fr.augment.flip"),
        ({"fr__augment__least_window": 0}, "fr.augment.least_window"),
        ({"fr__augment__photometric_change": 2}, "fr.augment.photometric_change"),
        ({"fr__augment__erased": [0.3, 0.2]}, "fr.augment.erased"),
        ({"fr__schedule": "steps"}, "fr.schedule"),
        ({"generator__channels": [4, 8]}, "generator.channels"),
        ({"training_sets": {"generated": "a"}}, "training_sets.*real"),
        ({"training_sets": {"generated": "a", "real": "b", "../x": "c"}}, "training_sets"),
        ({"masked_sets": {"real": {"path": "a", "rows": "b"}}}, "masked_sets: real is in training"),
        ({"masked_sets": {"second": {"path": "a", "rows": "b"}}}, "masked_sets.*another recog"),
        ({"masked_sets": {"x": {"path": "a"}}}, "masked_sets.x.rows"),
        ({"evaluation__flip": "often"}, "evaluation.flip"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_key(load, changes, named):
    with pytest.raises(InputError, match=named) as raised:
        load(**changes)
    assert "params.yaml" in str(raised.value)


TOGETHER = [
    ({"fr__backbone": "resnet50"}, "fr.backbone"),
    ({"fr__widths": [8, 8]}, "fr.widths"),
    ({"fr__backbone": "vit_s"}, "fr.widths"),
    ({"fr__batch": 1}, "fr.batch"),
    ({"fr__batch": 64, "fr__micro_batch": 1}, "fr.micro_batch"),
    ({"fr__batch": 64, "fr__micro_batch": 24}, "fr.micro_batch: 24 does not divide"),
    ({"fr__batch": 6464, "fr__micro_batch": 64, "images_per_identity": 13}, "fr.batch"),
    ({"fr__warmup": 10.5}, "fr.warmup"),
    ({"fr__margin": 1.6}, "fr.margin"),
    ({"fr__head": "sphereface", "fr__margin": 0.3}, "fr.margin: from 1 to 4"),
    ({"fr__head": "sphereface", "fr__margin": 5}, "fr.margin: from 1 to 4"),
    ({"training__micro_batch": 5}, "training.micro_batch: 5 does not divide"),
    ({"training__betas": [1, 1]}, "training.betas.0"),
    ({"training__masks": {"minimum": 0.9, "maximum": 0.8, "mean": 0.85}}, "training.masks"),
    ({"sampling__masks": {"minimum": 0.1, "maximum": 0.8, "mean": 0.9}}, "sampling.masks"),
    ({"seed": 2**32, "subset__rule": "released"}, "seed: below"),
    ({"seed": 2**63}, "seed"),
    ({"identities": 1}, "identities"),
    ({"subset__held_out": 1}, "subset.held_out"),
    ({"training__batch": 6561}, "training.batch: 6561 is above the 6560 images"),
    ({"training__warmup": 3001}, "training.warmup"),
    ({"training__discriminator__kernels": []}, "training.discriminator.kernels"),
    ({"training__discriminator__kernels": [4]}, "training.discriminator.kernels"),
    ({"generator__width": 10**9}, "generator.width"),
    ({"generator__width": 16128, "generator__encoder_blocks": 999}, "generator: width.*weights"),
    ({"generator__position_std": float("inf")}, "generator.position_std"),
    ({"generator__dropout": 1.0}, "generator.dropout"),
    ({"fr__dropout": 1.0}, "fr.dropout"),
    ({"paths__faces": ""}, "paths.faces"),
    ({"paths__faces": "."}, "paths.faces"),
    ({"paths__faces": "x/\0"}, "paths.faces"),
    ({"paths__recognizer": "/proc/self/mem"}, "paths.recognizer"),
    ({"paths__recognizer": "/tmp/../proc/self/mem"}, "paths.recognizer"),
    ({"paths__faces": "../" * 20 + "proc/self"}, "paths.faces"),
    ({"paths__faces": "../" * 20 + "dev/fd/0"}, "paths.faces"),
    ({"sigma": [1e-300], "sigma_share": [1]}, "sigma"),
    ({"fr__lr": 1e-300}, "fr.lr"),
    ({"training__losses__lpips": 1.0}, "training.lpips_weights"),
    ({"rendered__benchmarks": {"$x^{2$": 40}}, "rendered.benchmarks"),
    ({"rendered__benchmarks": {"lfw": 50}}, "rendered.benchmarks.lfw"),
    ({"rendered__benchmarks": {}}, "rendered.benchmarks"),
]


@pytest.mark.parametrize(("changes", "named"), TOGETHER)
def test_what_would_fail_late_ends_before_any_work(load, changes, named):
    with pytest.raises(InputError, match=named):
        load(**changes)


def test_a_training_without_any_loss_is_refused(load):
    losses = yaml.safe_load((ROOT / "params.yaml").read_text())["training"]["losses"]
    kinds = {name: 0 for name in losses if "_" not in name}
    with pytest.raises(InputError, match="training.losses"):
        load(training__losses=losses | kinds)
    load(training__losses=losses | kinds | {"token": 0.1})


@given(name=st.text(max_size=12) | st.from_regex(r"[A-Za-z_0-9;$ /.-]{1,9}", fullmatch=True))
@example(name="x; touch y #")
@example(name="valid\n")
@example(name="\u00e9t\u00e9")
def test_names_of_training_sets_are_safe_in_a_shell(name):
    content = {"generated": "data/a", "real": "data/b", name: "data/c"}
    plain = all(c in string.ascii_letters + string.digits + "_" for c in name)
    fine = plain and name[:1] not in string.digits and name not in RESERVED
    changes = {"training_sets": content}
    if fine:
        assert changed(SMOKE, **changes).training_sets[name] == "data/c"
    else:
        with pytest.raises(ValidationError, match="training_sets"):
            changed(SMOKE, **changes)


def leaves(content, place=()):
    """All places of values in nested dicts and lists, lists themselves included."""
    if not isinstance(content, dict):
        yield place
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            yield from leaves(value, (*place, key))


PAPER = yaml.safe_load((ROOT / "params/paper.yaml").read_text())
LEAVES = list(leaves(PAPER))
BAD = [
    *(math.nan, math.inf, -math.inf, -1, -0.5, -1e300, 1e300, 2**63, 10**12, 10**400),
    *(True, None, "", " ", "x; touch y #", "a\0b", "x" * 2000, {}, {"a": 1}, [], [[]], [-1.5]),
]
EMPTY = ("training.lpips_weights", "fr.widths", "fr.milestones", "away_from")  # may be "" or []
NULLS = ("micro_batch", ".seed", ".side", "attrop", ".judge")
FREE = (".box.", ".mean.", ".aims.")  # numbers of either sign
SIGNED = ("tau", "min_similarity", "away_cosine")  # cosines


def at(content, place):
    for key in place:
        content = content[key]
    return content


def fine(name, old, new):
    """Whether documentation allows a bad-looking value where another one of this file stands."""
    if isinstance(new, bool) or new is None:
        return isinstance(old, bool) if new else name.endswith(NULLS)
    if new in ("", []):
        return name in EMPTY or name.endswith((".opposite", ".classes"))
    if isinstance(new, int | float):
        return math.isfinite(new) and (
            0 <= new <= 10**9
            or (name.endswith("seed") and 0 <= new < 2**63)
            or ((name in SIGNED or any(free in name for free in FREE)) and new >= -1)
        )
    if name.endswith(".mean"):
        return new == [-1.5]
    return isinstance(new, str) and isinstance(old, str) and new == "x; touch y #"  # a path


def refusal(content, monkeypatch):
    """What ``Params.load`` says of a file with this content; None if it takes it."""
    monkeypatch.setattr(params, "read_yaml", lambda _: content)
    try:
        Params.load(ROOT / "params/paper.yaml")
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("place", LEAVES, ids=lambda place: ".".join(map(str, place)))
def test_no_bad_value_of_any_key_is_taken(place, monkeypatch):
    name = ".".join(map(str, place))
    for bad in BAD:
        content = copy.deepcopy(PAPER)
        at(content, place[:-1])[place[-1]] = bad
        said = refusal(content, monkeypatch)
        if said is None:
            assert fine(name, at(PAPER, place), bad), f"{name}: {bad!r} was taken"
        else:  # combinations are said of the section: "training.masks: minimum <= ..."
            assert all(part in said for part in place if isinstance(part, str)), bad


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: " + b"[" * 5000, b"a: 2024-99-99"])
def test_what_is_no_text_or_no_yaml_is_named(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(InputError, match="params.yaml"):
        Params.load(tmp_path / "params.yaml")


def test_a_link_into_the_system_is_no_data(load, tmp_path):
    (tmp_path / "link").symlink_to("/proc")
    with pytest.raises(InputError, match="paths.faces"):
        load(paths__faces=str(tmp_path / "link/self"))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("\ntau: ", "\ntau: 0.1\ntau: ", "tau stands twice"),
        ("\n  epochs: 10\n", "\n  epochs: 10\n  'epochs': 11\n", "epochs stands twice"),
        ("{minimum: 0.5,", "{minimum: 0.5, minimum: 0.5,", "minimum stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_named(tmp_path, old, new, named):
    text = (ROOT / "params.yaml").read_text()
    assert text.count(old) == 1
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf"params\.yaml: {named}"):
        Params.load(tmp_path / "params.yaml")


def test_merged_keys_may_be_overridden(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n"
    (tmp_path / "merged.yaml").write_text(text)
    assert read_yaml(tmp_path / "merged.yaml")["c"] == {"x": 3, "y": 4}


@pytest.mark.parametrize("content", ["[" * 100_000, "{a: " * 50, "- " * 50, "# " * 2**18])
def test_deep_and_large_files_are_refused(tmp_path, content):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(InputError, match=r"params\.yaml: is .*(within one another|bytes)"):
        Params.load(tmp_path / "params.yaml")


def test_doubtful_choices_are_named_and_allowed(load):
    assert not list(load().doubts())
    faces = "data/rendered/faces"
    recognizer = "models/rendered/identity.onnx"
    same = load(paths__pca_faces=faces, paths__second_recognizer=recognizer).doubts()
    assert [line.split(":")[0] for line in same] == ["paths.pca_faces", "paths.second_recognizer"]
    same = load(paths__pca_faces=f"./{faces}", paths__second_recognizer=f"x/../{recognizer}")
    assert len(list(same.doubts())) == 2
    sets = {"generated": "data/generated", "real": "data/./generated", "own": "own"}
    (twice,) = load(training_sets=sets).doubts()
    assert twice == "training_sets.real: the same as training_sets.generated"
    sets["real"] = "real"
    masked = {name: {"path": "own", "rows": f"{name}.npy"} for name in ("one", "other")}
    assert not list(load(training_sets=sets, masked_sets=masked).doubts())
    (many,) = load(fr__batch=10**9).doubts()
    assert many.startswith("fr.batch: 1000000000 is above the 6400 images")
    (unused,) = load(sampling={**SMOKE.sampling.model_dump(), "released": True}).doubts()
    assert "min_similarity and sampling.jpeg_quality are not used" in unused
    (unused,) = load(perturbation="angular").doubts()
    assert "sigma, sigma_... and sampling.rescale are not used" in unused


def test_names_that_the_file_may_give_are_those_of_the_library():
    backbones = {f"{kind}iresnet{depth}" for kind in ("", "se_") for depth in DEPTHS}
    assert set(get_args(Backbone)) == backbones | TRANSFORMERS.keys() | {"mobilefacenet"}
    assert set(get_args(Benchmark)) == KINDS.keys()


def test_a_single_sigma_needs_no_share(load):
    params = load(sigma=0.3)
    assert (params.sigma, params.sigma_share) == ([0.3], [1.0])


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="absent.yaml"):
        Params.load(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"broken\.yaml.*YAML"):
        Params.load(tmp_path / "broken.yaml")


def test_seeds_of_sampling_and_fr_are_the_experiments_unless_given(load):
    """Three seeds: data are drawn by one, people by another, recognizers trained by a third."""
    same = load(seed=5)
    assert (same.sampling_seed, same.fr_seed) == (5, 5)
    apart = load(seed=5, sampling__seed=6, fr__seed=0, perturbation="gaussian")
    assert (apart.seed, apart.sampling_seed, apart.fr_seed) == (5, 6, 0)
    assert Perturbation.of(apart, PCA(np.ones(4), np.eye(4), np.ones(4), 1.0, 4)).seed == 6


AIMED = {
    "mode": "ours",
    "attributes": {
        "yaw": {
            "estimator": "pose", "judge": None, "kind": "absolute", "scale": 30, "tolerance": 5,
        },
    },
    "groups": [{"share": 0.4, "aims": {"yaw": 60}}],
    "steps": 10, "rate": 0.1, "identity": 1, "slots": 4, "unconverged": "best", "attempts": 1,
}  # fmt: skip
YAW = {"estimator": "pose", "judge": "second_pose", "kind": "absolute", "scale": 1, "tolerance": 5}
PRINTED = AIMED | {"mode": "printed", "attributes": {"yaw": YAW}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"estimators__pose__takes__box": [0.5, 0, 0.5, 1]}, "estimators.pose.takes.box"),
        ({"estimators__pose__takes__std": [1, 1]}, "estimators.pose.takes.std"),
        ({"estimators__pose__gives__reading": "expectation"}, "estimators.pose.gives.classes"),
        ({"estimators__pose__gives__opposite": ["roll"]}, "estimators.pose.gives.opposite"),
        ({"attrop": AIMED | {"attributes": {}}}, "attrop.groups.0.aims.yaw"),
        ({"attrop": AIMED | {"groups": 2 * [{"share": 0.6, "aims": {"yaw": 1}}]}}, "attrop.groups"),
        (
            {"attrop": AIMED | {"groups": [{"share": 1, "aims": {"yaw": "p101"}}]}},
            "attrop.groups",
        ),
        (
            {"attrop": AIMED | {"groups": [{"share": 0.02, "aims": {"yaw": 1}}]}},
            "attrop.groups.0.share: 0.02 of images_per_identity = 16",
        ),
        (
            {"attrop": AIMED | {"groups": [{"share": 1, "aims": {"yaw": -60}}]}},
            "attrop.groups.0.aims.yaw: an absolute value, not -60",
        ),
        ({"estimators__quality__takes__side": 224}, "estimators.quality.takes.side: null"),
        ({"estimators__quality__takes__channels": "bgr"}, "estimators.quality.takes.channels: rgb"),
        ({"estimators__quality__takes__mean": [0, 0.5, 0.5]}, "quality.takes.mean: [0.5]"),
        ({"estimators__quality__takes__std": [1]}, "estimators.quality.takes.std: [0.5]"),
        (
            {"attrop": AIMED | {"attributes": {"yaw": YAW | {"estimator": "judge"}}}},
            "attrop.attributes.yaw.estimator: pose or quality or second_pose",
        ),
        (
            {"attrop": AIMED | {"attributes": {"yaw": YAW | {"judge": "quality"}}}},
            "attrop.attributes.yaw.judge: estimators.quality gives no such output",
        ),
        (
            {"attrop": AIMED | {"attributes": {"yaw": YAW | {"judge": "pose"}}}},
            "attrop.attributes.yaw.judge: another than the estimator",
        ),
        (
            {
                "attrop": AIMED | {"attributes": {"yaw": YAW}},
                "estimators__second_pose__gives__outputs": {"yaw": "radians"},
            },
            "attrop.attributes.yaw.judge: estimators.second_pose gives it in radians",
        ),
        (
            {"training__losses__sampled": 0.3, "training__losses__sampled_share": 0.1},
            "training.losses.sampled_share: 0.1 of 32 images",
        ),
        ({"attrop": AIMED | {"steps": -1}}, "attrop.steps"),
        ({"attrop": AIMED | {"mode": "theirs"}}, "attrop.mode"),
        ({"attrop": AIMED | {"mode": "printed"}}, "attrop.attributes.yaw.scale"),
        ({"attrop": PRINTED | {"identity": 100}}, "attrop.identity"),
        ({"attrop": PRINTED | {"unconverged": "drop"}}, "attrop.unconverged"),
        (
            {"attrop": AIMED | {"mode": "released", "unconverged": "again"}},
            "attrop.unconverged",
        ),
    ],
)
def test_what_attrop_and_estimators_cannot_do_is_named(load, changes, named):
    assert load(attrop=AIMED).attrop.groups[0].aims == {"yaw": 60}
    assert load(attrop=PRINTED).attrop.mode == "printed"
    with pytest.raises(InputError, match=re.escape(named)):
        load(**changes)
