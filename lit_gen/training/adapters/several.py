"""Several adapters on one network, of which one, none or some are in use; the network is there once."""

from pathlib import Path

from torch import nn

from lit_gen.core.errors import UserError, nearest
from lit_gen.training.adapters import peft_config, peft_files
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.change import NAME, Changes, all_adapted, take_off


class Several:
    """Adapters of peft's folders on one network, by names of your own.

    The network is frozen, and what is attached is in use until `use` says otherwise.

    Args:
        network: changed in place; without an adapter.

    Attributes:
        adapters: what was attached, by name.
        active: the names of those in use, in the order in which they were attached.

    Raises:
        UserError: for a network that has an adapter already.
    """

    def __init__(self, network: nn.Module) -> None:
        if any(True for _ in all_adapted(network, None)):
            raise UserError("adapter: the network has one already; fold it into the weights first")
        self.network = network
        self.adapters: dict[str, Adapter] = {}
        self.active: tuple[str, ...] = ()

    def attach(self, name: str, folder: str | Path) -> Adapter:
        """Put a folder's adapter on the network, and take it into use.

        Args:
            name: what it will be called: a word.
            folder: peft's.

        Returns:
            What was attached.

        Raises:
            UserError: for a name that is taken or no word, or a folder that cannot be read or is of another network,
                which then stays as it is; also for one that trained modules whole, which the others share.
        """
        if name in self.adapters or name == NAME or not name.isidentifier() or hasattr(Changes(), name):
            raise UserError(
                f"adapter: {name!r} is taken, or no word of letters, digits and _; another name is expected"
            )
        if saved := peft_config.read(Path(folder)).adapter.modules_to_save:
            told = f"{saved} was found, but several adapters share the network; an adapter without any is expected"
            raise UserError(f"{Path(folder) / peft_config.CONFIG}: modules_to_save: {told}")
        self.adapters[name] = peft_files.attach(self.network, folder, name)
        self.use(*self.active, name)
        return self.adapters[name]

    def use(self, *names: str) -> None:
        """Switch to some of the adapters: what they change adds up; without names the network is as it was.

        Raises:
            UserError: for a name that was not attached.
        """
        for name in names:
            if name not in self.adapters:
                known = ", ".join(self.adapters) or "none"
                raise UserError(f"adapter: {name!r} was not attached{nearest(name, self.adapters)} (there are {known})")
        self.active = tuple(name for name in self.adapters if name in names)
        for _, layer in all_adapted(self.network, None):
            changes = layer.adapters
            assert isinstance(changes, Changes)
            changes.active = tuple(name for name in self.active if name in changes)

    def detach(self, name: str) -> None:
        """Take an adapter off the network.

        Raises:
            UserError: for a name that was not attached.
        """
        self.use(*self.active, name)  # which checks the name
        for _, layer in list(all_adapted(self.network, name)):
            take_off(layer, name)
        del self.adapters[name]
        self.use(*(one for one in self.active if one != name))
