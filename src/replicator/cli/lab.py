"""``copystream lab``: real Kafka clusters to try things on, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from replicator.cli.params import table_option
from replicator.cli.tables import table
from replicator.errors import UsageError
from replicator.lab.cluster import LabCluster
from replicator.lab.jars import KAFKA_3, KAFKA_4, default_version, locked
from replicator.lab.registry import ClusterRecord, lab_dir, labs, labs_dir, records, remove
from replicator.options.table import OUTPUT, Option
from replicator.options.types import ValueType, between, one_of

_NAME = table_option(
    "name",
    Option(
        name="lab-name",
        flag="--name",
        value=ValueType(metavar="NAME", parse=str),
        default="lab",
        help="Which lab; several can run side by side.",
    ),
)
_CLUSTERS = table_option(
    "clusters",
    Option(
        name="lab-clusters",
        flag="--clusters",
        value=between(1, 8),
        default="2",
        help="How many, 1 to 8: source, target, then cluster-3 and so on.",
    ),
)
_NODES = table_option(
    "nodes",
    Option(
        name="lab-nodes",
        flag="--nodes",
        value=one_of("1", "3"),
        default="1",
        help="Brokers of each cluster.",
    ),
)
_KAFKA_VERSION = table_option(
    "kafka_version",
    Option(
        name="kafka-version",
        variable="KAFKA_VERSION",
        value=ValueType(metavar="VERSION", parse=str),
        default_note=f"KAFKA_HOME's, else {KAFKA_4}",
        help=f"For example {KAFKA_4} or {KAFKA_3}.",
    ),
)
_OUTPUT = table_option(
    "output", next(option for option in OUTPUT.options if option.name == "output")
)


@click.group(name="lab")
def lab_group() -> None:
    """Real Kafka clusters on this machine, to try things on.

    Brokers listen on the loopback interface only. Kafka comes from KAFKA_HOME, or is fetched
    by Maven once; Java 17 or newer is needed.
    """


@lab_group.command()
@_NAME
@_CLUSTERS
@_NODES
@_KAFKA_VERSION
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
