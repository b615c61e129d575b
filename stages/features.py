"""Stage 3, features: what the recognizer sees in the faces.

    python -m stages.features

Reads data/subset, data/held_out and paths.recognizer; writes data/features/train.npy and
held_out.npy, (images, D) float32 in the stores' row order, not normalised. Several processes share
the work, and a killed run goes on where it stopped.
"""

from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.source import open_source
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.runtime.files import link, sweep, whole_folder
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Extract and store."""
    path = Path(Params.load(artifacts.params).paths.recognizer)
    stores = {artifacts.train_features: artifacts.subset}
    stores[artifacts.held_out_features] = artifacts.held_out
    sources = {out: open_source(s, verify=processes().main) for out, s in stores.items()}
    recognizer = open_recognizer(path)
    with resume("features", [], [path, *stores.values()], artifacts.work) as work:
        for out, source in sources.items():
            extract_to(work / out.name, recognizer, source)
        if processes().main:
            sweep(artifacts.features)
            with whole_folder(artifacts.features) as folder:
                for out in sources:
                    link(work / out.name, folder / out.name)


if __name__ == "__main__":
    run(main, shared=True)
