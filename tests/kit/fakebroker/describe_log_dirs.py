"""DescribeLogDirs: bytes on one disk, made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kio.schema.errors import ErrorCode

from kit.fakebroker import wire
from kit.fakebroker.wire import Request

if TYPE_CHECKING:
    from kit.fakebroker.server import FakeBroker


def answer(broker: FakeBroker, request: Request) -> Any:
    schema = wire.schema(request.api_key, request.version, "response")
    top = {"error_code": ErrorCode.none} if request.version >= 3 else {}
    space = {"total_bytes": 10**9, "usable_bytes": 10**8} if request.version >= 4 else {}
    return schema.DescribeLogDirsResponse(
        throttle_time=broker.throttle,
        **top,
        results=(
            schema.DescribeLogDirsResult(
                error_code=ErrorCode.none,
                **space,
                log_dir="/data",
                topics=tuple(
                    schema.DescribeLogDirsTopic(
                        name=topic.topic,
                        partitions=tuple(
                            schema.DescribeLogDirsPartition(
                                partition_index=number,
                                partition_size=1000 + number,
                                offset_lag=0,
                                is_future_key=False,
                            )
                            for number in topic.partitions
                        ),
                    )
                    for topic in request.body.topics
                ),
            ),
        ),
    )
