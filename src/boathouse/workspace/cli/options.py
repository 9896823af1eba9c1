"""Options that many commands share: bundle and target, JSON or text, and examples in the help."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from boathouse.workspace.errors import BundleError, Where

if TYPE_CHECKING:
    from boathouse.workspace.bundle.load import Bundle

Command = Callable[..., Any]
DEBUG = "boathouse.debug"


@dataclass(frozen=True)
class BundleOptions:
    "Hold the bundle that a command line names; without `folder`, the one around the working directory."

    folder: Path | None = None
    target: str | None = None
    variables: tuple[str, ...] = ()
    as_json: bool = False

    @property
    def root(self) -> Path:
        "Return the root folder of the bundle."
        from boathouse.workspace.bundle.includes import find_bundle_root

        return self.folder if self.folder is not None else find_bundle_root(_working_directory())

    @property
    def overrides(self) -> dict[str, str]:
        "Return the values given by `--var`."
        return parse_pairs(self.variables, "--var")

    def load(self) -> Bundle:
        "Return the bundle with its target."
        from boathouse.workspace.bundle.load import load

        return load(self.root, self.target, self.overrides)


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise BundleError("the working directory does not exist any more.", hint="Change to the bundle's folder.") from None


def bundle_options(command: Command) -> Command:
    "Add the options for folder, target, variables and output; the command receives them as `options`, its first argument."

    @click.option(
        "--bundle",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the bundle. Default: the working directory, or the next folder above it that has a databricks.yml.",
    )
    @click.option("-t", "--target", help="Target of the bundle. Default: the bundle's default target.", shell_complete=complete_targets)
    @click.option("--var", "variables", multiple=True, metavar="K=V", help="Value of a bundle variable.")
    @click.option("--json", "flag", is_flag=True, help="Print one JSON object on stdout, and progress on stderr. Same as -o json.")
    @click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the output. Default: text.")
    @debug_option
    @wraps(command)
    def wrapped(
        *args: Any, folder: Path | None, target: str | None, variables: tuple[str, ...], flag: bool, output: str, **kwargs: Any
    ) -> Any:
        return command(BundleOptions(folder, target, variables, flag or output == "json"), *args, **kwargs)

    return wrapped


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[DEBUG] = value or context.meta.get(DEBUG, False)


debug_option = click.option(
    *("-v", "--debug"), is_flag=True, expose_value=False, callback=_set_debug, help="Print the traceback of an unexpected error."
)
foreground_option = click.option(
    "--foreground",
    is_flag=True,
    default=None,
    help="Start a cluster for this command alone and end it afterwards. Default: the background cluster.",
)


def parameter_options(help_text: str) -> Callable[[Command], Command]:
    "Add `--param` and `--params`; the command receives both as the mapping `given`."

    def decorate(command: Command) -> Command:
        @click.option("--param", "single", multiple=True, metavar="K=V", help=help_text)
        @click.option(
            "--params", "several", multiple=True, metavar="K=V,K=V", help="Several values at once; --param takes one that has a comma."
        )
        @wraps(command)
        def wrapped(*args: Any, single: tuple[str, ...], several: tuple[str, ...], **kwargs: Any) -> Any:
            split = [pair for word in several for pair in word.split(",")]
            given = parse_pairs(split, "--params", "A value with a comma is given by --param.") | parse_pairs(single, "--param")
            return command(*args, given=given, **kwargs)

        return wrapped

    return decorate


def parse_pairs(words: Sequence[str], option: str, hint: str = "") -> dict[str, str]:
    "Return NAME=VALUE words as a mapping. Raises BundleError for a word of another form."
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BundleError(f"'{word}' is not of the form NAME=VALUE.", Where(option), hint)
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise BundleError(f"{word!a} is not text in UTF-8.", Where(option))
        pairs[name] = value
    return pairs


def examples(*lines: str) -> str:
    "Return the epilog of a command: one example per line, each with its effect after `  #`."
    commands = [line.partition("  # ") for line in lines]
    width = max(len(command) for command, _, _ in commands)
    shown = [f"  boathouse {command:<{width}}  # {text}" if text else f"  boathouse {command}" for command, _, text in commands]
    return "\b\nExamples:\n" + "\n".join(shown)


def complete_jobs(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    "Return the jobs of the bundle whose key has this prefix, each with its description."
    bundle = _completed_bundle(context)
    jobs = bundle.jobs if bundle else {}
    return [
        CompletionItem(key, help=" ".join(str(job.get("description") or "").split()))
        for key, job in jobs.items()
        if key.startswith(incomplete)
    ]


def complete_targets(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    "Return the targets of the bundle whose name has this prefix."
    from boathouse.workspace.bundle.load import target_names

    try:
        names = target_names(BundleOptions(context.params.get("folder")).root)
    except BundleError:  # a completion has no place for the message; the command itself prints it
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _completed_bundle(context: click.Context) -> Bundle | None:
    given = context.params
    try:
        return BundleOptions(given.get("folder"), given.get("target"), tuple(given.get("variables") or ())).load()
    except BundleError:  # as above
        return None


def shorten_path(path: Path | str) -> str:
    "Return the path relative to the working directory if that is shorter."
    relative = os.path.relpath(path, _working_directory())
    return relative if len(relative) < len(str(path)) else str(path)
