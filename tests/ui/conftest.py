"""Makes the helpers beside importable by name; what several of these tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a run that was really trained, to be copied."""
    import spoken

    return spoken.train(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="session")
def foreign(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter on the tiny model that peft made, not we."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny, trust_remote_code=False, dtype=torch.float32)
    made = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("made") / "my lora"
    made.save_pretrained(folder)
    return folder
