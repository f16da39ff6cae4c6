"""Commands that train: `vaefx train ...`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import click

from vaefx_lib import config
from vaefx_lib.cli_options import preset_option


@click.group()
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
    "--groups", type=click.IntRange(min=16), default=8_000, show_default=True, help="Of sounds to learn from."
)
@click.option("--replace", is_flag=True, help="Put it in the place of the one that comes with the library.")
def train_critic(preset, groups, replace):
    """Train the critic on the corpus of a preset and on invented music, through its effects and pedalboard's.

    The one that comes with the library is of the preset nine. Groups are kept, so that an interrupted call goes on;
    the critic goes into the run folder, where nothing uses it but to compare, or with --replace into the library.
    """
    chosen = config.preset(preset)
    from vaefx_lib import critic, critic_training

    folder = critic.FOLDER if replace else config.run_dir(chosen.name) / "critic"
    with redirect_stdout(sys.stderr):
        made = critic_training.train_critic(chosen, groups=groups, folder=folder)
    for kind, worth in made.about["worth"].items():
        for name, value in worth.items():
            click.echo(f"{kind}: {name} {value:g}")
    click.echo(f"critic in {folder}")


@train.command("pretrained")
@click.option("--replace", is_flag=True, help="Put them in the place of those that come with the library.")
def train_pretrained(replace):
    """Train the models that come with the library, all that the preset pretrained has: half an hour on two cores.

    What is there already is kept, so that an interrupted call goes on. They are made small, measured, and put beside
    the run folder's, where nothing uses them, or with --replace into the library.
    """
    chosen = config.preset("pretrained")
    from vaefx_lib import packed, packing, packing_scores, versions

    commit = versions.head(besides="vaefx_lib/pretrained")
    folder = packed.FOLDER if replace else config.run_dir(chosen.name) / config.PACKED
    with redirect_stdout(sys.stderr):
        packing.train(chosen)
        found = packing.pack(chosen, folder, commit=commit)
    for line in packing_scores.compared(found):
        click.echo(line)
    click.echo(f"{sum(about['bytes'] for about in found['files'].values()) / 1e6:.2f} MB in {folder}")
