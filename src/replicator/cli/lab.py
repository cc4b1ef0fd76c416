"""``copystream lab``: real Kafka clusters to try things on, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from replicator.cli.tables import table
from replicator.errors import UsageError
from replicator.lab.cluster import LabCluster
from replicator.lab.jars import KAFKA_3, KAFKA_4, default_version, locked
from replicator.lab.registry import ClusterRecord, lab_dir, labs, labs_dir, records, remove

_NAME = click.option(
    "--name",
    envvar="COPYSTREAM_LAB_NAME",
    show_envvar=True,
    default="lab",
    show_default=True,
    help="Which lab; several can run side by side.",
)
_OUTPUT = click.option(
    "-o",
    "--output",
    envvar="COPYSTREAM_OUTPUT",
    show_envvar=True,
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)


@click.group(name="lab")
def lab_group() -> None:
    """Real Kafka clusters on this machine, to try things on.

    Brokers listen on the loopback interface only. Kafka comes from KAFKA_HOME, or is fetched
    by Maven once; Java 17 or newer is needed.
    """


@lab_group.command()
@_NAME
@click.option(
    "--clusters",
    envvar="COPYSTREAM_LAB_CLUSTERS",
    show_envvar=True,
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="How many: source, target, then cluster-3 and so on.",
)
@click.option(
    "--nodes",
    envvar="COPYSTREAM_LAB_NODES",
    show_envvar=True,
    type=click.Choice(["1", "3"]),
    default="1",
    show_default=True,
    help="Brokers of each cluster.",
)
@click.option(
    "--kafka-version",
    envvar="KAFKA_VERSION",
    show_envvar=True,
    help=f"For example {KAFKA_4} or {KAFKA_3}.  [default: KAFKA_HOME's, else {KAFKA_4}]",
)
@_OUTPUT
def up(name: str, clusters: int, nodes: str, kafka_version: str | None, output: str) -> None:
    """Start clusters that go on running after this command; `lab down` ends them."""
    names = ["source", "target", *(f"cluster-{number}" for number in range(3, clusters + 1))]
    with locked(labs_dir()):
        if any(record.state != "down" for record in records(name)):
            raise UsageError(
                f"the lab {name} is up already",
                hint=f"end it by `copystream lab down --name {name}`, or use another --name",
            )
        remove(name)
        try:
            for cluster in names[:clusters]:
                directory = lab_dir(name) / cluster
                directory.mkdir(parents=True)
                LabCluster(
                    name=cluster,
                    nodes=int(nodes),
                    version=kafka_version or default_version(),
                    data_dir=directory,
                    detached=True,
                ).start()
        except BaseException:
            remove(name)
            raise
    _show([(name, record) for record in records(name)], output)


@lab_group.command()
@_NAME
@_OUTPUT
def down(name: str, output: str) -> None:
    """End a lab's brokers and delete their data."""
    with locked(labs_dir()):
        removed = [(name, record) for record in remove(name)]
    if removed or output == "json":
        _show(removed, output)
    else:
        click.echo(f"no lab {name}")


@lab_group.command()
@_OUTPUT
def status(output: str) -> None:
    """Show all labs and whether their brokers run."""
    found = [(lab, record) for lab in labs() for record in records(lab)]
    if found or output == "json":
        _show(found, output)
    else:
        click.echo("no labs")


def _show(clusters: Sequence[tuple[str, ClusterRecord]], output: str) -> None:
    rows: list[dict[str, Any]] = [
        {
            "lab": lab,
            "cluster": record.name,
            "state": record.state,
            "version": record.version,
            "bootstrap": record.bootstrap,
            "pids": [broker.process.pid for broker in record.brokers],
        }
        for lab, record in clusters
    ]
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(rows)))
        return
    columns = ["lab", "cluster", "state", "version", "bootstrap"]
    head = [column.upper() for column in columns]
    lines = [[str(row[column]) for column in columns] for row in rows]
    click.echo(table(head, ["left"] * len(columns), lines))
