"""A template of this machine made ready to deploy: what it names by paths beside it becomes what a service can take.

As ``sam build`` and ``aws cloudformation package`` do, but nothing is uploaded: code is served from where it lies.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloudlet.errors import AwsError
from cloudlet.stacks import images
from cloudlet.stacks.builds import Builds, Code
from cloudlet.stacks.errors import invalid
from cloudlet.stacks.parse import document, parse

LOCAL = "hot-reload"  # the bucket that means a folder of this machine, to Lambda
_REMOTE = ("s3://", "http://", "https://")
# Type -> its property that names code.
_CODE = {
    "AWS::Lambda::Function": "Code",
    "AWS::Lambda::LayerVersion": "Content",
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
}
# Type -> its property that names a document, and the one that holds it.
_DOCUMENTS = {
    "AWS::ApiGateway::RestApi": ("BodyS3Location", "Body"),
    "AWS::ApiGatewayV2::Api": ("BodyS3Location", "Body"),
    "AWS::Serverless::Api": ("DefinitionUri", "DefinitionBody"),
    "AWS::Serverless::HttpApi": ("DefinitionUri", "DefinitionBody"),
}
# Type -> its property that names a text which its service reads itself, since it may be no document yet:
# ``"Seconds": ${Wait}`` is a number once its substitutions are made.
_TEXTS = {
    "AWS::Serverless::StateMachine": "DefinitionUri",
    "AWS::StepFunctions::StateMachine": "DefinitionS3Location",
}
_TEMPLATES = {"AWS::CloudFormation::Stack": "TemplateURL", "AWS::Serverless::Application": "Location"}
_DEEPEST = 20


class Packager:
    """Packages templates; what has to be kept is kept under one folder. Blocks: call it in a thread."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda words: None) -> None:
        self._folder = folder
        self._builds = Builds(folder / "builds", say)
        self.say = say

    def body(self, template: Path, depth: int = 0) -> str:
        """The template as JSON without local paths. Raises ValidationError that names all that is wrong."""
        try:
            text = template.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise invalid(f"The template {template} cannot be read: {error}") from None
        if depth > _DEEPEST:
            raise invalid(f"The template {template} is nested too deeply.")
        return json.dumps(_Work(self, self._builds, template, parse(text, aliases=True), depth).done())

    def keep(self, body: str) -> str:
        """A URL of this machine for a nested template or an included document."""
        folder = self._folder / "templates"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{hashlib.sha256(body.encode()).hexdigest()[:32]}.json"
        if not file.is_file():
            aside = file.with_suffix(".new")
            aside.write_text(body)
            aside.replace(file)
        return f"file://{file}"


class _Work:
    """One template on its way."""

    def __init__(self, packager: Packager, builds: Builds, template: Path, body: dict[str, Any], depth: int) -> None:
        self._packager = packager
        self._builds = builds
        self._folder = template.resolve().parent
        self._built = ".aws-sam" in self._folder.parts  # by sam build, which leaves nothing to do
        self._body = body
        self._depth = depth
        self._problems: list[str] = []

    def done(self) -> dict[str, Any]:
        """The packaged template."""
        resources = self._body.get("Resources")
        found = {
            name: resource
            for name, resource in (resources.items() if isinstance(resources, dict) else ())
            if isinstance(resource, dict) and isinstance(resource.setdefault("Properties", {}), dict)
        }
        globals_ = self._globals()
        code: list[tuple[dict[str, Any], str, Code]] = []
        for name, resource in found.items():
            self._use_assets(resource)
            kind, properties = str(resource.get("Type", "")), resource["Properties"]
            if kind == "AWS::Serverless::Function":
                for key in ("CodeUri", "Runtime"):
                    if key in globals_ and key not in properties and not properties.keys() & {"InlineCode", "ImageUri"}:
                        properties[key] = globals_[key]
                packed = properties.get("PackageType", globals_.get("PackageType", "Zip"))
                if packed == "Zip" and not properties.keys() & {"CodeUri", "InlineCode", "ImageUri"}:
                    properties["CodeUri"] = "."  # the template's own folder
                if packed == "Image":
                    self._put_image(name, resource)
            elif kind == "AWS::Lambda::Function" and properties.get("PackageType") == "Image":
                self._put_image(name, resource)
            if kind in _CODE and (path := self._path(name, properties, _CODE[kind])):
                runtime = properties.get("Runtime", "")
                metadata = resource.get("Metadata") if isinstance(resource.get("Metadata"), dict) else {}
                known = Code(name, path, runtime if isinstance(runtime, str) else "", metadata or {}, "Layer" in kind)
                code.append((resource, _CODE[kind], known))
            elif kind in _DOCUMENTS:
                self._put_document(name, properties, *_DOCUMENTS[kind])
            elif kind in _TEXTS and (path := self._path(name, properties, _TEXTS[kind])):
                kept = self._packager.keep(path.read_text()).removeprefix("file://")
                properties[_TEXTS[kind]] = {"Bucket": LOCAL, "Key": kept}
            elif kind == "AWS::ECS::TaskDefinition":
                self._put_images(name, properties)
            elif kind in _TEMPLATES and (path := self._path(name, properties, _TEMPLATES[kind])):
                body = self._packager.body(path, self._depth + 1)
                properties[_TEMPLATES[kind]] = self._packager.keep(body)
        self._include(self._body)
        if self._problems:
            raise invalid("\n".join(self._problems))
        self._build(code)
        for resource in found.values():
            if not resource["Properties"]:
                del resource["Properties"]
        return self._body

    def _globals(self) -> dict[str, Any]:
        """What Globals say of all functions; a path in it is moved into each of them."""
        section = self._body.get("Globals")
        function = section.get("Function") if isinstance(section, dict) else None
        if not isinstance(function, dict):
            return {}
        found = {key: function[key] for key in ("CodeUri", "Runtime", "PackageType") if key in function}
        function.pop("CodeUri", None)
        if not function:
            del section["Function"]  # type: ignore[union-attr]
        return found

    def _build(self, code: list[tuple[dict[str, Any], str, Code]]) -> None:
        with ThreadPoolExecutor(4) as threads:
            made = list(threads.map(self._made, [one for _, _, one in code]))
        problems = [str(error.message) for error in made if isinstance(error, AwsError)]
        if problems:
            raise invalid("\n".join(problems))
        for (resource, name, _), folder in zip(code, made, strict=True):
            serverless = str(resource["Type"]).startswith("AWS::Serverless::")
            bucket, key = ("Bucket", "Key") if serverless else ("S3Bucket", "S3Key")
            resource["Properties"][name] = {bucket: LOCAL, key: str(folder)}

    def _made(self, code: Code) -> Path | AwsError:
        if code.path.is_dir() and (self._built or code.metadata.get("aws:asset:path")) and not code.layer:
            return code.path
        try:
            return self._builds.make(code)
        except AwsError as error:
            return error

    def _use_assets(self, resource: dict[str, Any]) -> None:
        """The CDK says beside a place in S3 where the asset lies on this machine."""
        metadata = resource.get("Metadata")
        path = metadata.get("aws:asset:path") if isinstance(metadata, dict) else None
        name = metadata.get("aws:asset:property") if isinstance(metadata, dict) else None
        if isinstance(path, str) and isinstance(name, str) and (self._folder / path).exists():
            resource["Properties"][name] = path

    def _path(self, name: str, properties: dict[str, Any], key: str) -> Path | None:
        """The local path that a property names, or None when it names none."""
        given = properties.get(key)
        if not isinstance(given, str) or not given or given.startswith(_REMOTE):
            return None
        path = (self._folder / given.removeprefix("file://")).resolve()
        if not path.exists():
            self._problems.append(
                f"Unable to upload artifact {given} referenced by {key} parameter of {name} resource.\n"
                f"Parameter {key} of resource {name} refers to a file or folder that does not exist {path}"
            )
            return None
        return path

    def _put_images(self, name: str, properties: dict[str, Any]) -> None:
        """A container whose image is ``./folder`` runs that folder, with what it depends on beside it."""
        containers = properties.get("ContainerDefinitions")
        for container in containers if isinstance(containers, list) else ():
            image = container.get("Image") if isinstance(container, dict) else None
            if (
                isinstance(image, str)
                and image.startswith(("./", "../"))
                and (path := self._path(name, container, "Image"))
            ):
                made = self._made(Code(name, path, _language(path)))
                if isinstance(made, AwsError):
                    self._problems.append(str(made.message))
                else:
                    container["Image"] = str(made)

    def _put_image(self, name: str, resource: dict[str, Any]) -> None:
        """A function's image is built where its metadata says how; ``./folder`` is an image too."""
        properties, metadata = resource["Properties"], resource.get("Metadata")
        serverless = "Code" not in properties
        code = properties if serverless else properties["Code"]
        if not isinstance(code, dict):
            return
        given = code.get("ImageUri")
        if images.described(metadata) and not self._built:
            try:
                code["ImageUri"] = images.build(name, self._folder, resource["Metadata"], self._packager.say)
            except AwsError as error:
                self._problems.append(str(error.message))
        elif (
            isinstance(given, str) and given.startswith(("./", "../")) and (path := self._path(name, code, "ImageUri"))
        ):
            code["ImageUri"] = str(path)

    def _put_document(self, name: str, properties: dict[str, Any], key: str, into: str) -> None:
        path = self._path(name, properties, key)
        if path is None:
            return
        try:
            found = document(path.read_text())
        except (OSError, UnicodeDecodeError, AwsError) as error:
            self._problems.append(f"The document {path} of {name} cannot be read: {error}")
            return
        del properties[key]
        properties[into] = found

    def _include(self, value: Any) -> None:
        """Local files that AWS::Include names become URLs."""
        for asked in _transforms(value):
            location = (
                asked.get("Parameters", {}).get("Location") if isinstance(asked.get("Parameters"), dict) else None
            )
            if asked.get("Name") == "AWS::Include" and isinstance(location, str) and not location.startswith(_REMOTE):
                path = self._path("Fn::Transform", asked["Parameters"], "Location")
                if path is not None:
                    asked["Parameters"]["Location"] = self._packager.keep(path.read_text())


def _language(folder: Path) -> str:
    """The runtime whose dependencies a container's folder names, or nothing."""
    if (folder / "requirements.txt").is_file():
        return f"python3.{sys.version_info.minor}"
    return "nodejs" if (folder / "package.json").is_file() else ""


def _transforms(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key in ("Fn::Transform", "Transform"):
                yield from (one for one in (below if isinstance(below, list) else [below]) if isinstance(one, dict))
            yield from _transforms(below)
    elif isinstance(value, list):
        for item in value:
            yield from _transforms(item)


def local_path(uri: str) -> str | None:
    """The absolute path that a URI names, or None when it names no place of this machine."""
    uri = uri.removeprefix("file://")
    return uri if uri.startswith("/") else None
