"""Writes logits.json: the logits of tiny random models as `transformers` computes them in float32.

    cargo test -p upcycle-cpu --test architectures -- --ignored --nocapture write_models   # prints FOLDER
    pip install torch transformers gguf accelerate
    python crates/testkit/transformers/logits.py FOLDER

Each model is loaded from its folder of safetensors and, where transformers reads all that the file says, from its GGUF
file too; the two have to agree.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

# transformers reads neither windows nor scaled rotations from GGUF files, nor the width of a head for qwen3.
NOT_FROM_GGUF = ("window", "linear", "llama3", "yarn", "qwen3")
ROWS = (0, 9, 22, 39)

root = pathlib.Path(sys.argv[1])
text = json.loads((root / "text.json").read_text())


def logits(**where):
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([text])).logits[0]


models = {}
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    found = logits(pretrained_model_name_or_path=folder)
    if not any(word in folder.name for word in NOT_FROM_GGUF):
        other = logits(pretrained_model_name_or_path=folder, gguf_file="model.gguf")
        apart = (found - other).abs().max().item()
        print(f"{folder.name}: from GGUF within {apart:.1e}")
        assert apart < 1e-4, folder.name
    models[folder.name] = {str(row): [float(f"{x:.6g}") for x in found[row].tolist()] for row in ROWS}

made = f"torch {torch.__version__}, transformers {transformers.__version__}"
lines = [f'{{"made_with": {json.dumps(made)},', f'"text": {json.dumps(text)},', '"models": {']
for number, (name, rows) in enumerate(models.items()):
    lines.append(f"{json.dumps(name)}: {{")
    lines += [f"{json.dumps(row)}: {json.dumps(values)}{',' if row != str(ROWS[-1]) else ''}" for row, values in rows.items()]
    lines.append("}" + ("," if number + 1 < len(models) else ""))
lines.append("}}")
out = pathlib.Path(__file__).with_name("logits.json")
out.write_text("\n".join(lines) + "\n")
print(f"{out}: {len(models)} models, {made}")
