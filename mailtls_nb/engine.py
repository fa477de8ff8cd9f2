"""The papermill engine ``mailtls``: a truthful status, this interpreter's kernel, an encrypted transport.

papermill's own engine marks the cell that failed, and every cell that never ran, as completed when a cell runs
out of time, the kernel dies or the run is interrupted. This one marks what happened. A cell that has to end is
interrupted first and given time: a runbook that is changing a host then puts everything back.
"""

from __future__ import annotations

import ast
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbclient.util import ensure_async, run_sync
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager
from papermill.log import logger
from traitlets import default

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.interruption import no_interruption, termination_interrupts
from mailtls_nb.parameters import check_values, declared_parameters

# What an interrupted cell gets to put things back before its kernel is killed, in seconds.
GRACE_S = 60.0


class TruthfulEngine(NBClientEngine):  # type: ignore[misc]
    """What ``papermill --engine mailtls`` and ``mailtls-nb run`` execute notebooks with."""

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> NotebookNode:
        """Execute a notebook that has its parameters; papermill calls this."""
        nb_man = TruthfulExecution(
            nb,
            output_path=output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        nb_man.notebook_start()
        try:
            cls.execute_managed_notebook(nb_man, kernel_name, log_output=log_output, **kwargs)
        except BaseException:
            nb_man.nb.metadata.papermill["exception"] = True
            raise
        finally:
            nb_man.cleanup_pbar()
            nb_man.notebook_complete()
        return nb  # the same object as nb_man.nb, changed in place

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: float | None = None,
        kernel_env: Mapping[str, str] | None = None,
        kernel_cwd: Path | None = None,
        kernel_pass_fds: Sequence[int] = (),
        **_other: Any,
    ) -> None:
        """Run the cells; ``execution_timeout`` is for each cell, in seconds.

        ``kernel_env`` is added to the kernel's environment, ``kernel_cwd`` is where it starts, ``kernel_pass_fds`` are
        descriptors that it inherits under their numbers.
        Raises BadParameter, before a kernel is started, when a parameter is not declared.
        """
        refuse_undeclared_parameters(nb_man.nb)
        client = TruthfulClient(
            nb_man,
            kernel_manager_class=OwnKernelManager,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            log=logger,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        )
        client.cell_timeout_s = execution_timeout or None
        start: dict[str, Any] = {"env": {**os.environ, **(kernel_env or {})}}
        if kernel_cwd is not None:
            start["cwd"] = str(kernel_cwd)
        if kernel_pass_fds:
            start["pass_fds"] = tuple(kernel_pass_fds)
        with termination_interrupts():
            client.execute(**start)


class TruthfulExecution(NotebookExecutionManager):  # type: ignore[misc]
    """The status of each cell: one that never ran stays ``pending``."""

    def notebook_complete(self, **kwargs: Any) -> None:
        never_ran = [cell for cell in self.nb.cells if cell.metadata.papermill["status"] == self.PENDING]
        super().notebook_complete(**kwargs)
        for cell in never_ran:
            cell.metadata.papermill["status"] = self.PENDING
        self.save()


class OwnKernelManager(AsyncKernelManager):
    """Starts this interpreter's ipykernel for ``python3``, whatever is registered under that name here."""

    @default("transport_encryption")
    def _encrypted(self) -> str:
        # Otherwise kernel messages, passwords typed at a prompt among them, cross the loopback in clear.
        return "required"

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The kernel specification that the kernel is started by."""
        if self.kernel_name == NATIVE_KERNEL_NAME and self._kernel_spec is None:
            self._kernel_spec = KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())
        return super().kernel_spec


class TruthfulClient(PapermillNotebookClient):  # type: ignore[misc]
    """Runs the cells of one notebook in one kernel."""

    # Not nbclient's own time-out, which drops what a cell prints while it puts things back.
    cell_timeout_s: float | None = None

    @contextmanager
    def setup_kernel(self, **kwargs: Any) -> Iterator[None]:
        """Start a kernel, once more if it does not come up (nothing has run yet), and end it in any case."""
        try:
            try:
                self._start_kernel(**kwargs)
            except RuntimeError as error:
                self.log.warning("The kernel did not start (%s); starting it once more", error)
                self._start_kernel(**kwargs)
            yield
        finally:
            if self.km is not None:
                self._cleanup_kernel()

    def _start_kernel(self, **kwargs: Any) -> None:
        self.km = self.create_kernel_manager()
        self.start_new_kernel(**kwargs)
        self.start_new_kernel_client()

    def papermill_execute_cells(self) -> None:
        """Run the cells up to the first that fails; every way of failing is marked in the notebook."""
        for index, cell in enumerate(self.nb.cells):
            try:
                self.nb_man.cell_start(cell, index)
                self._run_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                # papermill raises for the error in the outputs, but takes sys.exit(0) for success.
                if error.ename == "SystemExit":
                    raise
                break
            except BaseException as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                raise
            finally:
                self.nb_man.cell_complete(self.nb.cells[index], cell_index=index)

    def _run_cell(self, cell: NotebookNode, index: int) -> None:
        self._cell: asyncio.Future[Any] | None = None
        try:
            self._start_and_wait(cell, index)
        except KeyboardInterrupt:
            with no_interruption():
                # Whoever hung up reads nothing any more; what was begun is put back all the same.
                with suppress(OSError):
                    print(f"interrupted: what was begun is put back, in at most {GRACE_S:g} s", file=sys.stderr)
                self._end_cell()
            raise
        assert self._cell is not None  # noqa: S101 # set before the first await
        if not self._cell.done():
            self._end_cell()
            raise CellTimeoutError.error_from_timeout_and_cell("Cell ran out of time", self.cell_timeout_s, cell)
        self._cell.result()

    async def _async_start_and_wait(self, cell: NotebookNode, index: int) -> None:
        self._cell = asyncio.ensure_future(self.async_execute_cell(cell, index))
        await asyncio.wait({self._cell}, timeout=self.cell_timeout_s)

    async def _async_end_cell(self) -> None:
        """Interrupt the cell and wait until it has put things back, at most GRACE_S; its outputs are kept."""
        if self._cell is None or self.km is None:
            return
        await ensure_async(self.km.interrupt_kernel())
        await asyncio.wait({self._cell}, timeout=GRACE_S)
        self._cell.cancel()
        await asyncio.gather(self._cell, return_exceptions=True)

    _start_and_wait = run_sync(_async_start_and_wait)
    _end_cell = run_sync(_async_end_cell)


def refuse_undeclared_parameters(notebook: NotebookNode) -> None:
    """Raise BadParameter when the injected cell does anything but give declared parameters a value.

    papermill pastes a parameter's name into that cell as code: ``-p 'x=1;import os;y' 2`` would run it.
    """
    tagged = {tag: cell.source for cell in notebook.cells for tag in cell.metadata.get("tags", ())}
    if "injected-parameters" not in tagged:
        return
    if "parameters" not in tagged:
        raise NotReady("the notebook declares no parameters, but some were given", left="nothing was touched")
    declared = declared_parameters(tagged["parameters"])
    check_values(declared, notebook.metadata.papermill.get("parameters", {}))
    known = {parameter.name for parameter in declared}
    for statement in ast.parse(tagged["injected-parameters"]).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() | ast.UnaryOp()) if name in known:
                continue
        raise BadParameter(f"{ast.unparse(statement)!r:.80}", "is more than a value for a declared parameter")
