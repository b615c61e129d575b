"""Where the artefacts of the pipeline lie: every path that a stage reads or writes.

All lie below one root, so that another root is another run of the pipeline: it may link what it
does not change. ``VEC2FACE_ROOT`` names it; by default it is the current folder, and ``dvc.yaml``
names the same paths. Inputs under ``paths`` and ``training_sets`` of the parameters are relative to
the current folder.
"""

import os
from pathlib import Path


class Artifacts:
    """The paths below a root; see ``docs/pipeline.md`` for what they hold."""

    def __init__(self, root: Path) -> None:
        data, models, reports = root / "data", root / "models", root / "reports"
        self.root = root
        self.params = root / "params.yaml"
        # Unfinished work, which can be made again. DVC names the repository's own folder also to an
        # experiment in a temporary copy of it; so the work outlives the copy, and another finds it.
        home = Path(os.environ.get("DVC_ROOT", root))
        self.work = Path(os.environ.get("VEC2FACE_WORK", home / "work"))
        self.code = data / "code"  # code

        self.subset = data / "subset"  # subset
        self.held_out = data / "held_out"
        self.features = data / "features"  # features
        self.train_features = self.features / "train.npy"
        self.held_out_features = self.features / "held_out.npy"
        self.generator = models / "generator.safetensors"  # generator
        self.generator_curve = reports / "curves" / "generator.csv"
        self.pca = models / "pca.npz"  # pca
        self.identities = data / "identities.npy"  # identities
        self.certificate = reports / "sampling.json"
        self.generated = data / "generated"  # dataset
        self.generated_vectors = data / "generated_vectors.npy"
        self.perturbation = reports / "perturbation.json"
        self.originals = data / "originals"  # originals
        self.recognizers = models / "fr"  # recognizer
        self.curves = reports / "curves"
        self.generated_features = data / "generated_features.npy"  # measure
        self.quality = reports / "quality.json"
        self.image_features = data / "image_features"  # labels
        self.labels = reports / "labels.json"
        self.leaks = reports / "leaks.json"  # leaks
        self.evaluation = reports / "evaluation.json"  # evaluate
        self.roc = self.curves / "roc.csv"
        self.metrics = reports / "metrics.json"  # report
        self.tables = reports / "tables"
        self.figures = reports / "figures"
        self.page = reports / "index.html"

        self.rendered = data / "rendered"  # the stand-in faces
        self.head = self.rendered / "head.npz"
        self.rendered_benchmarks = self.rendered / "benchmarks"
        self.rendered_benchmarks_attributes = self.rendered / "benchmarks-attributes"
        self.rendered_estimators = models / "rendered"

    def features_of_images(self, prefix: str) -> Path:
        """Return the features of the generated images: of the loss's recognizer, or ``second_``."""
        return self.image_features / f"{prefix}features.npy"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders in which the outputs lie."""
        models, reports = self.recognizers.parent, self.curves.parent
        return self.subset.parent, models, self.recognizers, reports, self.curves, self.work

    def recognizer(self, name: str) -> Path:
        """Return the file of the recognizer that was trained on a set."""
        return self.recognizers / f"{name}.safetensors"

    def recognizer_curve(self, name: str) -> Path:
        """Return the curve of its training."""
        return self.curves / f"fr_{name}.csv"

    def rendered_store(self, name: str) -> Path:
        """Return a store of rendered faces; its attributes lie beside it."""
        return self.rendered / name


artifacts = Artifacts(Path(os.environ.get("VEC2FACE_ROOT", ".")))
