"""The command ``mailtls-nb``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import yaml

import mailtls_nb
from mailtls_nb import library
from mailtls_nb.audit.commands import audit
from mailtls_nb.errors import BadParameter, MailTLSError
from mailtls_nb.interruption import termination_interrupts
from mailtls_nb.runner import CELL_TIMEOUT_S, refuse, run_runbook

# \b keeps the lines as they are.
_EXIT_STATUS = """\b
Exit status:
  0  changed, unchanged, or planned with approve ""
  1  failed; put back where a host was touched
  2  bad parameters, host not reachable, stale approval, set-up: nothing was touched
  3  the plan waits for approval
  4  07-check-host has findings of severity error
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mailtls_nb.__version__, prog_name="mailtls-nb", message="%(prog)s %(version)s")
def cli() -> None:
    """Runbooks for STARTTLS with a private certificate authority on sendmail."""


@cli.command("list")
def list_runbooks() -> int:
    """List the runbooks and their parameters."""
    for runbook in library.runbooks():
        click.echo(f"{runbook.id}  {runbook.title}")
        click.echo(textwrap.fill(runbook.sentence, width=100, initial_indent="    ", subsequent_indent="    "))
        for parameter in runbook.declared:
            default = f'"{parameter.default}"' if parameter.type == "str" else parameter.default
            click.echo(f"      {parameter.name} = {default}  {parameter.meaning}")
        click.echo()
    return 0


@cli.command(epilog=_EXIT_STATUS)
@click.argument("runbook")
@click.option(
    "-p",
    "pairs",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="A parameter, taken as it is typed. May be given several times.",
)
@click.option("-f", "file", type=click.Path(path_type=Path), help="Parameters from a YAML file; -p wins over it.")
@click.option("--json", "json_output", is_flag=True, help="Print the outcome as one JSON object on the last line.")
@click.option(
    "--cell-timeout",
    "cell_timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=CELL_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="What one cell may take.",
)
def run(
    runbook: str, pairs: tuple[tuple[str, str], ...], file: Path | None, json_output: bool, cell_timeout_s: float
) -> int:
    """Run a runbook headless: by its id (02-issue-certificate), its number (02), or a path."""
    try:
        given = {**(_parameters_file(file) if file else {}), **_parameters(pairs)}
    except MailTLSError as error:
        return refuse(runbook, error, json_output=json_output)
    return run_runbook(runbook, given, started_from=Path.cwd(), json_output=json_output, cell_timeout_s=cell_timeout_s)


@cli.command()
@click.argument("action", type=click.Choice(["up", "down", "status"]))
def testbed(action: str) -> int:
    """Bring the testbed's mail servers up or down, or say how they are."""
    from mailtls_nb.testbed import commands

    return {"up": commands.up_command, "down": commands.down_command, "status": commands.status_command}[action]()


cli.add_command(audit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors of ours are printed without a traceback."""
    try:
        with termination_interrupts():
            return int(cli.main(arguments, prog_name="mailtls-nb", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MailTLSError as error:
        print(f"mailtls-nb: {error}", file=sys.stderr)
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        print("mailtls-nb: interrupted", file=sys.stderr)
        return 1


def _parameters(pairs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise BadParameter(name, "is given twice")
        given[name] = value
    return given


def _parameters_file(path: Path) -> Mapping[str, str]:
    """Parameters from YAML, every value as the text that stands there: ``no`` and ``0012`` stay what they are."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadParameter("-f", f"{path} cannot be read: {error}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise BadParameter("-f", f"{path} holds no `name: value` lines")
    given: dict[str, str] = {}
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise BadParameter("-f", f"{path}, line {line}: not `name: value`", do="write a list as `a,b,c`")
        if name.value in given:
            raise BadParameter(name.value, f"stands twice in {path}")
        given[name.value] = value.value
    return given


if __name__ == "__main__":
    sys.exit(main())
