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
        except (ValueError, OSError, NotebookFailed) as error:
            if ctx.params.get("traceback"):
                raise
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if getattr(error, "filename", None):
                text = f"{text}: {error.filename}"
            raise click.ClickException(" ".join(text.split()) or type(error).__name__) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show where in the code an error was raised.")
def main(traceback):
    """Spectrogram VAEs of audio effects."""


@main.command()
@preset_option
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at work; default: one per core.")
def render(preset, jobs):
    """Render the dry/wet pairs of a preset; what is there already is kept."""
    chosen = config.preset(preset)
    from vaefx_lib import rendering

    for subset in config.SUBSETS:
        if getattr(chosen.render, f"n_{subset}") > 0:
            folder = config.data_dir(chosen.name, subset)
            dataset = rendering.render(chosen, subset, folder, jobs=jobs)
            click.echo(f"{subset}: {len(dataset)} pairs at {dataset.sample_rate_hz} Hz in {folder}")


@main.group()
def train():
    """Train a model."""


@train.command("vae")
@preset_option
@click.option("--seed", type=int, help="In place of the preset's.")
def train_vae(preset, seed):
    """Train the joint VAE on rendered pairs; a finished run with the same choices is kept."""
    chosen = config.preset(preset)
    from vaefx_lib import training

    training.train_vae(chosen, seed=chosen.train.seed if seed is None else seed)
    click.echo(f"vae in {config.vae_dir(chosen.name)}")


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
    if as_json:
        click.echo(json.dumps(scores, indent=2, sort_keys=True, allow_nan=False))
    else:
        for name, value in _flat(scores):
            click.echo(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def effects(as_json):
    """List the effects and their parameters."""
    from vaefx_lib import effects as fx

    table = {
        name: [
            {"name": p.name, "unit": p.unit, "low": p.low, "high": p.high, "default": p.default}
            for p in fx.load(name).params
        ]
        for name in fx.available()
    }
    if as_json:
        click.echo(json.dumps(table, indent=2, allow_nan=False))
        return
    for name, params in table.items():
        click.echo(name)
        for p in params:
            click.echo(f"  {p['name']:<12} {p['low']:g} to {p['high']:g} {p['unit']} (default {p['default']:g})")


def _flat(scores: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Nested scores as (dotted name, value), sorted by name."""
    rows = []
    for name, value in sorted(scores.items()):
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


if __name__ == "__main__":
    main(prog_name="vaefx")
