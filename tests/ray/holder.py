"""Holds one CPU of a cluster until its input ends: `python -m tests.ray.holder ADDRESS` prints `held`."""

import sys

import ray

from service.media.cluster.connection import joined


class Holder:
    def held(self) -> str:
        return "held"


def main(address: str) -> None:
    with joined(address):
        holder = ray.remote(num_cpus=1)(Holder).remote()
        print(ray.get(holder.held.remote()), flush=True)  # noqa: T201 - read by the other end of the pipe
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
