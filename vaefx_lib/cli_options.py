"""What the commands of the command line have in common."""

from __future__ import annotations

import click

preset_option = click.option("--preset", default="report", show_default=True, help="Which experiment.", metavar="NAME")
