"""Code made ready: what is built, what is served from where it lies, and overlays that follow their sources."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from cloudlet.errors import AwsError
from cloudlet.stacks import overlay
from cloudlet.stacks.builds import Builds, Code
from cloudlet.stacks.package import LOCAL, Packager


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_to_install(tmp_path: Path) -> None:
    builds, source = Builds(tmp_path / "builds"), tmp_path / "src"
    write(source / "app.py", "")
    assert builds.make(Code("Fn", source, "python3.12")) == source
    write(source / "requirements.txt", "# nothing\n\n")
    assert builds.make(Code("Fn", source, "python3.12")) == source
    write(source / "requirements.txt", "six\n")
    (source / "six-1.0.dist-info").mkdir()
    assert builds.make(Code("Fn", source, "python3.12")) == source
    write(source / "package.json", json.dumps({"dependencies": {"left-pad": "1"}}))
    (source / "node_modules").mkdir()
    assert builds.make(Code("Fn", source, "nodejs22.x")) == source
    assert not (tmp_path / "builds").exists()


def test_an_archive_and_a_layer(tmp_path: Path) -> None:
    builds = Builds(tmp_path / "builds")
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", "x = 1")
    assert (builds.make(Code("Fn", archive, "python3.12")) / "app.py").read_text() == "x = 1"
    module = write(tmp_path / "layer" / "mod.py", "1")
    layer = Code("Layer", tmp_path / "layer", metadata={"BuildMethod": "python3.12"}, layer=True)
    first = builds.make(layer)
    assert (first / "python" / "mod.py").read_text() == "1"
    assert builds.make(layer) == first
    module.write_text("2")
    assert builds.make(layer) != first


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")
def test_esbuild_of_the_codes_own_packages(tmp_path: Path) -> None:
    tool = "#!/bin/sh\ncat $1 node_modules/dep/index.js > ${5#--outdir=}/app.js\n"
    write(tmp_path / "tool" / "run.sh", tool).chmod(0o755)
    write(tmp_path / "tool" / "package.json", '{"name": "esbuild", "version": "1.0.0", "bin": {"esbuild": "run.sh"}}')
    write(tmp_path / "dep" / "package.json", '{"name": "dep", "version": "1.0.0"}')
    write(tmp_path / "dep" / "index.js", "dep")
    needs = {"devDependencies": {"esbuild": f"file:{tmp_path}/tool"}, "dependencies": {"dep": f"file:{tmp_path}/dep"}}
    write(tmp_path / "src" / "package.json", json.dumps(needs))
    write(tmp_path / "src" / "app.ts", "app ")
    metadata = {"BuildMethod": "esbuild", "BuildProperties": {"EntryPoints": ["app.ts"], "Minify": True}}
    built = Builds(tmp_path / "builds").make(Code("Fn", tmp_path / "src", "nodejs22.x", metadata))
    assert (built / "app.js").read_text() == "app dep"
    assert not (tmp_path / "src" / "node_modules").exists()


def test_makefile(tmp_path: Path) -> None:
    said: list[str] = []
    builds = Builds(tmp_path / "builds", said.append)
    write(tmp_path / "src" / "Makefile", "build-Fn:\n\tcp in.txt $(ARTIFACTS_DIR)/out.txt\n")
    write(tmp_path / "src" / "in.txt", "made")
    code = Code("Fn", tmp_path / "src", "provided.al2023", {"BuildMethod": "makefile"})
    assert (builds.make(code) / "out.txt").read_text() == "made"
    builds.make(code)
    assert said == ["Building Fn with make"]
    write(tmp_path / "src" / "Makefile", "build-Fn:\n\techo no way; false\n")
    with pytest.raises(AwsError, match=r"Fn could not be built:(.|\n)*no way"):
        builds.make(code)
    with pytest.raises(AwsError, match="BuildMethod rust-cargolambda"):
        builds.make(Code("Fn", tmp_path / "src", metadata={"BuildMethod": "rust-cargolambda"}))


def test_an_overlay_follows_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "builds" / "code"
    write(tmp_path / "deps" / "dep.py", "dep")
    app = write(source / "app.py", "one")
    write(source / "pkg" / "mod.py", "mod")
    overlay.lay(target, tmp_path / "deps", source)
    assert sorted(str(path.relative_to(target)) for path in overlay.files(target)) == ["app.py", "dep.py", "pkg/mod.py"]
    assert overlay.source_of(target) == source
    assert overlay.source_of(source) is None
    app.write_text("two!")
    os.unlink(source / "pkg" / "mod.py")
    overlay.refresh(target)
    assert (target / "app.py").read_text() == "two!"
    assert not (target / "pkg" / "mod.py").exists()
    # A dependency's own file is not written through the overlay.
    write(source / "dep.py", "mine")
    overlay.refresh(target)
    assert ((target / "dep.py").read_text(), (tmp_path / "deps" / "dep.py").read_text()) == ("mine", "dep")


def test_paths_become_places(tmp_path: Path) -> None:
    write(tmp_path / "fn" / "app.py", "")
    write(tmp_path / "api.yaml", "openapi: 3.0.1\npaths: {}\n")
    write(tmp_path / "flow.asl.json", '{"StartAt": ${A}}')
    write(tmp_path / "inner.yaml", "Resources: {Q: {Type: AWS::SQS::Queue}}")
    template = write(
        tmp_path / "template.yaml",
        """
        Globals: {Function: {CodeUri: fn, Runtime: python3.12}}
        Resources:
          Fn: {Type: AWS::Serverless::Function}
          Inline: {Type: AWS::Serverless::Function, Properties: {InlineCode: x}}
          Plain: {Type: AWS::Lambda::Function, Properties: {Code: fn}}
          Far: {Type: AWS::Lambda::Function, Properties: {Code: {S3Bucket: b, S3Key: k}}}
          Api: {Type: AWS::Serverless::Api, Properties: {DefinitionUri: api.yaml}}
          Flow: {Type: AWS::StepFunctions::StateMachine, Properties: {DefinitionS3Location: flow.asl.json}}
          Nested: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: inner.yaml}}
          Asset:
            Type: AWS::Lambda::Function
            Metadata: {"aws:asset:path": fn, "aws:asset:property": Code}
            Properties: {Code: {S3Bucket: cdk, S3Key: x}}
        """,
    )
    packager = Packager(tmp_path / "kept")
    found = json.loads(packager.body(template))
    properties = {name: resource.get("Properties", {}) for name, resource in found["Resources"].items()}
    folder = str(tmp_path / "fn")
    assert properties["Fn"]["CodeUri"] == {"Bucket": LOCAL, "Key": folder}
    assert "CodeUri" not in properties["Inline"]
    assert properties["Plain"]["Code"] == properties["Asset"]["Code"] == {"S3Bucket": LOCAL, "S3Key": folder}
    assert properties["Far"]["Code"] == {"S3Bucket": "b", "S3Key": "k"}
    assert properties["Api"] == {"DefinitionBody": {"openapi": "3.0.1", "paths": {}}}
    flow = properties["Flow"]["DefinitionS3Location"]
    assert (flow["Bucket"], Path(flow["Key"]).read_text()) == (LOCAL, '{"StartAt": ${A}}')
    nested = Path(properties["Nested"]["TemplateURL"].removeprefix("file://"))
    assert json.loads(nested.read_text()) == {"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}
    assert packager.body(template) == packager.body(template)
    # A function without code has the template's own folder.
    write(
        template,
        "Resources: {Fn: {Type: AWS::Serverless::Function}, I: {Type: AWS::Serverless::Function, Properties: "
        "{PackageType: Image}}}",
    )
    resources = json.loads(packager.body(template))["Resources"]
    assert resources["Fn"]["Properties"]["CodeUri"]["Key"] == str(tmp_path)
    assert resources["I"]["Properties"] == {"PackageType": "Image"}
