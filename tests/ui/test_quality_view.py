"""What the export page says of types before and after: sizes, what fell back, quality against size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from disk import write_run

from studio.models import mixture, quants
from studio.runs import RunConfig
from studio.ui import choice, live, plots, qualityview
from studio.ui.pages import export

CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "vocab_size": 100,
}
SHAPES = [
    ("model.embed_tokens.weight", (100, 576)),
    ("model.layers.0.self_attn.q_proj.weight", (576, 576)),
    ("model.layers.1.mlp.down_proj.weight", (576, 1536)),
]
RUN = "20260101-101010-taught-0a1b"


def file(type_: str, size: int, kl: float) -> dict[str, Any]:
    return {"type": type_, "bytes": size, "kl": kl, "top1": 0.9949, "perplexity": 7.125, "tokens_per_s": 41.6}


QUALITY = {
    "reference": "F16",
    "tokens": 353,
    "held_out": True,
    "files": [file("F16", 2 * 10**9, 0.0), file("Q8_0", 10**9, 0.0004), file("Q4_K_M", 6 * 10**8, 0.021)],
    "suggestion": {"type": "Q8_0", "text": "Q8_0: half of the size <b>."},
}


def test_each_type_stands_in_one_group_with_its_predicted_size() -> None:
    model = mixture.model(CONFIG, SHAPES)
    offered = [choice for group in qualityview.GROUPS for choice in qualityview.choices(group, model)]
    assert sorted(name for _, name in offered) == sorted(set(quants.TYPES) - {"MXFP4_MOE"})
    small = {name for _, name in qualityview.choices("small", model)}
    assert small == {name for name, made in quants.TYPES.items() if made.needs_imatrix}
    # 57,600 + 331,776 + 884,736 weights at 34 bytes per 32; head 6,000, 100 tokens of 38, 3 tensors of 84
    assert mixture.predict("Q8_0", model).bytes == 1_274_112 * 34 // 32 + 6000 + 3800 + 252
    assert ("Q8_0 · 1.4 MB", "Q8_0") in offered and ("Q8_0", "Q8_0") in qualityview.choices("recommended", None)


def test_a_mixture_of_experts_is_offered_its_own_type() -> None:
    model = mixture.model({**CONFIG, "num_local_experts": 8}, SHAPES)
    assert "MXFP4_MOE" in [name for _, name in qualityview.choices("other", model)]


def test_what_will_fall_back_is_said_before_the_file_is_made() -> None:
    shown = qualityview.chosen(["Q4_K_M"], mixture.model(CONFIG, SHAPES))
    assert "1 of 3 tensors is Q5_0: its rows are no multiple of 256." in shown and quants.TYPES["Q4_K_M"].says in shown
    assert "tick at least one" in qualityview.chosen([], None)


def test_tensors_that_fell_back_stand_under_the_files_type() -> None:
    made = {"types": {"Q5_0": 180, "F32": 92}, "fallen": {"Q5_0": 180}, "fallback": 180}
    assert "180 of 272 tensors are Q5_0: their rows are no multiple of 256." in qualityview.fell(made)
    assert qualityview.fell({"type": "Q8_0"}) == ""


def test_quality_is_a_sentence_a_plot_and_figures() -> None:
    shown = qualityview.table({"quality": QUALITY})
    assert "half of the size &lt;b&gt;." in shown and shown.count("<svg") == 2 and "353 tokens" in shown
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown)
    assert cells[6:12] == [
        '<b>Q8_0</b> <span class="st-pill st-accent">suggested</span>',
        "1.0 GB",
        "4.0e-4",
        "99.5 %",
        "7.125",
        "42",
    ]
    assert qualityview.table({}) == "" and qualityview.table({"quality": {"files": []}}) == ""
    assert "none were held out" in qualityview.table({"quality": {**QUALITY, "held_out": False}})


def test_a_point_lies_at_its_size_and_at_the_power_of_ten_of_its_kl() -> None:
    drawn = plots.against(
        [("A", 1.0, 0.1), ("B", 2.0, 0.001), ("C", 4.0, 0.0)], label="x", x_name="GB", y_name="y", chosen="A", width=604
    )
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    left, right, top, bottom = 44, 604 - 16, 24, 240 - 30
    assert places == [((left + right) / 2, top), (right, bottom)]  # C has no place on an axis of powers
    assert "0.1</text>" in drawn and "1e-3</text>" in drawn and "2.0 GB</text>" in drawn
    assert plots.against([("A", 1.0, 0.1)], label="x", x_name="GB", y_name="y") == ""


def test_names_of_points_stand_clear_of_each_other() -> None:
    near = [(f"Q{n}_K_M", 1.0 + n / 50, 0.01) for n in range(4)]
    drawn = plots.against(near, label="x", x_name="GB", y_name="y", width=340)
    spots = [
        (float(x), float(y))
        for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle"[^>]*>Q', drawn)
    ]
    assert len(spots) == 3  # the fourth has no room
    assert all(abs(a[0] - b[0]) > 40 or abs(a[1] - b[1]) >= 12 for a in spots for b in spots if a is not b)


def test_the_page_reads_the_base_of_a_run_and_says_its_sizes(home: Path, tiny: Path) -> None:
    config = RunConfig("train", "taught", str(tiny), "sft", "rows.jsonl")
    run = write_run(home, RUN, config, [{"type": "finished"}], {"metrics": {}})
    run.adapter.mkdir()
    (run.adapter / "studio.json").write_text(json.dumps({"base": str(tiny)}))
    choice.update(model=str(tiny))
    view = next(view for view in export.trained(live.look()) if view.id == RUN)
    model = qualityview.model_of(view)
    assert model is not None and model.layers == 2
    *groups, about = export._offer(RUN, ["Q8_0"], ["IQ3_XXS"], [])
    size = f"Q8_0 · {mixture.predict('Q8_0', model).bytes / 1e3:.0f} kB"
    assert (size, "Q8_0") in groups[0]["choices"] and "IQ3_XXS" in about
    (run.adapter / "studio.json").write_text(json.dumps({"base": "/gone"}))
    assert qualityview.model_of(view) is None
