"Commands about this machine: cluster, doctor, completion."

from __future__ import annotations

import json
import sys

import click
from click.shell_completion import get_completion_class

from boathouse.workspace.cli.options import BundleOptions, bundle_options, examples


@click.group(epilog=examples("cluster status", "cluster stop"))
def cluster() -> None:
    "Start, stop or inspect the background cluster of a target: one JVM that runs, queries and notebooks share."


@cluster.command(epilog=examples("cluster start", "cluster start --foreground  # serve here until Ctrl-C"))
@click.option("--master", metavar="URL", help="Spark master, such as spark://host:7077. Default: the cores of this machine.")
@click.option("--foreground", is_flag=True, help="Serve in this terminal until Ctrl-C, or until it was unused for 15 minutes.")
@bundle_options
def start(options: BundleOptions, master: str | None, foreground: bool) -> None:
    "Start the cluster unless it runs. Other commands start it automatically."
    from boathouse.workspace.cli.cluster import start_cluster

    sys.exit(start_cluster(options.load(), options.as_json, master, foreground))


@cluster.command(epilog=examples("cluster stop", "cluster stop --force"))
@click.option("--force", is_flag=True, help="Stop it even if runs, queries or notebooks use it.")
@bundle_options
def stop(options: BundleOptions, force: bool) -> None:
    "Stop the cluster and wait until it has ended."
    from boathouse.workspace.cli.cluster import stop_cluster

    sys.exit(stop_cluster(options.load(), options.as_json, force))


@cluster.command(epilog=examples("cluster status", "cluster status -o json"))
@bundle_options
def status(options: BundleOptions) -> None:
    """Show the cluster's processes, memory, sessions and age.

    The exit code is 0 if it runs, else 1.
    """
    from boathouse.workspace.cli.cluster import print_status as show_status

    sys.exit(show_status(options.load(), options.as_json))


@click.command(epilog=examples("doctor", "doctor -o json", "doctor --repair"))
@click.option("--repair", is_flag=True, help="First delete damaged files of checkpoints without which their query can go on.")
@bundle_options
def doctor(options: BundleOptions, repair: bool) -> None:
    """Check Python, Java, the jars, the state folder, its tables and its lock, and print a fix for what is wrong.

    The exit code is 0 if nothing is wrong, else 1.
    """
    from boathouse.workspace.cli.doctor import examine, repair_checkpoints

    bundle = options.load()
    for sentence in repair_checkpoints(bundle.state) if repair else ():
        click.echo(sentence, err=True)
    findings = examine(bundle)
    if options.as_json:
        click.echo(json.dumps([f.as_json() for f in findings]))
    else:
        for f in findings:
            click.echo(f"{'ok  ' if f.well else 'FAIL'}  {f.what}: {f.found}" + (f"\n      {f.fix}" if not f.well else ""))
    sys.exit(0 if all(f.well for f in findings) else 1)


@click.command(
    epilog=examples(
        "completion bash >> ~/.bashrc",
        "completion zsh >> ~/.zshrc",
        "completion fish > ~/.config/fish/completions/boathouse.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    "Print the completion script for a shell. It completes commands, options, jobs and targets."
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "boathouse", "_BOATHOUSE_COMPLETE").source())
