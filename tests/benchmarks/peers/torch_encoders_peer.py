"""Hugging Face's DINOv2-L and CLIP-L text (PyTorch), random weights in the true shapes; forward passes."""

import os

import line


def _ready(model, inputs, dtype):
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, inputs = model.eval().to(device), {name: x.to(device) for name, x in inputs.items()}
    if dtype == "bfloat16":  # frozen encoders: the weights themselves, which costs no cast per call
        model = model.to(torch.bfloat16)
        inputs = {name: x.to(torch.bfloat16) if x.is_floating_point() else x for name, x in inputs.items()}

    def run():
        with torch.inference_mode():
            model(**inputs)
        if device == "cuda":
            torch.cuda.synchronize()

    return run, {"torch": torch.__version__, "transformers": transformers.__version__}


def image(dtype, batch, size=224):
    """DINOv2-L on images that are normalised already."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4}
    model = Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **sizes))
    return _ready(model, {"pixel_values": torch.rand(batch, 3, size, size)}, dtype)


def text(dtype, batch, length=77):
    """CLIP-L's text tower on token ids."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    model = CLIPTextModel(CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, projection_dim=768, **sizes))
    tokens = torch.randint(0, 49000, (batch, length))
    tokens[:, 20:] = 49407
    return _ready(model, {"input_ids": tokens}, dtype)


line.serve({"image": image, "text": text})
