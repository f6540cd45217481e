"""The policy: one base in memory, the adapters on it, and the heads beside it.

Policy, reference, reward and value are adapters and heads on ONE base. Three traps make a rule of it (peft): setting an
adapter flips what requires a gradient, so a joint loss drops gradients without a word; with gradient checkpointing,
layers are recomputed with whichever adapter is active at the time of the backward; and an optimizer must be given its
parameters by name. Hence: one adapter -> forward -> its own backward -> the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The adapter that learns; peft's own name for the first one.
POLICY = "default"


@dataclasses.dataclass
class Policy:
    """A base model with the adapter that learns, and further ones beside it; or one that learns itself (`full`).

    `new_tokens` are the ids of control tokens whose embeddings are trained too, because the base never learned them.
    Whether rows may lie behind each other (`packed`), share the prompt of a pair (`shared`), and keep apart by our own
    attention (`segmented`, else by a mask) is what the loaded model was seen to do right (train/proof.py). `noise` is
    NEFTune's alpha; `autocast` the type of the arithmetic where it is not that of the weights; `chunk` the positions to
    which the output layer is applied at a time (0: as head.py chooses), `room` the tokens in memory at once (0: as the
    settings say), `recomputes` tells of gradient checkpointing: all three may be lowered (train/memory.py).
    """

    model: Any
    device: torch.device
    new_tokens: list[int]
    packed: bool = True
    shared: bool = False
    segmented: bool = False
    noise: float = 0.0
    autocast: torch.dtype | None = None
    chunk: int = 0
    room: int = 0
    recomputes: bool = False

    def __post_init__(self) -> None:
        import torch

        self.model.heads = torch.nn.ModuleDict()  # a part of the model, so that the optimizer sees them

    @property
    def full(self) -> bool:
        """Tell whether all weights of the base learn, so that there is no adapter."""
        return not hasattr(self.model, "get_base_model")

    @property
    def base(self) -> Any:
        """Give the base as transformers made it."""
        return self.model if self.full else self.model.get_base_model()

    @property
    def heads(self) -> Any:
        """Give the scalar heads by name (float32)."""
        return self.model.heads

    def hidden(self, batch: dict[str, Any]) -> Tensor:
        """Give the last hidden states of a batch as train/layout.py lays it out: (R * T, d)."""
        import torch

        decoder = self.base.get_decoder()
        segments, mask, more = batch.get("segments"), batch.get("attention_mask"), {}
        if segments is not None and self.segmented:
            # A mask of four dimensions is handed on as it is: none is built, and ours looks at the segments alone.
            mask, more = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device), {"segments": segments}
        elif segments is not None and segments.shared:
            mask = segments.mask(decoder.dtype, self.device)
        with self.arithmetic(), self.noisy(batch):
            states = decoder(
                input_ids=batch["input_ids"],
                attention_mask=mask,
                position_ids=batch["position_ids"],
                use_cache=False,
                **more,
            ).last_hidden_state
        return states.reshape(-1, states.shape[-1])

    def token_logps(self, batch: dict[str, Any], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Score the learned tokens of a batch: their log-probabilities and mask, both (S, L) float32.

        A row a sequence, its learned tokens from the left. The output layer is applied to nothing else, a chunk at a
        time; logits are divided by `temperature`.
        """
        from studio.train import head

        states = self.hidden(batch)[batch["predict"]]
        with self.arithmetic():
            found = head.logps(self.base, states, batch["targets"], temperature, self.chunk)
        return spread(found, batch)

    def scores(self, batch: dict[str, Any], head: str = "reward") -> Tensor:
        """Give the head's value at the last token of each sequence: (S,), float32."""
        states = self.hidden(batch)[batch["last"]]
        return self.heads[head](states.float()).squeeze(-1)

    def values(self, batch: dict[str, Any], head: str = "value") -> tuple[Tensor, Tensor]:
        """Give the head's value at the positions that predict learned tokens, and their mask: (S, L) float32."""
        states = self.hidden(batch)[batch["predict"]]
        return spread(self.heads[head](states.float()).squeeze(-1), batch)

    def arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        """Compute in `autocast`'s type within the block."""
        import torch

        return torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)

    def noisy(self, batch: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        """Add NEFTune's noise within the block, while the model learns."""
        from studio.train.noise import neftune

        if not self.noise or not self.model.training:
            return contextlib.nullcontext()
        return neftune(self.base.get_input_embeddings(), batch, self.noise)

    @contextlib.contextmanager
    def using(self, adapter: str) -> Iterator[None]:
        """Let another adapter (by name, "" for the bare base) answer within the block."""
        if not adapter:
            with self.model.disable_adapter():
                yield
            return
        before = self.model.active_adapter
        self.model.set_adapter(adapter)
        try:
            yield
        finally:
            self.model.set_adapter(before)

    def add_head(self, name: str) -> None:
        """Add a scalar head, its weights zero: nothing is preferred before something is learned."""
        import torch

        config = self.base.config
        head = torch.nn.Linear(config.get_text_config().hidden_size, 1, bias=False)
        torch.nn.init.zeros_(head.weight)
        self.heads[name] = head.to(self.device)

    def trainable(self) -> dict[str, Tensor]:
        """Give the tensors that learn, by name: the adapter's (or the base's) and the heads'."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def gathered(self) -> dict[str, Tensor] | None:
        """Give what learns, whole and in the machine's memory, where it is spread over processes; else None.

        All processes have to ask together.
        """
        found = self.trainable()
        if not any(hasattr(tensor, "full_tensor") for tensor in found.values()):
            return None
        return {name: tensor.detach().full_tensor().cpu() for name, tensor in found.items()}  # type: ignore[attr-defined]

    def save(self, folder: Path, whole: dict[str, Tensor] | None = None) -> None:
        """Write the adapter (safetensors and its config), trained token rows included, and the heads beside it.

        Where there is none, the whole model. `whole` is what `gathered` gave.
        """
        from safetensors.torch import save_file

        if self.full:
            self.model.config.use_cache = True  # off only while it learns
            self.model.save_pretrained(folder, state_dict=whole)
            self.model.config.use_cache = False
            return
        self.model.save_pretrained(
            folder, save_embedding_layers=False, selected_adapters=[POLICY], **({"state_dict": whole} if whole else {})
        )
        for card in folder.glob("README.md"):
            card.unlink(missing_ok=True)  # peft's empty model card; the run's directory says more
        for name, head in self.heads.items():
            states = {key: (whole or {}).get(f"heads.{name}.{key}", value) for key, value in head.state_dict().items()}
            save_file({key: value.contiguous() for key, value in states.items()}, folder / f"head-{name}.safetensors")

    def load_heads(self, folder: Path) -> None:
        """Read the heads that `save` wrote."""
        from safetensors.torch import load_file

        for name, head in self.heads.items():
            head.load_state_dict(load_file(folder / f"head-{name}.safetensors"))


def spread(values: Tensor, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Spread the values of the N learned positions over a row a sequence: (S, L) and the mask."""
    import torch

    rows, width = batch["shape"]
    empty = torch.zeros(rows * width, dtype=values.dtype, device=values.device)
    mask = torch.zeros_like(empty, dtype=torch.float32).index_fill(0, batch["place"], 1.0)
    return empty.index_copy(0, batch["place"], values).view(rows, width), mask.view(rows, width)
