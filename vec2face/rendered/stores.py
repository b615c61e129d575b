"""Write the rendered stores: faces for training, and the people who stand for MS1MV2."""

from dataclasses import replace
from pathlib import Path

from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.rendered.conditions import Regime
from vec2face.rendered.produce import Attributes, Sitting, Who, produce, save_attributes

# Training pictures vary as the benchmarks do, profiles included. What judges pictures sees more.
REGIMES = {
    "ordinary": Regime(),
    "wide": replace(
        Regime(), yaw=45, light=0.6, exposure=0.6, extra_glasses=0.05, blur=1.4, noise=0.02,
        grey=0.05, jpeg=(60, 95), jitter=0.8, cast=0.06,
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
    work: Path,
    regime: str = "ordinary",
    made_by: str,
) -> None:
    """Render ``people`` x ``images`` faces to a FaceStore, one identity after the other.

    The folder's name is the name of the population, so stores of other names hold other people. The
    folder ``<path>-attributes`` holds a .npy for each of ``produce.Attributes``, in row order.
    Finished pictures are kept in ``work`` (``produce``).
    """
    path = Path(path)
    shots = tuple((number, REGIMES[regime]) for number in range(images))
    sittings = [Sitting(Who(path.name, i), shots) for i in range(people)]
    known: list[Attributes] = []
    taken = produce(head, seed, size, sittings, work, what=path.name)
    with FaceStoreWriter(path, image_size=size, seed=seed, made_by=made_by) as store:
        for label, pictures in enumerate(taken):
            for picture in pictures:
                store.append(picture.jpeg, label)
                known.append(picture.known)
    save_attributes(path.with_name(f"{path.name}-attributes"), known)
