"""The command line: `vaefx COMMAND`, or `python -m vaefx_lib COMMAND`.

Results go to stdout, progress to stderr. Bad input ends as one line on stderr and exit code 1.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout

import click

from vaefx_lib import config

# Everything heavy is imported inside the command that needs it, so that `vaefx --help` answers at once.

preset_option = click.option("--preset", default="report", show_default=True, help="Which experiment.", metavar="NAME")


class Commands(click.Group):
    """Commands whose expected errors end as one line; any other error is a bug and keeps its traceback."""

    def invoke(self, ctx):
        """Run the chosen command."""
        from vaefx_lib.notebooks import NotebookFailed

        try:
            return super().invoke(ctx)
        except (ValueError, FloatingPointError, OSError, NotebookFailed) as error:
            if ctx.params.get("traceback"):
                raise
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if filename := getattr(error, "filename", None):
                text = f"{text}: {filename}"
            raise click.ClickException(" ".join(text.split()) or type(error).__name__) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show where in the code an error was raised.")
def main(traceback):
    """Spectrogram VAEs of audio effects."""


@main.command()
@preset_option
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at work; default: one per core.")
@click.option("--dask", metavar="ADDRESS", help="Render on the workers of this dask scheduler instead.")
def render(preset, jobs, dask):
    """Render the dry/wet pairs of a preset; what is there already is kept."""
    chosen = config.preset(preset)
    from vaefx_lib import rendering

    for subset in config.SUBSETS:
        if getattr(chosen.render, f"n_{subset}") > 0:
            folder = config.data_dir(chosen.name, subset)
            dataset = rendering.render(chosen, subset, folder, jobs=jobs, dask=dask)
            click.echo(f"{subset}: {len(dataset)} pairs at {dataset.sample_rate_hz} Hz in {folder}")


@main.group()
def train():
    """Train a model."""


@train.command("vae")
@preset_option
@click.option("--seed", type=int, help="In place of the preset's.")
@click.option("--resume", is_flag=True, help="Go on from the last whole epoch of an interrupted training.")
@click.option("--logger", "loggers", type=click.Choice(["tensorboard", "wandb"]), multiple=True, help="Repeatable.")
@click.option("--clips", type=click.IntRange(min=0), help="Validation pairs to hear and see; default: 3 with a logger.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Per machine.")
@click.option("--num-nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Machines.")
@click.option(
    "--precision",
    type=click.Choice(["32-true", "bf16-mixed", "16-mixed"]),
    default="32-true",
    show_default=True,
    help="Of the arithmetic; weights stay 32-bit.",
)
def train_vae(preset, seed, resume, loggers, clips, devices, num_nodes, precision):
    """Train the joint VAE on rendered pairs; a finished run with the same choices is kept.

    history.csv is always written. WANDB_MODE=offline keeps what wandb records on this machine. On several devices
    each process takes its share of every batch, so that the losses are those of one device.
    """
    chosen = config.preset(preset)
    from lightning.pytorch.utilities import rank_zero_only

    from vaefx_lib import training

    training.train_vae(
        chosen,
        seed=chosen.train.seed if seed is None else seed,
        resume=resume,
        loggers=loggers,
        clips=(3 if loggers else 0) if clips is None else clips,
        hardware=training.Hardware(devices, num_nodes, precision),
    )
    if rank_zero_only.rank == 0:  # the other processes run this too
        click.echo(f"vae in {config.vae_dir(chosen.name)}")


@train.command("controller")
@preset_option
@click.option("--seed", type=int, help="In place of the preset's.")
@click.option("--logger", "loggers", type=click.Choice(["tensorboard", "wandb"]), multiple=True, help="Repeatable.")
@click.option(
    "--clips", type=click.IntRange(min=0), default=3, show_default=True, help="Validation pairs to hear and see."
)
def train_controller(preset, seed, loggers, clips):
    """Train the controller of a preset: known settings first, then end to end; a finished one is kept.

    Needs the trained VAE. Every validation of the sound leaves input, reference, prediction and truth of a few pairs in
    the run folder, and in the loggers.
    """
    chosen = config.preset(preset)
    from vaefx_lib import controller_training

    with redirect_stdout(sys.stderr):
        controller_training.train_controller(chosen, seed=seed, loggers=loggers, clips=clips)
    click.echo(f"controller in {config.controller_dir(chosen.name)}")


@train.command("critic")
@preset_option
@click.option(
    "--groups", type=click.IntRange(min=16), default=6_100, show_default=True, help="Of sounds to learn from."
)
@click.option("--replace", is_flag=True, help="Put it in the place of the one that comes with the library.")
def train_critic(preset, groups, replace):
    """Train the critic on the corpus and the effects of a preset, through pedalboard's effects as well.

    The one that comes with the library is of the preset nine. Groups are kept, so that an interrupted call goes on;
    the critic goes into the run folder, where nothing uses it but to compare, or with --replace into the library.
    """
    chosen = config.preset(preset)
    from vaefx_lib import critic, critic_training

    folder = critic.FOLDER if replace else config.run_dir(chosen.name) / "critic"
    with redirect_stdout(sys.stderr):
        made = critic_training.train_critic(chosen, groups=groups, folder=folder)
    for name, value in made.about["worth"].items():
        click.echo(f"{name} {value:g}")
    click.echo(f"critic in {folder}")


@main.command()
@click.argument("name")
@preset_option
@click.option("-p", "parameters", type=(str, str), multiple=True, metavar="KEY VALUE", help="A notebook parameter.")
@click.option("--timeout-s", type=click.FloatRange(min=1), default=3600, show_default=True, help="For all its cells.")
def notebook(name, preset, parameters, timeout_s):
    """Run the notebook NAME, such as 01_data_rendering or just 01, from top to bottom."""
    from vaefx_lib import notebooks

    path = notebooks.run(name, preset=preset, parameters=dict(parameters), timeout_s=timeout_s)
    click.echo(path)


@main.command(context_settings={"ignore_unknown_options": True})
@preset_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def app(preset, options):
    """Play with the latent space in the browser, as `make app` does; further OPTIONS go to Voila."""
    from vaefx_lib import app

    app.serve(preset, options)


@main.command("report")
@click.option("--since", default="", metavar="DAY|COMMIT", help="The last report; default: seven days before this one.")
@click.option("--day", default="", metavar="DAY", help="Of this report, such as 2026-11-26; default: today.")
@preset_option
def weekly_report(since, day, preset):
    """The weekly report of a preset as one HTML page with its figures and sounds; your words go into a text file.

    It runs notebook 08_weekly_report on what the other lessons have left, and shows notebooks/weekly_report.md.
    """
    from vaefx_lib import notebooks, report, report_page

    day, since = report.span(day, since)
    executed = notebooks.run("08_weekly_report", preset=preset, parameters={"since": since, "day": day}, timed=False)
    page = config.run_dir(preset) / "report.html"
    click.echo(report_page.write(executed, page, title=f"Weekly report, {day}"))


@main.group()
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


@main.command()
@click.argument("input_path", metavar="INPUT")
@click.argument("reference_path", metavar="REFERENCE")
@click.option("-o", "--out", "out_path", required=True, metavar="FILE", help="The matched sound: .wav or .flac.")
@click.option("--effect", default="auto", show_default=True, metavar="NAME", help="As in `vaefx effects`; auto: any.")
@click.option("--refine", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Search for this long.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")
@preset_option
def match(input_path, reference_path, out_path, effect, refine, seed, as_json, preset):
    """Make INPUT, a dry recording, sound like REFERENCE, another one through an unknown effect.

    The trained controller of the preset proposes settings; --refine searches on from there, and is what finds those of
    an effect that the controller does not know. The whole INPUT goes through the effect at its own rate.
    """
    chosen = config.preset(preset)
    from tqdm import tqdm

    from vaefx_lib import matching

    bar = tqdm(total=100, unit="%", disable=None if refine else True, bar_format="{l_bar}{bar}|{postfix} {elapsed}")

    def progress(share, distance):
        bar.set_postfix_str(f" distance {distance:.4g}", refresh=False)
        bar.update(max(0, round(100 * share) - bar.n))

    with redirect_stdout(sys.stderr), bar:
        asked = {"effect": effect, "controller": matching.trained(chosen), "refine_s": refine or 0.0, "seed": seed}
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


@main.command()
def study():
    """The main claims over three seeds and with seven effects, into `metrics.json`: half an hour on two cores.

    Needs the pairs of `vaefx render`. Finished trainings are kept. Seven effects need the mda-lv2 plug-ins; without
    them that part is left out.
    """
    from vaefx_lib import figures
    from vaefx_lib import study as claims

    figures.record("report", {"vae": claims.over_seeds(config.preset("report"))})
    try:
        found = claims.seven_effects(config.preset("seven"))
    except ValueError as error:
        click.echo(f"seven effects are left out: {error}", err=True)
    else:
        figures.record("report", {"vae": {"seven_effects": found}})
    figures.update_readme("report")
    click.echo(config.figures_dir("report") / "metrics.json")


@main.command("study-controller")
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


@main.command("study-match")
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


@main.command()
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


@main.group()
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


if __name__ == "__main__":
    main(prog_name="vaefx")
