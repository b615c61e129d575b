"""Croissant 1.1: what a folder of shards holds, as JSON-LD for machines (mlcommons.org/croissant).

Files with their checksums, the images within them as a set of records, and the general part, which
comes from ``CITATION.cff`` and the run.
"""

from pathlib import Path
from typing import Any

from vec2face.faces.webdataset import shards_of
from vec2face.report.cards import Run, bibtex, pretty_name
from vec2face.runtime.files import sha256

VERSION = "http://mlcommons.org/croissant/1.1"
_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
    *("fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset"),
    *("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in _TERMS}


def croissant(folder: Path, run: Run, licence: str, url: str) -> dict[str, Any]:
    """Return the metadata of the shards in a folder, for ``<folder>/croissant.json``.

    Args:
        folder: what ``convert`` wrote as a WebDataset.
        run: the run that made it.
        licence: an SPDX identifier.
        url: the dataset's page.
    """
    files = [_shard(folder, shard) for shard in shards_of(folder)]
    images = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "description": "The images within the shards.",
        "containedIn": [{"@id": file["@id"]} for file in files],
        "encodingFormat": "image/jpeg",
        "includes": "*/*.jpg",
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": folder.resolve().name,
        "description": (
            f"{pretty_name(run)}: {run.metrics.get('images', 'some')} images of "
            f"{run.metrics.get('identities', 'some')} people who do not exist, "
            f"{run.p.image_size} x {run.p.image_size} pixels."
        ),
        "license": f"https://spdx.org/licenses/{licence}.html",
        "url": url,
        "creator": [
            {"@type": "sc:Organization", "name": author["name"]}
            for author in run.citation["authors"]
        ],
        "datePublished": str(run.citation["date-released"]),
        "version": str(run.citation["version"]),
        "citeAs": bibtex(run.citation["preferred-citation"]),
        "isLiveDataset": False,
        "distribution": [*files, images],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "faces",
                "name": "faces",
                "description": "One record an image.",
                "field": [
                    _field("image", "sc:ImageObject", "The image.", "content"),
                    _field("label", "sc:Integer", "Whose it is.", "fullpath", r"(\d+)/[^/]*$"),
                ],
            }
        ],
    }


def _shard(folder: Path, file: Path) -> dict[str, str]:
    name = file.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": file.name,
        "description": "A shard of images and labels.",
        "contentUrl": name,
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": "application/x-tar",
        "sha256": sha256(file),
    }


def _field(name: str, kind: str, about: str, of: str, regex: str | None = None) -> dict[str, Any]:
    """Return a field that is a property of an image's file, or the part of it that is matched."""
    source: dict[str, Any] = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": of}}
    if regex is not None:
        source["transform"] = {"regex": regex}
    return {
        "@type": "cr:Field",
        "@id": f"faces/{name}",
        "name": name,
        "description": about,
        "dataType": kind,
        "source": source,
    }
