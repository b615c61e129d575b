"""The commands of docs/publishing.md that are DVC's, on a small repository and real remotes."""

import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.cli import main as dvc

from tests.commands import shown
from tests.parameters import ROOT

PAGE = ROOT / "docs/publishing.md"
ARTIFACTS = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
SHARE, URL, ENDPOINT = "/srv/vec2face", "https://example.org/vec2face.git", "https://s3.example.org"


def commands(*starts):
    """The page's commands that begin so, as lists of words."""
    return [words for words in shown(PAGE) if " ".join(words).startswith(starts)]


def run(words, **instead):
    """Run one of them with other words in the place of some."""
    words = [instead.get(word, word) for word in words]
    if words[0] == "git":
        subprocess.run(words, check=True, capture_output=True)
    else:
        assert dvc(words[1:]) == 0, words


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A clone's worth of this project: its artifacts, each made by a line of shell."""
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{who}_{name}", "a@example.org")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    path = tmp_path / "repository"
    path.mkdir()
    monkeypatch.chdir(path)
    subprocess.run(["git", "init", "-q"], check=True)
    assert dvc(["init", "-q"]) == 0
    paths = [artifact["path"] for artifact in ARTIFACTS.values()]
    make = [
        f"mkdir {path} && echo {path} > {path}/part" if Path(path).suffix == "" else
        f"echo {path} > {path}"
        for path in paths
    ]  # fmt: skip
    stage = {"cmd": ["mkdir -p models/fr data", *make], "outs": paths}
    content = {"stages": {"all": stage}, "artifacts": ARTIFACTS}
    Path("dvc.yaml").write_text(yaml.safe_dump(content))
    assert dvc(["repro", "-q"]) == 0
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "-qm", "all"], check=True)
    return path


def test_every_artifact_is_an_output_of_the_pipeline():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = set()
    for stage in stages.values():
        keys = stage.get("foreach") and ["generated", "real"]
        for out in stage.get("do", stage).get("outs", []):
            name = out if isinstance(out, str) else next(iter(out))
            outs |= {name.replace("${key}", key) for key in keys} if keys else {name}
    assert {artifact["path"] for artifact in ARTIFACTS.values()} <= outs


def test_a_folder_is_a_remote_and_artifacts_come_by_name(repository, tmp_path, monkeypatch):
    add, push, pull = commands("dvc remote add --default", "dvc push", "dvc pull")[:3]
    assert (push, pull) == (["dvc", "push"], ["dvc", "pull"])
    run(add, **{SHARE: str(tmp_path / "share")})
    run(push)
    subprocess.run(["git", "commit", "-qam", "a remote"], check=True)
    (tag,) = commands("git tag")
    run(tag)

    subprocess.run(["git", "clone", "-q", str(repository), str(tmp_path / "clone")], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    run(pull)
    assert Path("data/generated/part").read_text() == "data/generated\n"

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    latest, old = commands("dvc artifacts get")
    run(latest, **{URL: str(tmp_path / "clone")})
    run(old, **{URL: str(tmp_path / "clone")})
    weights = "models/generator.safetensors\n"
    assert Path("generator.safetensors").read_text() == weights
    assert Path("old.safetensors").read_text() == weights
    assert dvc(["artifacts", "get", str(tmp_path / "clone"), "dataset"]) != 0  # has no version


def test_a_bucket_is_a_remote(repository, tmp_path, monkeypatch):
    """On a server of its own, which speaks S3's language."""
    pytest.importorskip("dvc_s3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        import boto3  # noqa: PLC0415

        key = {"aws_access_key_id": "NAME", "aws_secret_access_key": "SECRET"}
        endpoint = f"http://{host}:{port}"
        bucket = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **key)
        bucket.create_bucket(Bucket="faces")
        for words in commands("dvc remote add bucket", "dvc remote modify", "dvc push --remote"):
            run(words, **{ENDPOINT: endpoint})
        assert "SECRET" not in Path(".dvc/config").read_text()
        assert len(bucket.list_objects_v2(Bucket="faces")["Contents"]) == 1
        for file in (repository / ".dvc/cache", repository / "models"):
            file.rename(tmp_path / file.name)
        assert dvc(["pull", "--remote", "bucket", "models/generator.safetensors"]) == 0
        made = Path("models/generator.safetensors").read_text()
        assert made == "models/generator.safetensors\n"
    finally:
        server.stop()
