"""Make the starter: tokenizer, weights and the four data sets, all from one seed.

    python models/starter/recipe/make.py --out DIR --seed 0

needs torch, transformers and tokenizers, two CPU cores and less than an hour. The same seed on the same machine gives
the same weights.
"""

import argparse
import hashlib
from itertools import islice
from pathlib import Path

import torch

import ranked_data
import tuning_data
from corpus import Corpus
from facts import load_facts
from pretrain import STEPS, pretrain
from tokenizer import save_tokenizer, train_tokenizer

TOKENIZER_DOCUMENTS = 30_000


def main() -> None:
    """Run the whole recipe, or only its data sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="pre-training steps (fewer only to try the recipe)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; another number rounds differently")
    parser.add_argument("--data-only", action="store_true", help="write the four data sets and stop")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    facts = load_facts()

    tuning_data.write(facts, args.seed, args.out / "data")
    ranked_data.write(facts, args.seed, args.out / "data")
    if args.data_only:
        return

    torch.set_num_threads(args.threads)
    tokenizer = train_tokenizer(islice(Corpus(facts, args.seed).documents(), TOKENIZER_DOCUMENTS))
    save_tokenizer(tokenizer, args.out)
    pretrain(Corpus(facts, args.seed).documents(), tokenizer, args.seed, args.steps, args.out)
    digest = hashlib.sha256((args.out / "model.safetensors").read_bytes()).hexdigest()
    print(f"model.safetensors sha256 {digest}")


if __name__ == "__main__":
    main()
