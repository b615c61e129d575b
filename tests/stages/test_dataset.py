"""The stage ``dataset`` with AttrOP, on the random networks of the benchmark's test."""

from pathlib import Path

import pytest
import yaml

from stages import dataset
from tests.benchmarks.test_attrop import folder  # noqa: F401 - a fixture
from tests.parameters import changed
from vec2face.config.params import Params
from vec2face.faces.source import open_source
from vec2face.runtime.files import InputError


def run(p):
    Path("params.yaml").write_text(yaml.safe_dump(p.model_dump(mode="json")))
    dataset.main()


@pytest.mark.usefixtures("folder")
def test_work_on_faces_read_otherwise_is_not_taken_up():
    """Corrupt faces decide what percentiles are aimed at."""
    attrop = {"steps": 0, "unconverged": "drop", "groups": [{"share": 1, "aims": {"yaw": 90}}]}
    p = Params.load("params.yaml")
    p = changed(p, **{f"attrop__{key}": value for key, value in attrop.items()})
    for corrupt in ("stop", "skip"):
        with pytest.raises(InputError, match="nothing is left"):
            run(changed(p, subset__corrupt=corrupt))
    assert len(list(Path("work").iterdir())) == 2


@pytest.mark.usefixtures("folder")
def test_a_data_set_is_made():
    run(changed(Params.load("params.yaml"), attrop__steps=1))
    assert open_source("data/generated").labels.tolist() == [n // 4 for n in range(12)]
