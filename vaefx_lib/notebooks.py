"""Run a lesson notebook from top to bottom, and say truthfully how that went.

The executed copy is `runs/<preset>/notebooks/NAME.ipynb` if, and only if, every cell ran. While it runs it is called
`NAME.running.ipynb`, and after a failure `NAME.failed.ipynb`, so the name without a suffix can be trusted by `make`.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from vaefx_lib import config, figures, notebook_parameters, results

SAVE_S = 10  # between copies of a notebook that is running: to write all its sounds again after each cell takes longer
LONGEST_SOCKET = 80  # bytes of a path: the system takes 103 or 107 for a socket, whose name has a few more
TAIL_LINES = 20  # of the failing cell, printed after a failure


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end: a cell raised, its kernel died, or its time was up."""


def find(name: str | Path) -> Path:
    """Path of a notebook given as a path, as ``"01_data_rendering"`` or just as ``"01"``.

    Raises
    ------
    ValueError
        If there is none, or more than one; the message names the known ones.
    """
    if Path(name).suffix == ".ipynb":
        if not Path(name).is_file():
            raise ValueError(f"there is no notebook {name}")
        return Path(name).absolute()
    known = sorted((config.project_dir() / "notebooks").glob("*.ipynb"))
    found = [path for path in known if path.stem == name or path.stem.split("_")[0] == name]
    if len(found) != 1:
        names = ", ".join(path.stem for path in known) or "none"
        raise ValueError(f"{name!r} names {len(found)} notebooks, not one: known are {names}")
    return found[0].absolute()


def run(
    name: str | Path,
    *,
    preset: str = "report",
    parameters: dict[str, object] | None = None,
    timeout_s: float = 3600.0,
    timed: bool = True,
) -> Path:
    """Execute a notebook in a fresh kernel of this very Python; its printed lines go to stderr as they come.

    The previous copy is removed before anything runs: from then on it would no longer tell what the run folder holds.

    Parameters
    ----------
    name : str or Path
        See `find`.
    preset : str
        Name of a preset, given to the notebook as its parameter `preset`.
    parameters : dict, optional
        Further parameters by name, in place of the notebook's own. If `pretrained` is true, all goes to `runs/packed`.
    timeout_s : float
        Seconds that all cells together may take; the start of the kernel is not counted.
    timed : bool
        Whether its wall time is among the numbers of `metrics.json`; not that of a lesson which only tells of them.

    Returns
    -------
    Path
        The executed copy.

    Raises
    ------
    ValueError
        If the notebook, the preset or a parameter is unknown, or a value is not of its parameter's type; if another
        preset than `report` is given to a lesson that is to begin with the pretrained models.
    NotebookFailed
        If it did not run to its end. The last lines of the failing cell have been printed to stderr.
    """
    source = find(name)
    config.preset(preset)
    values = notebook_parameters.checked(source, preset, parameters or {})
    if values.get("pretrained"):  # its copy and its time must not be taken for those of the preset
        if preset != "report":
            raise ValueError(f"pretrained is true, and the preset {preset!r}: it makes no difference and must be left")
        preset = config.PACKED

    papermill = _papermill()
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillException

    folder = (config.run_dir(preset) / "notebooks").absolute()
    final, running, failed = (folder / f"{source.stem}{end}.ipynb" for end in ("", ".running", ".failed"))
    folder.mkdir(parents=True, exist_ok=True)
    for previous in (final, running, failed):
        previous.unlink(missing_ok=True)

    began = time.monotonic()
    started = []  # (cell, when), the last of which is the one that failed, whatever the reason

    def time_left(cell):
        started.append((cell, time.monotonic()))
        return max(0.1, timeout_s - (time.monotonic() - started[0][1]))

    papermill.engines.papermill_engines.register("vaefx", _engine())
    try:
        with _kernel_environment() as private:
            papermill.execute_notebook(
                str(source),
                str(running),
                values,
                engine_name="vaefx",
                kernel_name="python3",
                cwd=str(config.project_dir().absolute()),
                progress_bar=False,
                stdout_file=sys.stderr,
                stderr_file=sys.stderr,
                start_timeout=120,
                config=_connected_in(private),
                timeout_func=time_left,
            )
    except (PapermillException, RuntimeError, TimeoutError) as error:
        if isinstance(error, CellTimeoutError):
            reason = f"the notebook ran longer than {timeout_s:g} s"
        elif isinstance(error, DeadKernelError):
            reason = "its kernel died (killed, or out of memory)"
        else:
            reason = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
        if running.exists():
            running.replace(failed)
        if started:
            print(_tail(started[-1][0]), file=sys.stderr)
        where = f"in cell In [{len(started)}]" if started else "before its first cell"
        seconds = time.monotonic() - began
        raise NotebookFailed(
            f"notebook {source.stem} failed {where} after {seconds:.0f} s: {reason} (see {failed})"
        ) from error
    if timed:
        record_timing(preset, source.stem, time.monotonic() - began)
    if figures.metrics(preset).keys() >= set(results.RESULTS):
        results.update_readme(preset)
    running.replace(final)
    return final


def record_timing(preset: str, name: str, seconds: float) -> None:
    """Store the wall time of a notebook, in seconds, as ``timing.<name>_s`` in the preset's `metrics.json`.

    The longest time stands: that of a run that found everything rendered and trained says nothing. Nor does that of
    one that had another beside it, as `make figures` tells by $VAEFX_SIDE_BY_SIDE.
    """
    if os.environ.get("VAEFX_SIDE_BY_SIDE"):
        return
    known = figures.metrics(preset).get("timing", {}).get(f"{name}_s", 0)
    figures.record(preset, {"timing": {f"{name}_s": max(known, round(seconds, 1))}})


def _papermill():
    """The package, without a grammar of web addresses that is built in 2.5 s and never asked: notebooks hold none.

    jsonschema does without `rfc3987_syntax` where it is not installed, as it seems to be while papermill is imported.
    """
    if "rfc3987_syntax" in sys.modules:
        import papermill

        return papermill
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # Python's own mark of a module that is not there
    try:
        import papermill
    finally:
        del sys.modules["rfc3987_syntax"]
    return papermill


def _engine() -> type:
    """papermill's engine, but it saves the running notebook every `SAVE_S` only, and in the end whatever happens."""
    from papermill.engines import NBClientEngine

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            save, saved = nb_man.save, time.monotonic()

            def seldom(**found):
                nonlocal saved
                if time.monotonic() > saved + SAVE_S:
                    save(**found)
                    saved = time.monotonic()

            nb_man.save = seldom
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **options)
            finally:
                save()

    return Engine


@contextmanager
def _kernel_environment():
    """Environment of a headless kernel: the interpreter is this one, whatever kernels a user has installed."""
    from ipykernel.kernelspec import write_kernel_spec

    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="vaefx-kernel-") as folder:
        kernel = Path(folder) / "kernels" / "python3"
        write_kernel_spec(str(kernel), extra_arguments=["--log-level=CRITICAL"])  # its failures arrive as exceptions
        # JUPYTER_PATH is searched before the folders of the user, of the environment and of the system
        os.environ["JUPYTER_PATH"] = os.pathsep.join([folder, *filter(None, [before.get("JUPYTER_PATH")])])
        os.environ["VAEFX_HOME"] = str(config.project_dir().absolute())
        os.environ["VAEFX_HEADLESS"] = "1"  # plain lines for progress bars, no sliders
        os.environ.pop("MPLBACKEND", None)  # or pictures would not show up in the notebook
        for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
            os.environ.setdefault(name, str(2**30))  # glibc keeps freed memory for the next batch: 8 % off a step
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _connected_in(folder: Path):
    """Configuration of a kernel that is spoken to through sockets in this folder, if its name is not too long for them.

    A port that is free when it is chosen may be taken before the kernel binds it, where several start at a time.
    """
    from traitlets.config import Config

    file = folder / "kernel.json"
    if len(os.fsencode(file)) > LONGEST_SOCKET:
        return Config()
    return Config({"KernelManager": {"transport": "ipc", "connection_file": str(file)}})


def _tail(cell: dict) -> str:
    """The last lines of a cell and of what it printed or raised."""
    lines = [f"    {line}" for line in cell["source"].splitlines()[-TAIL_LINES // 2 :]]
    printed = []
    for output in cell.get("outputs", []):
        text = "\n".join(output["traceback"]) if output["output_type"] == "error" else output.get("text", "")
        printed += re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines()
    return "\n".join([*lines, *printed[-TAIL_LINES:]])
