"""Where this process stands among the ranks of its run, as its launcher says: torchrun, srun, lightning, or a person.

Imports only the standard library.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lit_gen.core.errors import UserError
from lit_gen.core.variables import number

DEVICES = "LIT_GEN_DEVICES"  # the first process of a node tells those that it starts how many there are
PARENT = "LIT_GEN_PARENT"  # and its own process id


@dataclass(frozen=True)
class Torchrun:
    """What torchrun says of this process.

    Attributes:
        rank: this process's number, from 0.
        world: processes on all nodes.
        local_world: processes of this node.
        nodes: machines.
    """

    rank: int
    world: int
    local_world: int
    nodes: int


def torchrun(environment: Mapping[str, str] = os.environ) -> Torchrun | None:
    """What torchrun says; None elsewhere.

    Raises:
        UserError: if a variable of torchrun is missing or nonsense, or ranks were started without it.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        if "RANK" in environment and number(environment, "WORLD_SIZE", 1, default=1) > 1:
            raise UserError(
                f"RANK: {environment['RANK']} of WORLD_SIZE {environment['WORLD_SIZE']} was found, but no torchrun; "
                f"start the ranks with torchrun or srun, or unset both"
            )
        return None
    world = number(environment, "WORLD_SIZE", 1)
    rank = number(environment, "RANK", below=world)
    local_world = number(environment, "LOCAL_WORLD_SIZE", 1, world + 1)
    number(environment, "LOCAL_RANK", below=local_world)
    number(environment, "MASTER_PORT", 1, 65536)
    if not environment.get("MASTER_ADDR"):
        raise UserError("MASTER_ADDR: nothing was found, the address of rank 0's node is expected, which torchrun sets")
    return Torchrun(rank, world, local_world, number(environment, "GROUP_WORLD_SIZE", 1, default=1))


def check_by_hand(nodes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse settings under which ranks cannot find each other without torchrun or SLURM.

    Args:
        nodes: ``trainer.num_nodes``.
        environment: the process's.

    Raises:
        UserError: with what each node needs; or for a variable that is nonsense.
    """
    for name, least, below in (("LOCAL_RANK", 0, None), ("NODE_RANK", 0, None), ("MASTER_PORT", 1, 65536)):
        if name in environment:
            number(environment, name, least, below)
    if environment.get("LOCAL_RANK", "0") != "0" and "MASTER_PORT" not in environment:
        raise UserError(
            f"LOCAL_RANK: {environment['LOCAL_RANK']} was found, but no MASTER_PORT, by which to find rank 0; start "
            f"the ranks with torchrun or srun, or unset it"
        )
    if nodes > 1:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not environment.get(name)]
        if missing:
            raise UserError(
                f"trainer.num_nodes: {nodes} was found, but nothing says where the other nodes are; start with srun or "
                f"torchrun, or set {', '.join(missing)} on each node"
            )
        number(environment, "NODE_RANK", below=nodes)
