"""What LV2 bundles say of their plug-ins, read from their Turtle files; nothing of a plug-in is loaded.

Source: the specification at lv2plug.in/ns/lv2core and its extensions.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np

FOLDERS = (
    ("~/Library/Audio/Plug-Ins/LV2", "/Library/Audio/Plug-Ins/LV2")
    if sys.platform == "darwin"
    else ("~/.lv2", "/usr/local/lib/lv2", "/usr/lib/lv2")
)
LARGEST_LIST = 32  # whole numbers of a port that are taken for a list; a port with more of them is swept


def bundles() -> list[Path]:
    """Folders ``*.lv2`` in those of $LV2_PATH, or else in the standard ones."""
    folders = os.environ["LV2_PATH"].split(os.pathsep) if os.environ.get("LV2_PATH") else FOLDERS
    return [bundle for folder in folders for bundle in sorted(Path(folder).expanduser().glob("*.lv2"))]


@functools.cache
def _graph(*paths: Path):
    import rdflib

    graph = rdflib.Graph()
    for path in paths:
        graph.parse(path, format="turtle", publicID=path.absolute().as_uri())
    return graph


def _terms():
    """The vocabularies that are read here."""
    from rdflib import Namespace

    lv2plug = "http://lv2plug.in/ns/"
    return Namespace(f"{lv2plug}lv2core#"), Namespace(f"{lv2plug}extensions/units#"), Namespace(f"{lv2plug}ext/")


@functools.cache
def plugins(bundle: Path) -> dict[str, str]:
    """Name -> URI of the plug-ins in a bundle; the name is the last part of the URI."""
    from rdflib import RDF

    lv2, _, _ = _terms()
    if not (bundle / "manifest.ttl").is_file():
        return {}
    uris = {str(s) for s in _graph(bundle / "manifest.ttl").subjects(RDF.type, lv2.Plugin)}
    return {uri.replace("#", "/").replace(":", "/").rstrip("/").rpartition("/")[2]: uri for uri in sorted(uris)}


@functools.cache
def describe(bundle: Path, uri: str) -> dict:
    """All that loading and running a plug-in needs, in terms that JSON can hold."""
    from rdflib import RDF, RDFS, URIRef

    lv2, _, _ = _terms()
    manifest, me = _graph(bundle / "manifest.ttl"), URIRef(uri)
    files = [_path(file) for file in manifest.objects(me, RDFS.seeAlso)]
    graph = _graph(bundle / "manifest.ttl", *sorted(path for path in files if path.is_file()))
    ports = sorted((int(graph.value(port, lv2["index"])), port) for port in graph.objects(me, lv2.port))
    about: dict = {
        "uri": uri,
        "bundle": f"{bundle.absolute()}/",
        "binary": str(_path(manifest.value(me, lv2.binary))),
        "features": sorted(str(feature) for feature in graph.objects(me, lv2.requiredFeature)),
        "index": {str(graph.value(port, lv2.symbol)): index for index, port in ports},
    }
    about |= {key: [] for key in ("params", "choices", "inputs", "outputs", "unused", "strange")}
    for index, port in ports:
        kinds = set(graph.objects(port, RDF.type))
        if lv2.AudioPort in kinds:
            about["inputs" if lv2.InputPort in kinds else "outputs"].append(index)
        elif lv2.ControlPort in kinds and lv2.InputPort in kinds:
            kind, control = _control(graph, port)
            about[kind].append(control)
        elif lv2.ControlPort in kinds:
            about["unused"].append(index)
        elif lv2.connectionOptional not in set(graph.objects(port, lv2.portProperty)):
            about["strange"].append(str(graph.value(port, lv2.symbol)))
    return about


def _control(graph, port) -> tuple[str, dict]:
    """A control port as ("params", ...) or ("choices", ...)."""
    from rdflib import RDF, RDFS

    lv2, units, ext = _terms()
    properties = set(graph.objects(port, lv2.portProperty))
    low, high, default = (graph.value(port, term) for term in (lv2.minimum, lv2.maximum, lv2.default))
    low, high = float(0 if low is None else low), float(1 if high is None else high)
    default = min(max(float(low if default is None else default), low), high)
    control = {"symbol": str(graph.value(port, lv2.symbol)), "default": default}
    values = {}
    if lv2.toggled in properties:
        values = {"off": low, "on": high}
    elif lv2.enumeration in properties:
        points = [
            (float(graph.value(p, RDF.value)), str(graph.value(p, RDFS.label)))
            for p in graph.objects(port, lv2.scalePoint)
        ]
        values = {label: value for value, label in sorted(points)}
    elif lv2.integer in properties and high - low < LARGEST_LIST:
        values = {str(int(value)): float(value) for value in np.arange(low, high + 1)}
    if values:
        nearest = min(values, key=lambda label: abs(values[label] - default))
        return "choices", {**control, "values": values, "default": nearest}
    unit = graph.value(port, units.unit)
    log = ext["port-props#logarithmic"] in properties and low > 0
    return "params", {**control, "low": low, "high": high, "log": log, "unit": _unit(graph, unit)}


def _unit(graph, unit) -> str:
    """The symbol of a unit: ``dB`` from the vocabulary's ``units#db``, or what the plug-in's own unit says."""
    if unit is None:
        return ""
    own = graph.value(unit, _terms()[1].symbol)
    name = str(unit).rpartition("#")[2]
    return str(own) if own is not None else {"db": "dB", "hz": "Hz", "khz": "kHz", "pc": "%"}.get(name, name)


def unusable(about: dict) -> str | None:
    """Why a plug-in is no effect for this host, or None."""
    if about["features"]:
        return f"it requires {', '.join(about['features'])} of its host"
    if not about["inputs"] or not about["outputs"]:
        return f"it has {len(about['inputs'])} inputs and {len(about['outputs'])} outputs for sound"
    if not Path(about["binary"]).is_file():
        return f"its file {about['binary']} is missing"
    if about["strange"]:
        return f"its ports {', '.join(about['strange'])} carry neither sound nor a control value"
    return None


def _path(uri) -> Path:
    return Path(unquote(urlparse(str(uri)).path))
