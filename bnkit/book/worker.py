"""The process that executes one chapter, from its clean notebook into the executed one.

The kernel is this very Python, whatever the machine calls ``python3``. It talks through files, not
through network ports, which kernels that start at the same moment can snatch from each other.
"""

import argparse
import json
import os
import sys

import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from bnkit import engines

KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running Python."""

    transport = "ipc"

    def _ip_default(self) -> str:  # what the names of its sockets begin with
        return os.path.join(jupyter_runtime_dir(), str(os.getpid()))

    def _connection_file_default(self) -> str:  # else it would outlive a kill among the machine's
        return os.path.join(jupyter_runtime_dir(), f"kernel-{os.getpid()}.json")

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=KERNEL, display_name="Python 3", language="python")


class SavesOnce(NBClientEngine):
    """papermill's engine, which writes the notebook twice for every cell: seconds for a chapter.

    Here it is written at the end, and where a run breaks off, to tell in which cell.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, executed, **options):
        try:
            super().execute_managed_notebook(nb_man, kernel_name, **options)
        except BaseException:
            nb_man.output_path = executed
            nb_man.save()
            raise


def main(arguments: list[str] | None = None) -> int:
    """Execute one notebook; if it fails, say why on stderr and keep it as far as it ran."""
    parser = argparse.ArgumentParser(prog="worker", description=__doc__.splitlines()[0])
    parser.add_argument("clean")
    parser.add_argument("executed")
    parser.add_argument("--parameters", type=json.loads, default={}, help="a JSON object")
    parser.add_argument("--seconds", type=int, help="limit for each cell; none by default")
    parser.add_argument("--live", action="store_true", help="show progress and what cells print")
    options = parser.parse_args(arguments)
    engines.end_with_parent()  # the kernel does the same with this process
    papermill_engines.register("saves-once", SavesOnce)
    try:
        papermill.execute_notebook(
            options.clean,
            options.executed,
            engine_name="saves-once",
            request_save_on_cell_execute=False,
            executed=options.executed,
            parameters=options.parameters,
            kernel_name="python3",
            kernel_manager_class=ThisPython,
            start_timeout=120,  # many kernels that import torch at once take their time
            execution_timeout=options.seconds,
            progress_bar=options.live,
            stdout_file=sys.stdout if options.live else None,
            stderr_file=sys.stderr if options.live else None,
        )
    except PapermillExecutionError:
        return 1  # the notebook itself says which cell and why
    except CellTimeoutError:
        print(f"a cell ran for more than {options.seconds} seconds", file=sys.stderr)
    except DeadKernelError:
        print("the kernel died, perhaps for want of memory", file=sys.stderr)
    except (OSError, RuntimeError) as error:  # a full disk, a kernel that does not start
        print(error, file=sys.stderr)
    else:
        return 0
    return 2
