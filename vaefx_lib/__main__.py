"""The command line: `vaefx COMMAND`, or `python -m vaefx_lib COMMAND`.

Results go to stdout, progress to stderr. Bad input ends as one line on stderr and exit code 1.
"""

from __future__ import annotations

import click

from vaefx_lib import cli_scores, cli_sounds, cli_train, config
from vaefx_lib.cli_options import preset_option

# Everything heavy is imported inside the command that needs it, so that `vaefx --help` answers at once.


class Commands(click.Group):
    """Commands whose expected errors end as one line; any other error is a bug and keeps its traceback."""

    def invoke(self, ctx):
        """Run the chosen command; an expected error becomes a ClickException."""
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


for command in (cli_train.train, cli_scores.evaluate, cli_scores.study, cli_scores.study_controller):
    main.add_command(command)
for command in (cli_scores.study_match, cli_sounds.match, cli_sounds.effects, cli_sounds.corpus):
    main.add_command(command)


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
@click.option("--pretrained", is_flag=True, help="On the map that comes with the library, whatever is trained.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def app(preset, pretrained, options):
    """Play with the latent space in the browser, as `make app` does; further OPTIONS go to Voila.

    That of the preset report, where it has not been trained, is the one that comes with the library.
    """
    from vaefx_lib import app

    app.serve(preset, options, pretrained=pretrained)


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


if __name__ == "__main__":
    main(prog_name="vaefx")
