"""The bill of an image: what its lock says is in it, and whose each entry of its layers is.

Nothing is looked for in the image: names, versions and hashes are the lock's and the model's. Of the layers only the
records are read that the programs which made them have left beside them, and an entry that nobody owns is an error.
Licences are read from the packages themselves, which are in the store where an image was built.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit.bill import licences
from tungstenkit.bill.components import Bill, Built, Component, Kind, Layer, deb_purl, purl, quoted_path
from tungstenkit.cache import cache_folder
from tungstenkit.data import OWN_WHEELS, VERSION
from tungstenkit.debian.release import RELEASES
from tungstenkit.digest import sha256_of
from tungstenkit.fetch.needs import built_file, wheel_file
from tungstenkit.lock.document import packages
from tungstenkit.lock.packages import WISH, Deb, Source, Wheel
from tungstenkit.lock.parts import LockedRepository, Tungsten
from tungstenkit.nix_build.image import blob
from tungstenkit.sdk.errors import BuildError, FetchError
from tungstenkit.store import file_path, store_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.export.flake import Contents
    from tungstenkit.lock.document import Lock
    from tungstenkit.lock.parts import BaseImage, Platform
    from tungstenkit.nix_build.image import Image
    from tungstenkit.spec.document import ModelSpec

_WEIGHTS = (".ckpt", ".gguf", ".h5", ".keras", ".onnx", ".pt", ".pth", ".safetensors", ".tflite")
"""How files of weights end."""
_OURS = licences.Licence(expression="Apache-2.0")
_ASSEMBLY = "tungsten"
"""The ref of what `nix/` itself writes into an image: links, accounts, the loader's cache."""
_SPEC = "opt/tungsten/spec.json"
_BESIDE = "opt/tungsten/"
"""Where what stands beside a base image is (`nix/sets/base-root.nix`)."""
# What the programs of `nix/tools` call the owners that are no packages.
_STATED = {"", "files", "system", "accounts", "dpkg"}
_CHANGES, _BASE = "build steps", "the base image"
_POST_BUILD, _BASE_REF, _MODEL = "post-build", "base-image", "model"


@dataclass(frozen=True)
class Made:
    """An image, and all that it was made of."""

    spec: ModelSpec
    lock: Lock
    system: str
    contents: Contents
    image: Image

    @property
    def platform(self) -> Platform:
        """The lock's part."""
        return self.lock.platforms[self.system]


def bill_of(made: Made, cache: Path | None = None) -> Bill:
    """All that an image holds. cache: a folder (default: the user's cache).

    Raises BuildError where an entry of a layer has no owner, FetchError where a package is not in the store.
    """
    parts = _Parts(made, cache or cache_folder())
    manifest = json.loads(blob(made.image.layout, made.image.digest).read_bytes())
    config = json.loads(blob(made.image.layout, made.image.image_id).read_bytes())
    layers = tuple(_layers(made, parts, manifest, config))
    held = set().union(*(layer.owners for layer in layers))
    components = tuple(sorted(parts.components(held), key=lambda one: one.ref))
    listed = {one.ref for one in components}
    image = Component(
        "image",
        "container",
        made.spec.name,
        made.image.digest,
        purl("oci", made.spec.name, made.image.digest, arch=config["architecture"]),
        facts=(("image-id", made.image.image_id), ("platform", made.system)),
    )
    return Bill(
        image,
        config["created"],
        components,
        layers,
        {ref: asked for ref, asked in parts.needs.items() if ref in listed},
        tuple(_built(made.platform)),
        frozenset({_BASE_REF} & held),
        frozenset(parts.packages & listed),
    )


def _layers(
    made: Made, parts: _Parts, manifest: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[Layer]:
    told = [one.get("created_by", "") for one in config["history"] if not one.get("empty_layer")]
    steps = 0
    every = zip(manifest["layers"], config["rootfs"]["diff_ids"], told, strict=True)
    for number, (entry, diff_id, made_of) in enumerate(every):
        # A layout's blobs are links; beside one's target lies what its program has left for later layers.
        folder = blob(made.image.layout, entry["digest"]).readlink().parent
        record = json.loads((folder / "files.json").read_bytes())
        step = ""
        if any(one.get("package") == _CHANGES for one in record["entries"]):
            step = parts.add_step(steps, made_of, diff_id)
            steps += 1
        owners: Counter[str] = Counter()
        for one in record["entries"]:
            owner = step if one.get("package") == _CHANGES else parts.owner(one, made_of)
            if owner is None:
                raise BuildError(
                    f"nobody owns /{one['path']}, of {one.get('package')!r}", where=f"the layer {made_of!r}"
                )
            owners[owner] += 1
        yield Layer(
            number,
            entry["digest"],
            diff_id,
            entry["size"],
            entry["mediaType"],
            made_of,
            dict(sorted(owners.items())),
        )


@dataclass
class _Parts:
    """The components of an image, and how its layers' records name them."""

    made: Made
    cache: Path
    found: dict[str, Component] = field(default_factory=dict)
    """By ref."""
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Packages to refs, as records name them: a Debian package's name, a wheel's file."""
    private: dict[str, str] = field(default_factory=dict)
    """The same of Debian's packages that stand beside a base image, which may have others of their names."""
    places: dict[str, str] = field(default_factory=dict)
    """Paths in the image to refs, of files that came by themselves."""
    contents: dict[str, str] = field(default_factory=dict)
    """Their sha256 to refs, where the record has it: on a base image a path may be another."""

    def __post_init__(self) -> None:
        made = self.made
        own = [(made.platform.release, deb) for deb in made.platform.debs]
        self._debs(own, self.owners if made.platform.base_image is None else self.private)
        if (added := made.platform.added) is not None:
            self._debs([(added.release, deb) for deb in added.debs], self.owners)
        self._wheels(self._packages(), "sdk")
        self._wheels(made.lock.server[made.system].wheels, "server")
        self._model()
        self._declared()
        self._results()
        ours = {name: value for name, value in Tungsten.this().model_dump().items() if name != "version"}
        facts = tuple((f"{name}-sha256", value) for name, value in sorted(ours.items()))
        self.found[_ASSEMBLY] = _own("tungstenkit-nix", VERSION, _ASSEMBLY, facts)
        if made.platform.base_image is not None:
            self.found[_BASE_REF] = _base_component(made.platform.base_image)
        else:
            release = RELEASES[made.platform.release]
            self.found["os"] = Component("os", "operating-system", "debian", release.version_id)

    def components(self, held: set[str]) -> Iterator[Component]:
        """All but those of the model's files in whose place post_build has written its own."""
        return (one for ref, one in self.found.items() if ref in held or not ref.startswith("file:"))

    @property
    def packages(self) -> set[str]:
        """The refs of what is no model's own."""
        return {*self.owners.values(), *self.private.values(), _ASSEMBLY, _BASE_REF, "os"}

    def owner(self, entry: Mapping[str, Any], made_of: str) -> str | None:
        """The ref of whose an entry of a layer's record is; None for nobody."""
        package, path = entry.get("package", ""), entry["path"]
        if entry["type"] == "file" and package == "files":
            known = self.places.get(path) or self.contents.get(entry.get("sha256", ""))
            return known or _ASSEMBLY
        named = [self.owners.get(package), self.private.get(package)]
        if known := next(filter(None, reversed(named) if path.startswith(_BESIDE) else named), None):
            return known
        if package == _BASE and _BASE_REF in self.found:
            return _BASE_REF
        if package == f"tree {_SPEC}":
            return _MODEL if entry["type"] == "dir" else "spec"
        if package == "tree app":
            return self.places.get(path, _MODEL)
        if _POST_BUILD in self.found and package == made_of:
            return _POST_BUILD
        return _ASSEMBLY if package in _STATED else None

    def _add(self, one: Component, needed_by: Iterable[str] = ()) -> None:
        self.found.setdefault(one.ref, one)
        if asked := tuple(sorted({*self.needs.get(one.ref, ()), *needed_by} - {one.ref})):
            self.needs[one.ref] = asked

    def _debs(self, debs: Sequence[tuple[str, Deb]], owners: dict[str, str]) -> None:
        """Debian packages of one root, each with its release. owners: where their names are kept."""
        here = [
            licences.Deb(deb.name, _in_store(deb.sha256, deb.file.rpartition("/")[2]), deb.sha256)
            for _, deb in debs
        ]
        said = licences.of_debs(here, self.cache)
        names = {deb.name: _deb_ref(deb) for _, deb in debs}
        wheels = {one.project: _wheel_ref(one) for one in self._packages()}
        for release, deb in debs:
            one = replace(_deb_component(deb, release), licence=said.get(deb.name))
            self._add(one, (_asker(who, names, wheels) for who in deb.needed_by))
            owners[deb.name] = one.ref

    def _packages(self) -> list[Wheel | Source]:
        return [*self.made.platform.wheels, *self.made.platform.sources]

    def _wheels(self, entries: Sequence[Wheel | Source], own: str) -> None:
        """What is in one environment. own: which of our wheels is in it, too."""
        ours = OWN_WHEELS[own]
        file = f"{ours['name'].replace('-', '_')}-{ours['version']}-py3-none-any.whl"
        facts = (("sources-sha256", Tungsten.this().model_dump()[own]),)
        mine = replace(_own(ours["name"], ours["version"], f"wheel:{file}", facts), file=file)
        self._add(mine, ("image",))
        self.owners[file] = mine.ref
        names = {one.project: _wheel_ref(one) for one in entries}
        special = {"sdk": mine.ref, "the server's environment": mine.ref}
        for entry in entries:
            one = _wheel_component(entry)
            local = Path((built_file(entry) if isinstance(entry, Source) else wheel_file(entry)).path)
            one = replace(
                one, licence=licences.of_wheel(_there(local, entry.project), one.sha256, self.cache)
            )
            self._add(one, (_asker(who, names, special) for who in entry.needed_by))
            self.owners[one.file] = one.ref

    def _model(self) -> None:
        made = self.made
        about = made.spec.about
        self.found[_MODEL] = Component(
            _MODEL,
            "application",
            f"{made.spec.name}'s model",
            about.get("version", ""),
            licence=licences.of_words(about["licenses"]) if "licenses" in about else None,
        )
        text = made.spec.to_json().encode()
        self.found["spec"] = Component(
            "spec", "file", "spec.json", sha256=hashlib.sha256(text).hexdigest(), file=f"/{_SPEC}"
        )
        big = {one.path: one.sha256 for one in made.contents.big}
        for file in made.contents.files:
            if file.kind != "file":
                continue
            sha256 = big.get(file.path) or sha256_of(made.contents.directory / file.path)
            self._place(f"app/{file.path}", file.path, sha256, is_known=file.path in big)

    def _place(
        self,
        path: str,
        name: str,
        sha256: str,
        facts: tuple[tuple[str, str], ...] = (),
        *,
        url: str = "",
        is_known: bool = True,
    ) -> None:
        """A file that came by itself, as a component.

        url: where it is from; the model's own has none, and is no package. is_known: whether its layer's record has its
        hash.
        """
        kind: Kind = "machine-learning-model" if name.lower().endswith(_WEIGHTS) else "file"
        last = name.rpartition("/")[2]
        named = purl("generic", last, checksum=f"sha256:{sha256}", download_url=url) if url else ""
        one = Component(f"file:{path}", kind, name, purl=named, sha256=sha256, file=f"/{path}", facts=facts)
        self._add(one, ("image",) if url else ())
        self.places[path] = one.ref
        if is_known:
            self.contents.setdefault(sha256, one.ref)

    def _declared(self) -> None:
        for one in self.made.lock.files.downloads:
            self._place(f"app/{one.to}", one.to, one.sha256, (("url", one.url),), url=one.url)
        for repository in self.made.lock.files.repositories:
            self._repository(repository)

    def _repository(self, one: LockedRepository) -> None:
        cached = f"home/nonroot/.cache/huggingface/hub/{one.type}s--{one.repository.replace('/', '--')}"
        above = (
            f"{cached}/snapshots/{one.commit}"
            if one.to is None
            else f"app/{one.to}"
            if one.to != "."
            else "app"
        )
        ref = f"{one.type}:{one.repository}@{one.commit}:{one.to or 'cache'}"
        parts = []
        for file in one.files:
            path = f"{above}/{file.path}"
            part = Component(f"file:{path}", "file", file.path, sha256=file.sha256, file=f"/{path}")
            parts.append(part)
            self.places[path] = part.ref
            self.contents.setdefault(file.sha256, part.ref)
        if one.to is None:
            self.places[f"{cached}/refs/{one.revision}"] = ref
        owner, _, name = one.repository.rpartition("/")
        readme = next((file for file in one.files if file.path == "README.md"), None)
        is_model = one.type == "model"
        repository = Component(
            ref,
            "machine-learning-model" if is_model else "data",
            one.repository,
            one.commit,
            purl("huggingface", name, one.commit, namespace=owner) if is_model else "",
            licence=_card(readme.sha256, readme.path) if readme is not None else None,
            facts=(("revision", one.revision), *((("restricted", "true"),) if one.restricted else ())),
            parts=tuple(parts),
        )
        known = self.found.get(ref)
        if known is not None:  # the same, declared with other patterns
            more = {part.ref: part for part in (*known.parts, *parts)}
            repository = replace(repository, parts=tuple(more[ref] for ref in sorted(more)))
        self.found[ref] = repository
        self.needs[ref] = ("image",)

    def _results(self) -> None:
        result = self.made.platform.post_build
        if result is not None:
            saw = tuple((f"saw:{path}", said) for path, said in sorted(result.files.items()))
            self.found[_POST_BUILD] = Component(
                _POST_BUILD,
                "data",
                "post_build",
                sha256=result.sha256,
                file=result.file,
                facts=(("sees", result.sees), *saw),
            )

    def add_step(self, number: int, text: str, diff_id: str) -> str:
        """What a segment of `dockerfile_commands` has changed, and its ref."""
        ref = f"command:{number}"
        segments = self.made.spec.commands.segments if self.made.spec.commands else ()
        networks = self.made.spec.commands.networks if self.made.spec.commands else []
        one = Component(ref, "data", text, facts=(("diff-id", diff_id),))
        if number < len(segments) and segments[number].network:
            result = self.made.platform.commands[networks.index(number)]
            one = replace(
                one, sha256=result.sha256, file=result.file, facts=(*one.facts, ("sees", result.sees))
            )
        self.found[ref] = one
        return ref


def _asker(who: str, names: Mapping[str, str], others: Mapping[str, str]) -> str:
    """The ref of who asked for something; the image's for whatever is no component."""
    whose = who.partition(WISH)[0] if WISH in who else ""
    return (others.get(whose) if whose else names.get(who)) or "image"


def _in_store(sha256: str, file: str) -> Path:
    return _there(Path(file_path(sha256, store_name(file))), file)


def _there(path: Path, name: str) -> Path:
    if not path.exists():
        raise FetchError(
            "a package of the image is not in the Nix store any more, where its licence is read",
            where=name,
            hint="`tungsten fetch` brings it",
        )
    return path


def _card(sha256: str, path: str) -> licences.Licence | None:
    text = _in_store(sha256, path.rpartition("/")[2]).read_bytes()
    return licences.of_readme(text.decode("utf-8", "replace"))


def _own(name: str, version: str, ref: str, facts: tuple[tuple[str, str], ...]) -> Component:
    # No index has them: `tungstenkit` there is another product.
    return Component(
        ref, "library", name, version, purl("generic", name, version), licence=_OURS, facts=facts
    )


def _deb_ref(deb: Deb) -> str:
    return f"deb:{deb.name}:{deb.version}:{deb.architecture}"


def _deb_component(deb: Deb, release: str) -> Component:
    distro = f"debian-{RELEASES[release].version_id}" if release in RELEASES else release
    return Component(
        _deb_ref(deb),
        "library",
        deb.name,
        deb.version,
        deb_purl(deb.name, deb.version, deb.architecture, distro, deb.source),
        deb.sha256,
        deb.file.rpartition("/")[2],
        facts=(("source", deb.source),) if deb.source else (),
    )


def _wheel_ref(one: Wheel | Source) -> str:
    return f"wheel:{one.wheel if isinstance(one, Source) else one.file}"


def _wheel_component(one: Wheel | Source) -> Component:
    file, sha256 = (one.wheel, one.wheel_sha256) if isinstance(one, Source) else (one.file, one.sha256)
    assert file is not None  # the lock is sealed
    assert sha256 is not None
    where = _source_purl(one) if isinstance(one, Source) else _package_purl(one.project, one.version, one)
    return Component(_wheel_ref(one), "library", one.project, one.version, where, sha256, file)


def _package_purl(project: str, version: str, one: Wheel | Source, file: str = "") -> str:
    """The Python index's, or where the model itself says that it is."""
    if one.url is not None:
        return purl("pypi", project, version, download_url=one.url)
    if one.path is not None:
        return purl("generic", project, version, checksum=f"sha256:{one.sha256}")
    return purl("pypi", project, version, file_name=file)


def _source_purl(one: Source, file: str = "") -> str:
    if one.git is not None:
        return purl("generic", one.project, one.version, vcs_url=f"git+{one.git.url}@{one.git.commit}")
    return _package_purl(one.project, one.version, one, file)


def _built(platform: Platform) -> Iterator[Built]:
    for one in platform.sources:
        source = Component(
            f"source:{one.file}",
            "source",
            one.project,
            one.version,
            _source_purl(one, one.file),
            one.sha256,
            one.file,
        )
        tools: Sequence[Component] = [
            *(_deb_component(deb, platform.release) for deb in one.build.debs),
            *(_wheel_component(wheel) for wheel in one.build.wheels),
        ]
        yield Built(_wheel_ref(one), source, tuple(tools), one.build.backend)


def _base_component(base: BaseImage) -> Component:
    name = base.reference.partition("@")[0]
    parts = tuple(
        Component(
            f"base-layer:{layer.diff_id}",
            "archive",
            layer.media_type,
            sha256=layer.digest.removeprefix("sha256:"),
            facts=(("diff-id", layer.diff_id),),
        )
        for layer in {layer.diff_id: layer for layer in base.layers}.values()
    )
    last = name.rpartition("/")[2].partition(":")[0]
    where = name if ":" not in name.rpartition("/")[2] else name.rpartition(":")[0]
    return Component(
        _BASE_REF,
        "container",
        name,
        base.digest,
        purl("oci", last, base.digest, repository_url=where),
        facts=(("reference", base.reference), ("named", base.named)),
        parts=parts,
    )


def packages_of(lock: Lock) -> dict[str, str]:
    """The package URLs of a lock's packages, those that only build included, by the sha256 of their files.

    They name, and no more: by what vulnerabilities are looked up, the bill has it.
    """
    found = {}
    for one in packages(lock):
        package = one.package
        if isinstance(package, Deb):
            found[package.sha256] = deb_purl(package.name, package.version, package.architecture)
        elif isinstance(package, Source):
            found[package.sha256] = _source_purl(package, package.file)
        else:
            found[package.sha256] = _package_purl(package.project, package.version, package)
    for repository in lock.files.repositories:
        owner, _, name = repository.repository.rpartition("/")
        if repository.type == "model":
            where = purl("huggingface", name, repository.commit, namespace=owner)
            found |= {file.sha256: f"{where}#{quoted_path(file.path)}" for file in repository.files}
    return found | {one.sha256: one.url for one in lock.files.downloads}
