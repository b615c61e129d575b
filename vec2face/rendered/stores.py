"""Write the rendered stores: faces for training, and the people who stand for MS1MV2."""

from pathlib import Path

import numpy as np

from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.rendered.conditions import Regime
from vec2face.rendered.produce import ATTRIBUTES, Sitting, Who, produce
from vec2face.runtime.files import whole_folder

# A small generator can learn from ``mild``; a recognizer must get used to ``wide``.
REGIMES = {
    "mild": Regime(),
    "wide": Regime(
        yaw=45, yaw_limit=90, pitch=9, age_spread=13, expression=1.3, light=0.6, exposure=0.6,
        background=1.0, restyle=0.35, extra_glasses=0.05, blur=1.4, noise=0.02, grey=0.05,
        jpeg=(60, 95), jitter=0.8, cast=0.06,
    ),
}  # fmt: skip


def write_store(
    head: Path | str,
    path: Path | str,
    *,
    seed: int,
    people: int,
    images: int,
    size: int,
    regime: str = "mild",
    made_by: str,
) -> None:
    """Render ``people`` x ``images`` faces to a FaceStore, one identity after the other.

    The folder's name is the name of the population, so stores of other names hold other people. The
    folder ``<path>-attributes`` holds a .npy for each known attribute, in row order: yaw and pitch
    in degrees, age in years, exposure in stops, blur in pixels.
    """
    path = Path(path)
    shots = tuple((number, REGIMES[regime]) for number in range(images))
    sittings = [Sitting(Who(path.name, i), shots) for i in range(people)]
    known: dict[str, list[float]] = {name: [] for name in ATTRIBUTES}
    with FaceStoreWriter(path, image_size=size, seed=seed, made_by=made_by) as store:
        for label, pictures in enumerate(produce(head, seed, size, sittings, what=path.name)):
            for picture in pictures:
                store.append(picture.jpeg, label)
                for name in ATTRIBUTES:
                    known[name].append(getattr(picture, name))
    with whole_folder(path.with_name(f"{path.name}-attributes")) as folder:
        for name, values in known.items():
            np.save(folder / f"{name}.npy", np.array(values, np.float32))
