"""The PyTorch original (argument: its checkout): generate(), one pass with its modules, training steps, its data loader.

Model, loss, optimiser and loader are the project's own; its encoders get random weights in the true shapes, as the hub
cannot be reached. Its image encoder has two routes: torch.hub's object, where README leads, whose features it computes
twice per image, and Hugging Face's model, its fallback.
"""

import contextlib
import os
import sys
import zlib

import line

CHECKOUT = sys.argv[1]
sys.path.insert(0, CHECKOUT)
WORDS = ["close the red jar"]
_made = {}


class _Tokenizer:
    """Word numbers in place of CLIP's vocabulary: as many tokens, as quickly."""

    def __call__(self, text, max_length=77, **_):
        import torch

        ids, mask = torch.full((len(text), max_length), 49407), torch.zeros(len(text), max_length, dtype=torch.long)
        for row, words in enumerate(text):
            numbers = [zlib.crc32(word.encode()) % 49000 for word in words.split()][: max_length - 2]
            ids[row, 0], mask[row, : len(numbers) + 2] = 49406, 1
            ids[row, 1 : 1 + len(numbers)] = torch.tensor(numbers, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": mask}


def _encoders():
    """Gives the project's encoder classes models of random weights."""
    import torch
    from drifting_vla.models import language_encoder, vision_encoder
    from transformers import CLIPTextConfig, CLIPTextModel, Dinov2Config, Dinov2Model

    class Hub(torch.nn.Module):
        """What torch.hub's DINOv2 offers."""

        def __init__(self):
            super().__init__()
            sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4}
            self.model = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **sizes))

        def forward_features(self, x):
            hidden = self.model(pixel_values=x).last_hidden_state
            return {"x_norm_clstoken": hidden[:, 0], "x_norm_patchtokens": hidden[:, 1:]}

    def text(_):
        sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        more = {"projection_dim": 768, "hidden_act": "quick_gelu", "eos_token_id": 49407, "bos_token_id": 49406}
        return CLIPTextModel(
            CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **sizes, **more)
        ), _Tokenizer()

    vision_encoder.DINOv2Encoder._load_model = lambda _: Hub()
    language_encoder.CLIPLanguageEncoder._load_model = text


def _model(route="hub"):
    """The project's model as its own train script builds it; one for all work of this process."""
    import importlib.util

    import hydra
    import torch

    if not _made:
        torch.set_num_threads(os.cpu_count())
        torch.manual_seed(0)
        _encoders()
        with hydra.initialize_config_dir(version_base=None, config_dir=os.path.abspath(f"{CHECKOUT}/configs")):
            config = hydra.compose("config")
        spec = importlib.util.spec_from_file_location("original_train", f"{CHECKOUT}/scripts/train.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        _made["model"] = script.build_model(config)
        _made["hub"] = _made["model"].vision_encoder.encoder
        _made["hf"] = _made["hub"].model
    _made["model"].vision_encoder.encoder = _made[route]
    return _made["model"]


def _precision(dtype):
    """Autocast entered at every call, as a caller would: the project's own way to bfloat16."""
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bfloat16" else contextlib.nullcontext()


def _about():
    import torch

    return {"torch": torch.__version__}


def generate(dtype, route, views=2, size=224):
    """generate() of one observation with the guidance that is its default."""
    import torch

    images = torch.rand(1, views, 3, size, size)

    def run():
        model = _model(route).eval()
        with torch.no_grad(), _precision(dtype):
            model.generate(images, WORDS)

    run()
    return run, _about()


def one_pass(dtype, views=2, size=224):
    """The same modules used once, text remembered, no guidance: what its parts could do."""
    import torch

    model, images = _model("hf").eval(), torch.rand(1, views, 3, size, size)
    noise, one = torch.randn(1, 16, 64), torch.ones(1)
    with torch.no_grad(), _precision(dtype):
        words, pooled = model.language_encoder(WORDS, return_all_tokens=True), model.language_encoder(WORDS)

    def run():
        with torch.no_grad(), _precision(dtype):
            seen = _made["hf"](model.vision_encoder._normalize(images.flatten(0, 1))).last_hidden_state
            seen = model.vision_encoder.projection(seen).reshape(1, -1, 1024)
            condition = model.cond_proj(pooled) + model.cfg_embed(one.unsqueeze(-1))
            tokens = model.fusion(model.noise_tokenizer(noise), model.vision_proj(seen), model.language_proj(words))
            model.action_decoder(model.transformer(tokens, condition))

    return run, _about()


def train(dtype, batch, views=2, size=224):
    """Forward, its losses, backward, clipping and AdamW; without its EMA, queues and figures."""
    import torch
    from drifting_vla.training.losses import DriftingLoss
    from drifting_vla.training.optimizer import create_optimizer

    model, drifting = _model("hub").train(), DriftingLoss()
    if "optimizer" not in _made:
        _made["optimizer"] = create_optimizer(model, lr=4e-4, weight_decay=0.05)
    optimizer = _made["optimizer"]
    images, actions = torch.rand(batch, views, 3, size, size), torch.randn(batch, 16, 8)
    queue = torch.randn(2048, 128)

    def run():
        noise, strength = torch.randn(batch, 16, 64), (torch.rand(batch) * (1 / 16 - 1) + 1) ** -0.5
        with _precision(dtype):
            said = _model("hub")(images, WORDS * batch, noise, strength, return_features=True)["actions"]
            drift = drifting(said.view(batch, -1), torch.zeros(32, 128), queue[torch.randint(0, 2048, (32,))])
            loss = ((said - actions) ** 2).mean() + 0.1 * drift.loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return run, _about()


def loader(data, tasks, cameras, workers, batch, batches, size=224, augment=True):
    """Its DataLoader as its train script makes it, from the second batch on; workers start anew in every run."""
    import time

    import torch
    from drifting_vla.data import RLBenchDataset, VLATransforms
    from torch.utils.data import DataLoader

    torch.set_num_threads(os.cpu_count())
    dataset = RLBenchDataset(
        data, "train", tasks, 16, size, cameras, transform=VLATransforms(training=True) if augment else None
    )
    dataset.compute_action_statistics()
    options = {"shuffle": True, "drop_last": True, "collate_fn": dataset.collate_fn, "num_workers": workers}

    def run():
        batches_of = iter(DataLoader(dataset, batch_size=batch, **options))
        next(batches_of)
        start = time.perf_counter()
        for _ in range(batches):
            next(batches_of)
        return time.perf_counter() - start

    return run, {"samples": len(dataset), "torch": torch.__version__}


line.serve({"generate": generate, "one pass": one_pass, "train": train, "loader": loader})
