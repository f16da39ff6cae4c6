"""One HTML page of an executed notebook: no code, no script, nothing fetched; for a screen, a phone and paper alike."""

from __future__ import annotations

import html
from pathlib import Path

from vaefx_lib import store

HIDDEN = "lesson"  # tag of the cells that are for whoever runs the notebook, and not for whoever reads the page
MOST_BYTES = 25_000_000  # of a page that can still be sent by mail
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
"""
STYLE = """:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.anchor-link, .prompt { display: none; }
small { color: #595959; white-space: nowrap; }
li { margin: .15rem 0; }
table { display: block; width: max-content; max-width: 100%; overflow-x: auto; border-collapse: collapse;
 font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e2e2e2; }
td:first-child { min-width: 9.5rem; }
td:last-child { min-width: 11rem; }
td:not(:first-child, :last-child) { white-space: nowrap; }
figure { margin: 1.6rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .4rem; font-size: .92rem; }
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem 1.2rem; }
.sound { margin: 0; display: flex; flex-direction: column; justify-content: flex-end; }
.sound figcaption { margin: 0 0 .2rem; }
audio { display: block; width: 100%; height: 2.6rem; }
pre { white-space: pre-wrap; }
@media print {
 body { font-size: 10.5pt; }
 main { max-width: none; padding: 0; }
 h2, h3 { break-after: avoid; }
 figure, tr { break-inside: avoid; }
 table { display: table; width: 100%; }
 figure img { max-height: 22cm; }
 audio { display: none; }
 .sound figcaption::before { content: "\\25B7\\00A0"; }
}"""


def write(notebook: str | Path, path: str | Path, *, title: str) -> Path:
    """Write the page of an executed notebook: its Markdown and its outputs, but for cells tagged `HIDDEN`.

    The same notebook gives the same bytes. A page that would fetch something is not possible: it forbids that to the
    browser by its own content security policy, as it forbids scripts.

    Parameters
    ----------
    notebook : path
        As `notebooks.run` leaves it.
    path : path
        Of the page, written whole or not at all.
    title : str

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ValueError
        If the page would have more than `MOST_BYTES`.

    Used by `vaefx report`, after `08_weekly_report`.
    """
    from nbconvert import HTMLExporter  # here, because it takes a second to import
    from nbconvert.preprocessors import TagRemovePreprocessor

    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    hidden = {HIDDEN, "injected-parameters"}
    exporter.register_preprocessor(TagRemovePreprocessor(enabled=True, remove_cell_tags=hidden), enabled=True)
    body, _ = exporter.from_filename(str(notebook))
    page = (HEAD.format(title=html.escape(title), style=STYLE) + body + "</main>\n</body>\n</html>\n").encode()
    if len(page) > MOST_BYTES:
        raise ValueError(f"the page would have {len(page) / 1e6:.1f} MB: it may have {MOST_BYTES / 1e6:g} at most")
    path = Path(path)
    with store.atomic(path) as temporary:
        temporary.write_bytes(page)
    return path
