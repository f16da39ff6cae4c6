"""Style, name and save a figure, its caption and the numbers beside it, so that what did not change stays as it was.

The folder of a preset's figures has a PNG each, `README.md` with their captions, and `metrics.json`, the only source of
the numbers that captions and texts state. The same data gives the same bytes; a file whose bytes would be the same is
not written again, so `git status` and `make` see only real changes. Lessons that run side by side write in turn.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

from vaefx_lib import config, plain_json, store

DPI = 150
SHOWN_DPI = 90  # in a notebook: a figure 10 inches wide fills its column
STYLE = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that every machine draws the same letters
    "font.size": 10,
    "axes.titlesize": 11,
    "figure.titlesize": 12,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_ENTRY = re.compile(r"^## (?P<name>[\w-]+)\n\n!\[.*\]\((?P=name)\.png\)\n\n(?P<caption>.+)$", re.MULTILINE)


def set_style() -> None:
    """Give every figure drawn from now on the project's look, whatever the user's own matplotlib settings are.

    A notebook then draws each once, when it is shown. IPython's habits are to draw it twice and to trim its margins,
    which the constrained layout has done, and pyplot's to draw it before, at the end of the cell, as for a window.
    """
    import matplotlib.style  # here and not above: the command line needs `record`, and not half a second of matplotlib

    matplotlib.style.use(["default", STYLE])
    from matplotlib import pyplot as plt

    if "inline" in plt.get_backend():
        from IPython import get_ipython

        plt.switch_backend(plt.get_backend())  # now, and not with the first figure: it brings the habits
        plt.uninstall_repl_displayhook()
        get_ipython().display_formatter.formatters["image/png"].for_type(plt.Figure, lambda fig: _png(fig, fig.dpi))


def save_figure(fig, name: str, preset_name: str, *, caption: str) -> Path:
    """Save a figure as PNG in the preset's folder of figures, and its caption in the `README.md` there.

    In a notebook the PNG is shown, in place of the figure: it is drawn once.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        File name without a suffix: letters, digits, ``_`` and ``-``.
    preset_name : str
    caption : str
        Markdown, one paragraph; its first sentence is also the picture's alternative text.

    Returns
    -------
    Path
        The PNG, rewritten only if its bytes are others.

    Raises
    ------
    ValueError
        If the name has other characters, the caption is empty, or the preset is unknown.

    Notes
    -----
    Used in notebooks 01 to 04.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"figure name {name!r} must consist of letters, digits, '_' and '-'")
    caption = " ".join(caption.split())
    if not caption:
        raise ValueError(f"figure {name} needs a caption, got an empty one")
    folder = _folder(preset_name)
    picture = _png(fig, DPI)
    fig.set_layout_engine("none")  # laid out once: each time again moves things by a fraction of a pixel
    path = folder / f"{name}.png"
    write_if_changed(path, picture)
    _show(fig, picture, alternative(caption))
    with alone(preset_name):
        _write_captions(folder, preset_name, {**captions(preset_name), name: caption})
    return path


def captions(preset_name: str) -> dict[str, str]:
    """Figure name -> caption, from the `README.md` of the preset's figures, of those that are still there."""
    readme = _folder(preset_name) / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    found = {entry["name"]: entry["caption"] for entry in _ENTRY.finditer(text)}
    return {name: caption for name, caption in found.items() if (readme.parent / f"{name}.png").exists()}


def alternative(caption: str) -> str:
    """What is read out to those who cannot see a figure: the first sentence of its caption, without marks."""
    return re.sub(r"[\[\]`$\\*]", "", re.split(r"(?<=[.:;!?]) ", caption)[0])


def record(preset_name: str, scores: Mapping[str, object]) -> None:
    """Merge nested scores into the preset's `metrics.json`: keys sorted, 6 significant digits, others kept.

    Parameters
    ----------
    preset_name : str
    scores : mapping
        str -> number, str, bool, list of these, or mapping of the same kind.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, or a value or key is of another kind; nothing is written then.

    Notes
    -----
    Used in notebooks 01 to 04 and by the notebook runner.
    """
    _put_into(_folder(preset_name) / "metrics.json", preset_name, scores, plain_json.merged)


def record_benchmarks(parts: Mapping[str, object]) -> None:
    """Put measurements of speed and memory into `figures/benchmarks.json`, in the manner of `record`.

    Parameters
    ----------
    parts : mapping
        Name of a benchmark -> all that it has measured, in place of all that it had before; other benchmarks' stay.

    Raises
    ------
    ValueError
        As for `record`.

    Notes
    -----
    Used by `make bench`.
    """
    _put_into(_folder("report") / "benchmarks.json", "report", parts, lambda old, new: {**old, **new})


def metrics(preset_name: str) -> dict:
    """All that `record` has stored for the preset; empty before the first time.

    Raises
    ------
    store.DamagedFile
        If `metrics.json` is not JSON.
    """
    return _stored(_folder(preset_name) / "metrics.json")


def benchmarks() -> dict:
    """All that `record_benchmarks` has stored, in the manner of `metrics`. Used by `make bench`."""
    return _stored(_folder("report") / "benchmarks.json")


def _png(fig, dpi: float) -> bytes:
    """The picture that `savefig` makes, drawn once: with a layout, that draws everything twice for the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    fig.set_dpi(dpi)
    FigureCanvasAgg(fig).print_png(picture, metadata={"Software": None})
    return picture.getvalue()


def _show(fig, png: bytes, text: str) -> None:
    """Show a picture as the output of a notebook's cell, at the figure's size, and let the figure go."""
    if "ipykernel" not in sys.modules:
        return
    import matplotlib.pyplot as plt
    from IPython.display import Image, display

    plt.close(fig)
    display(Image(png, width=round(fig.get_figwidth() * SHOWN_DPI), alt=text))


@contextmanager
def alone(preset_name: str):
    """Wait until no other process changes the captions and numbers of the preset: lessons may run side by side."""
    with store.alone(config.run_dir(preset_name) / ".figures.lock"):
        yield


def _folder(preset_name: str) -> Path:
    return config.figures_dir(config.preset(preset_name).name)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file, unless it has these bytes already: its time then tells that nothing has changed."""
    if not path.exists() or path.read_bytes() != data:
        with store.atomic(path) as temporary:
            temporary.write_bytes(data)


def _stored(path: Path) -> dict:
    return store.read_json(path) if path.exists() else {}


def _put_into(path: Path, preset_name: str, scores: Mapping[str, object], join: Callable[[dict, dict], dict]) -> None:
    """Join scores to those of a JSON file; what is not a finite number is refused before anything is written."""
    plain = plain_json.plain(scores)
    with alone(preset_name):
        joined = join(_stored(path), plain)
        write_if_changed(path, (json.dumps(joined, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def _write_captions(folder: Path, preset_name: str, texts: Mapping[str, str]) -> None:
    blocks = [
        f"# Figures of the preset `{preset_name}`",
        "Written by the notebooks, together with the numbers in [metrics.json](metrics.json). Do not edit.",
    ]
    for name, caption in sorted(texts.items()):
        blocks += [f"## {name}", f"![{alternative(caption)}]({name}.png)", caption]
    write_if_changed(folder / "README.md", ("\n\n".join(blocks) + "\n").encode())
