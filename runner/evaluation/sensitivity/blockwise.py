"""A causal language model split into input, blocks and output, each callable alone.

Blocks are called with the arguments that the model itself gives them, recorded once, so that
nothing of an architecture is known here. Whether the parts make the whole is checked.
"""

from typing import TYPE_CHECKING, Any

from runner.engines.hf.head import is_linear_in_states
from runner.errors import Refused

if TYPE_CHECKING:
    import torch

_TOLERANCE = 1e-3
_ROUNDINGS = 4
"""As many steps of the number format may lie between two ways to the same states."""

WITHOUT = "recipes of one format (bits=w4a16) do without"
"""What to do where a model is not taken apart."""


class Decoder:
    """The parts of a model, for one batch of token windows."""

    def __init__(self, model: Any, ids: "torch.Tensor") -> None:
        """Run the model once and record what its blocks are given.

        Args:
            model: A causal language model of transformers.
            ids: Token windows, shape (windows, tokens).

        Raises:
            Refused: Its decoder is no list of blocks called one after the other, or its
                logits are not the head's product with the decoder's last states.
        """
        import torch

        self.model, self.ids = model, ids
        self._decoder = model.get_decoder()
        self.block_names, self.blocks = _blocks(model, self._decoder)
        self.head = model.get_output_embeddings()
        self.embedding = model.get_input_embeddings()
        self.inputs: list[torch.Tensor] = []
        """What each block is given when nothing is rounded, shape (windows, tokens, width)."""
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        with torch.inference_mode():
            self.states = self._record()
            self._check()

    def embed_and_run(self) -> "torch.Tensor":
        """The last states by running the whole decoder, embedding included."""
        states: torch.Tensor = self._decoder(input_ids=self.ids, use_cache=False).last_hidden_state
        return states

    def from_block(self, number: int, states: "torch.Tensor | None" = None) -> "torch.Tensor":
        """The last states, computed anew from a block on.

        Args:
            number: The block's.
            states: What it is given; by default what it is when nothing is rounded.
        """
        states = self.inputs[number] if states is None else states
        for later in range(number, len(self.blocks)):
            states = self.through_block(later, states)
        return self.ended(states)

    def through_block(self, number: int, states: "torch.Tensor") -> "torch.Tensor":
        """What a block makes of these states."""
        arguments, named = self._calls[number]
        found: torch.Tensor = _first(self.blocks[number](states, *arguments, **named))
        return found

    def ended(self, states: "torch.Tensor") -> "torch.Tensor":
        """The last states, of what the last block gave."""
        for module in self._ending:
            states = module(states)
        return states

    def _record(self) -> "torch.Tensor":
        """Run the decoder; keep what each block is given and what is called after the last."""
        called: list[Any] = []
        outputs: list[torch.Tensor] = []

        def before(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            called.append(module)
            self.inputs.append(arguments[0] if arguments else named["hidden_states"])
            rest = {name: value for name, value in named.items() if name != "hidden_states"}
            self._calls.append((arguments[1:], rest))

        handles = []
        for block in self.blocks:
            handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(
                block.register_forward_hook(lambda _, __, found: outputs.append(_first(found)))
            )
        for child in self._decoder.children():
            if not _is_list(child):
                handles.append(
                    child.register_forward_pre_hook(lambda module, _: called.append(module))
                )
        try:
            states = self.embed_and_run()
        finally:
            for handle in handles:
                handle.remove()
        handed_on = zip(outputs, self.inputs[1:], strict=False)
        if [one for one in called if one in self.blocks] != self.blocks or not all(
            found.equal(given) for found, given in handed_on
        ):
            raise self._refusal("do not hand their output on to the next, once each")
        self._ending = called[called.index(self.blocks[-1]) + 1 :]
        return states

    def _check(self) -> None:
        if not _near(self.from_block(len(self.blocks) - 1), self.states):
            raise self._refusal("do not lead to the decoder's states when called by themselves")
        import torch

        linear = isinstance(self.head, torch.nn.Linear)
        if not linear or not is_linear_in_states(self.model, self.ids[:1, :8]):
            raise Refused(
                f"sensitivity cannot take {type(self.model).__name__} apart: its logits are not "
                f"the output embedding's product with the decoder's last states; {WITHOUT}"
            )

    def _refusal(self, why: str) -> Refused:
        return Refused(
            f"sensitivity cannot take {type(self.model).__name__} apart: its blocks {why}; "
            f"{WITHOUT}"
        )


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _near(one: "torch.Tensor", other: "torch.Tensor") -> bool:
    """Whether they are the same but for what their number format cannot hold."""
    import torch

    tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(other.dtype).eps)
    largest = max(float(other.abs().max()), 1.0)
    return bool((one.float() - other.float()).abs().max() <= tolerance * largest)


def _is_list(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.ModuleList)


def _blocks(model: Any, decoder: Any) -> tuple[list[str], list[Any]]:
    """The decoder's longest list of modules, with the blocks' names in the model."""
    lists: list[Any] = [child for child in decoder.children() if _is_list(child) and len(child)]
    if not lists:
        raise Refused(
            f"sensitivity cannot take {type(model).__name__} apart: its decoder "
            f"({type(decoder).__name__}) has no list of blocks; {WITHOUT}"
        )
    longest = max(lists, key=len)
    blocks = list(longest)
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(block)] for block in blocks], blocks
