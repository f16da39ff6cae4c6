"""Commands on sounds and what makes them: `vaefx match`, `vaefx effects` and `vaefx corpus ...`."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout

import click

from vaefx_lib import config
from vaefx_lib.cli_options import preset_option


@click.command()
@click.argument("input_path", metavar="INPUT")
@click.argument("reference_path", metavar="REFERENCE")
@click.option("-o", "--out", "out_path", required=True, metavar="FILE", help="The matched sound: .wav or .flac.")
@click.option("--effect", default="auto", show_default=True, metavar="NAME", help="As in `vaefx effects`; auto: any.")
@click.option("--refine", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Search for this long.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
@preset_option
@click.option(
    "--pretrained", is_flag=True, help="With the controller that comes with the library, whatever is trained."
)
def match(input_path, reference_path, out_path, effect, refine, seed, as_json, preset, pretrained):
    """Make INPUT, a dry recording, sound like REFERENCE, another one through an unknown effect.

    The trained controller of the preset proposes settings; that of the preset report, where it has not been trained, is
    the one that comes with the library. --refine searches on from there, and is what finds those of an effect that the
    controller does not know. The whole INPUT goes through the effect at its own rate.
    """
    chosen = config.preset(preset)
    if pretrained and preset != "report":
        raise click.UsageError("one of --preset and --pretrained is wanted, and not both")
    from tqdm import tqdm

    from vaefx_lib import controller as controllers
    from vaefx_lib import matching, packed

    if pretrained:
        controller = packed.controller()
    elif preset == "report":
        controller = packed.controller_at_hand()
    else:
        controller = controllers.load(config.controller_dir(chosen.name))
    if controller.about["preset"] == config.PACKED and not pretrained:
        click.echo(
            "no controller of the preset report is trained: taking the one that comes with the library", err=True
        )

    bar = tqdm(total=100, unit="%", disable=None if refine else True, bar_format="{l_bar}{bar}|{postfix} {elapsed}")

    def progress(share, distance):
        bar.set_postfix_str(f" distance {distance:.4g}", refresh=False)
        bar.update(max(0, round(100 * share) - bar.n))

    with redirect_stdout(sys.stderr), bar:
        asked = {"effect": effect, "controller": controller, "refine_s": refine or 0.0, "seed": seed}
        found = matching.match_files(input_path, reference_path, out_path, **asked, progress=progress)
    if as_json:
        click.echo(json.dumps({"out": out_path, **found.summary()}, indent=2, allow_nan=False))
        return
    click.echo(found.effect)
    for name, about in found.settings.items():
        click.echo(f"  {name:<20} {about['value']:.4g} {about['unit']}".rstrip())
    click.echo(f"expected distance from the truth: {found.distance:.3g}, dry {found.baseline_distance:.3g} (MRSTFT)")
    click.echo(f"confidence: nearer to the truth than dry by {found.confidence:.2f}, to judge from known settings")
    if not found.apply:
        click.echo("better left dry: with these settings it is not expected to come nearer")
    for name, distance in found.ranking[1:6]:
        click.echo(f"next best: {name}, {distance:.4g}")
    click.echo(out_path)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def effects(names, as_json):
    """List the effects that this machine can load, with their parameters; or just those of the names given.

    A choice is held at its default unless asked for, as in "mda:Leslie(mode=Fast)". What is found and cannot be loaded
    is listed with the reason.
    """
    from vaefx_lib import effects as fx

    table = {name: fx.describe(name) for name in names or fx.available()}
    if as_json:
        click.echo(json.dumps(table, indent=2, allow_nan=False))
        return
    for name, about in table.items():
        click.echo(name if "error" not in about else f"{name}: {about['error']}")
        for p in about.get("params", ()):
            scale = " (logarithmic)" if p["log"] else ""
            range_ = f"{p['low']:g} to {p['high']:g} {p['unit']}".rstrip()
            click.echo(f"  {p['name']:<20} {range_}{scale}, default {p['default']:g}")
        for c in about.get("choices", ()):
            click.echo(f"  {c['name']:<20} {' | '.join(c['labels'])}, held at {c['default']}")


@click.group()
def corpus():
    """Fetch and check collections of sound."""


@corpus.command("fetch")
@click.argument("name", metavar="vctk|daps|musdb18")
@click.option("--url", help="A mirror of the archive.")
@click.option("--sha256", metavar="HEX", help="The checksum of another archive of the same layout.")
def corpus_fetch(name, url, sha256):
    """Download a public corpus; one that is there already is left alone.

    It goes into $VAEFX_CORPORA, else into runs/corpora. An interrupted download goes on where it broke off.
    """
    from vaefx_lib import fetching

    click.echo(fetching.fetch(name, url=url, sha256=sha256))


@corpus.command("check")
@click.argument("name", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def corpus_check(ctx, name, as_json):
    """Read every file of a corpus and say what it holds and what is damaged.

    NAME is that of a corpus, such as speech, vctk-mic2 or musdb18:PATH; DIR is a folder with one sub-folder per
    speaker. Exit code 1 if a file is damaged, as with `unzip -t` or `flac -t`.
    """
    from vaefx_lib import corpora

    name = corpora.named(name)
    found = corpora.summary(corpora.check(name))
    if as_json:
        click.echo(json.dumps({"corpus": name, **found}, indent=2, allow_nan=False))
    else:
        rates, channels = (
            ", ".join(f"{value} (files: {files})" for value, files in found[key].items())
            for key in ("sample_rates_hz", "channels")
        )
        click.echo(f"{name}: {found['hours']:.2f} hours")
        click.echo(f"  speakers: {found['speakers']}")
        click.echo(f"  files: {found['utterances']}")
        click.echo(f"  sample rates in Hz: {rates}")
        click.echo(f"  channels: {channels}")
        click.echo(f"  damaged: {len(found['damaged'])}")
        for path, reason in found["damaged"].items():
            click.echo(f"    {path} {reason}")
    ctx.exit(1 if found["damaged"] else 0)
