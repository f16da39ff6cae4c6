"""Commands that measure: `vaefx evaluate ...` and the studies."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout

import click

from vaefx_lib import config
from vaefx_lib.cli_options import preset_option


@click.group()
def evaluate():
    """Score a trained model."""


@evaluate.command("vae")
@click.option("--speech", "folder", required=True, metavar="DIR", help="Speech, one sub-folder per speaker.")
@preset_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
def evaluate_vae(folder, preset, as_json):
    """Score the VAE of the last run of a preset on any folder of speech."""
    chosen = config.preset(preset)
    from vaefx_lib import evaluation

    with redirect_stdout(sys.stderr):
        scores = evaluation.evaluate_folder(folder, chosen)
    _tell(scores, as_json)


@evaluate.command("controller")
@click.option("--speech", metavar="NAME|DIR", help="A corpus, or a folder with one sub-folder per speaker.")
@click.option("--music", metavar="NAME|DIR", help="The same of music, one sub-folder per piece: leaves out PESQ.")
@click.option("--effects", "effect_names", metavar="A,B", help="Those to set; default: all that the controller knows.")
@click.option("--made-by", metavar="NAME", help="The effect of the references; default: the one that is set.")
@click.option("--n", type=click.IntRange(min=1), default=200, show_default=True, help="Cases for each effect.")
@click.option("--refine-evaluations", type=click.IntRange(min=0), default=0, help="Of a search in each case.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the cases.")
@preset_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
def evaluate_controller(speech, music, effect_names, made_by, n, refine_evaluations, seed, preset, as_json):
    """Score the trained controller of a preset on passages of any folder of speech or music.

    Each case is a dry passage, and another one through an effect at random settings, of the same speaker or piece and
    of another in turn. The distance from the true sound stands beside that of the dry input, of random and of mean
    settings, and of the best there is.
    """
    chosen = config.preset(preset)
    if (speech is None) == (music is None):
        raise click.UsageError("one of --speech and --music is needed, and not both")
    from vaefx_lib import match_study
    from vaefx_lib.effects import chain

    names = chain._members(effect_names or "")
    if effect_names is not None and not names:
        raise click.UsageError(f"--effects is {effect_names!r}: it must be names with commas between them")
    asked = {"speech": music is None, "effects": names, "made_by": made_by, "n": n}
    with redirect_stdout(sys.stderr):
        scores = match_study.evaluate(
            chosen, speech or music, **asked, refine_evaluations=refine_evaluations, seed=seed
        )
    _tell(scores, as_json)


@click.command()
def study():
    """The main claims over three seeds and with seven effects, into `metrics.json`: half an hour on two cores.

    Needs the pairs of `vaefx render`. Finished trainings are kept. Seven effects need the mda-lv2 plug-ins; without
    them that part is left out.
    """
    from vaefx_lib import figures, results
    from vaefx_lib import study as claims

    figures.record("report", {"vae": claims.over_seeds(config.preset("report"))})
    try:
        found = claims.seven_effects(config.preset("seven"))
    except ValueError as error:
        click.echo(f"seven effects are left out: {error}", err=True)
    else:
        figures.record("report", {"vae": {"seven_effects": found}})
    results.update_readme("report")
    click.echo(config.figures_dir("report") / "metrics.json")


@click.command("study-controller")
@preset_option
def study_controller(preset):
    """One controller for all effects beside one for each, and what its inputs are worth, into `metrics.json`.

    Over three seeds; half an hour on two cores. Needs the trained VAE. Finished trainings are kept.
    """
    chosen = config.preset(preset)
    from vaefx_lib import controller_study, figures

    with redirect_stdout(sys.stderr):
        found = controller_study.study(chosen)
    figures.record(chosen.name, {"controller": {"study": found}})
    click.echo(config.figures_dir(chosen.name) / "metrics.json")


@click.command("study-match")
@click.option("--music", metavar="NAME|DIR", help="Music beside the speech: a corpus, or one sub-folder per piece.")
@click.option("--cases", type=click.IntRange(min=1), default=24, show_default=True, help="For each effect.")
def study_match(music, cases):
    """What matches with nine effects are worth, into `metrics.json`: hours on two cores.

    Needs the trained controller of the preset `nine`. Each part is written as soon as it is done; an interrupted study
    goes on with the part that was lost.
    """
    from vaefx_lib import figures, match_study

    with redirect_stdout(sys.stderr):
        for part in match_study.study(config.preset(match_study.STUDIED), music=music, cases=cases):
            figures.record("report", part)
    click.echo(config.figures_dir("report") / "metrics.json")


def _tell(scores: dict, as_json: bool) -> None:
    """Scores on stdout, as JSON or a line each."""
    if as_json:
        click.echo(json.dumps(scores, indent=2, sort_keys=True, allow_nan=False))
        return
    for name, value in _flat(scores):
        click.echo(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")


def _flat(scores: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Nested scores as (dotted name, value), sorted by name."""
    rows = []
    for name, value in sorted(scores.items()):
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows
