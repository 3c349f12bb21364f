"""Every key there is, declared and commented once. Experiments start from here and change what they need.

A key that is not here is refused; a key that is here does something (tests/config/test_keys.py proves it).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"  # name of the run: in logs, in WandB, in results
    config.seed = 0  # the one root of randomness: initialisation, noise, order of data, augmentation
    config.profile = 0  # steps of training that are traced to WORKDIR/profile, for Perfetto or XProf; 0: none

    # The simulator (or robot) the policy is for, and what it sees there.
    config.env = ConfigDict()
    config.env.name = "metaworld"  # metaworld | robosuite | rlbench | dummy
    config.env.tasks = ("drawer-open",)  # tasks trained on and evaluated
    config.env.cameras = ("top", "zoom")  # views, in this order, in data, network and server
    config.env.image_size = 64  # pixels, height and width of every view
    config.env.state_dim = 4  # length of proprioception
    config.env.frame_skip = (
        2  # simulator steps per control step (Meta-World: 80 Hz / frame_skip; robosuite: 500 Hz; RLBench: 1)
    )
    config.env.metaworld = ConfigDict()  # read where env.name is metaworld
    config.env.metaworld.change = (
        "none"  # evaluation: what no demonstration has shown: none | words | camera | light | colour
    )
    config.env.rlbench = ConfigDict()  # read where env.name is rlbench
    config.env.rlbench.control = (
        "ik_then_plan"  # how a target is reached: plan | ik | ik_then_plan: plan where ik fails
    )
    config.env.rlbench.headless = True  # without CoppeliaSim's window; it needs an X display all the same

    # Demonstrations as a TFDS data set of single time steps.
    config.data = ConfigDict()
    config.data.path = "data/metaworld"  # directory written by drifting_vla_jax.data.build
    config.data.mixture = ConfigDict()  # several such directories trained on together, in place of data.path
    config.data.mixture.paths = ()  # e.g. ("data/metaworld", "data/kitchen"); views that one lacks are masked; (): one set
    config.data.mixture.weights = ()  # how often each is shown, relative to the others, e.g. (2.0, 1.0); (): all alike
    config.data.batch_size = 64  # observations per optimiser step, over all devices
    config.data.max_tokens = 48  # an instruction's longest length, in tokens (of bytes or of CLIP, which knows 77)
    config.data.num_threads = 2  # threads that decode and augment
    config.data.prefetch = 2  # batches kept ready on the device
    config.data.cache_mb = 2048  # memory for decoded images; used if the whole split fits
    config.data.shift = 4  # augmentation: random shift of each view, pixels at most
    config.data.brightness = 0.1  # augmentation: added to each view, as a share of full scale, at most
    config.data.contrast = 0.1  # augmentation: relative change of each view's contrast, at most
    config.data.features = False  # read data.cache_features' outputs in place of images; needs a frozen encoder
    config.data.state_noise = 0.02  # augmentation: standard deviation added to the normalised state

    config.action = ConfigDict()
    config.action.layout = "end_effector"  # what its numbers are: end_effector | bimanual (two of them) | joints
    config.action.joints = ()  # joints: their names, in the data's order; the state begins with their present values
    config.action.grippers = ()  # joints: names of the grippers that come after them, 0 closed .. 1 open
    config.action.horizon = 8  # h: targets in a chunk
    config.action.stride = 1  # control steps from one target of a chunk to the next
    config.action.keyframes = False  # True: targets are the demonstrations' next keyframes (RLBench), for a planner
    config.action.frame = "relative"  # positions and joints in the network: relative (to the present ones) | absolute

    config.model = ConfigDict()
    config.model.width = 64  # d of the tokens everywhere after the encoders
    config.model.readout = 8  # numbers per image token laid side by side for adaLN: where things are, linearly readable
    config.model.noise_dim = 10  # numbers of noise per action step; flow matching needs the network's action width
    config.model.dtype = "float32"  # of activations and products: float32 | bfloat16 (parameters stay float32)
    config.model.frozen_dtype = "float32"  # of the weights of frozen pretrained encoders: float32 | bfloat16
    config.model.proprioception = True  # the network is told its state, not only shown images
    config.model.history = 0  # earlier time steps whose images are seen besides the present ones
    config.model.history_stride = 1  # control steps between them
    config.model.scan_layers = False  # fusion and DiT as one compiled layer with stacked parameters: deep networks
    config.model.remat = (
        "none"  # layers compute again for the gradient: none | dots (keep products) | full (keep inputs)
    )
    config.model.vision = ConfigDict()
    config.model.vision.name = "vit"  # vit: from scratch, sizes below | facebook/dinov2-{small,base,large,giant},
    # facebook/dinov2-with-registers-..., or a directory of one: pretrained, then these three count and the sizes do not
    config.model.vision.image_size = 0  # pixels a pretrained encoder sees, a multiple of its patch; 0: as they come
    config.model.vision.pool = 1  # side of the square of its patches averaged into one token
    config.model.vision.lora = 0  # rank of adapters on a frozen pretrained encoder; 0: none
    config.model.vision.patch = 16  # pixels, side of the square that becomes a token
    config.model.vision.stem = "conv"  # patch (one linear map, ViT) | conv (small convolutions down to the same grid)
    config.model.vision.width = 128
    config.model.vision.depth = 2
    config.model.vision.heads = 4
    config.model.text = ConfigDict()
    config.model.text.name = "bytes"  # bytes: from scratch, sizes below | openai/clip-vit-{base-patch32,base-patch16,
    # large-patch14}, or a directory of one: pretrained, the sizes do not count
    config.model.text.lora = 0  # as for images
    config.model.text.width = 64
    config.model.text.depth = 1
    config.model.text.heads = 4
    config.model.fusion = ConfigDict()
    config.model.fusion.depth = 2  # cross-attention layers: action tokens ask the context
    config.model.fusion.heads = 4
    config.model.dit = ConfigDict()
    config.model.dit.depth = 2  # self-attention layers over the h tokens of one sample, adaLN-Zero
    config.model.dit.heads = 4
    config.model.mlp_ratio = 3.0  # hidden width of every MLP over its width (SwiGLU takes 2/3 of it)

    config.objective = ConfigDict()
    config.objective.name = "drifting"  # drifting | flow_matching | regression, or your own: my_lab.my_file:MyObjective
    config.objective.drifting = ConfigDict()  # validation draws this field at the samples of every objective
    config.objective.drifting.samples = 8  # g: samples per observation
    config.objective.drifting.temperatures = (0.1, 0.2, 0.5)  # tau of each drifting field
    config.objective.drifting.temperature_unit = (
        "nearest_positive"  # mean_distance, or from the expert to its nearest sample
    )
    config.objective.drifting.temperature_anneal = ConfigDict()
    config.objective.drifting.temperature_anneal.initial_scale = (
        1.0  # the temperatures start so many times as large ...
    )
    config.objective.drifting.temperature_anneal.fraction = 0.3  # ... until this share of the training
    config.objective.drifting.grouping = "chunk"  # what drifts together: chunk | step | dim | block, see grouping.py
    # Extra positives: recent expert chunks of the same task, weighted by how alike the observations are.
    config.objective.drifting.memory_bank = ConfigDict()
    config.objective.drifting.memory_bank.size = 0  # chunks kept per task; 0: no bank
    config.objective.drifting.memory_bank.bandwidth = (
        0.2  # of the weight exp(-(d / bandwidth)^2 / 2), in mean distances
    )
    # Classifier-free guidance, learned in training; acting still costs one evaluation.
    config.objective.drifting.guidance = ConfigDict()
    config.objective.drifting.guidance.negatives = 0  # unconditional chunks that repel samples; 0: no guidance
    config.objective.drifting.guidance.max_alpha = 4.0  # strengths are drawn from alpha^-power on [1, max_alpha]
    config.objective.drifting.guidance.power = 3.0
    config.objective.drifting.guidance.drop_instruction = (
        0.1  # share of observations that are not told their instruction
    )
    config.objective.drifting.guidance.alpha = 1.0  # the strength to act with; 1: as demonstrated
    config.objective.flow_matching = ConfigDict()
    config.objective.flow_matching.samples = 8  # g: (noise, time) pairs per observation
    config.objective.flow_matching.steps = 10  # Euler steps of sampling

    config.train = ConfigDict()
    config.train.steps = 1000  # optimiser steps
    config.train.metrics = ()  # more validation metrics, by import path: ("my_lab.my_file:SMOOTHNESS",)
    config.train.figures = ()  # more figures, by import path: ("my_lab.my_file:ERRORS",)
    config.train.optimizer = "adamw"  # adamw | muon (matrices by their momentum, orthogonalised; AdamW for the rest)
    config.train.learning_rate = 1e-3  # peak
    config.train.warmup_steps = 100  # linear from 0
    config.train.final_lr_fraction = 0.02  # cosine down to this share of the peak
    config.train.micro_batches = 1  # parts of the batch that are computed one after the other: less memory, same result
    config.train.freeze = ()  # parts of the network that are not trained, e.g. ("vision", "text")
    config.train.lr_scale = ConfigDict()  # learning rate of an encoder over that of the rest
    config.train.lr_scale.vision = 1.0
    config.train.lr_scale.text = 1.0
    config.train.weight_decay = 0.01  # AdamW, on matrices only
    config.train.b1 = 0.9  # AdamW
    config.train.b2 = 0.95  # AdamW
    config.train.clip_norm = 1.0  # global gradient norm
    config.train.ema_decay = 0.99  # of the weights that act; ramps up as (1 + step) / (10 + step)
    config.train.log_every = 20  # steps between metric lines
    config.train.eval_every = 200  # steps between validations on held-out episodes
    config.train.eval_batches = 4  # batches per validation
    config.train.save_every = 200  # steps between checkpoints
    config.train.rollout_every = 0  # steps between evaluations in simulation, a multiple of save_every; 0: none
    config.train.rollout_episodes = 10  # of each task, in such an evaluation
    config.train.report_every = (
        500  # steps after which WORKDIR/report/index.html is made again, and at the end; 0: never
    )
    config.train.keep = 2  # newest checkpoints kept, besides the best
    config.train.wandb = "auto"  # auto (online with a key, else offline if installed) | off
    config.train.wandb_project = "drifting-vla"
    config.train.tensorboard = False  # True: WORKDIR/tensorboard too; needs the extra [tensorboard]

    # Pictures of what is learned, from held-out episodes: steps between drawings, and after the last step; 0: never.
    config.figures = ConfigDict()
    config.figures.theme = "light"  # light | dark | paper | presentation
    config.figures.A1_drifting_field = 500  # where the drifting field carries samples, seen along two main directions
    config.figures.A2_drift_magnitude_trend = 500  # how large the field is, over training
    config.figures.A3_prediction_scatter = 500  # predicted against expert, per dimension
    config.figures.A4_per_dim_error_radar = 500  # mean error per dimension, in its own unit
    config.figures.A5_temperature_loss = 500  # how large the field of each temperature is
    config.figures.B1_action_distribution = 500  # histograms per dimension, predicted and expert
    config.figures.B2_action_error_heatmap = 500  # mean error of every step of the chunk and dimension
    config.figures.B3_trajectory_video = 1000  # one episode: the camera beside the expert's and predicted paths
    config.figures.B4_trajectory_3d = 1000  # one episode: the expert's path and the samples that fan out from it
    config.figures.C1_sample_transport = 500  # samples before and after a step of the field
    config.figures.C2_mode_coverage = 2000  # ways of doing things: how many samples and experts go each
    config.figures.D1_sample_spread = 500  # how far samples are apart, beside how far experts are
    config.figures.D2_success_over_training = 500  # held success per task of the checkpoints evaluated so far
    config.figures.D3_latency = 1000  # of the newest evaluation's requests
    config.figures.D4_attention = 1000  # where on the images the action tokens look

    # Devices: axis sizes of the mesh; -1 takes what is left, the product is the number of devices.
    config.mesh = ConfigDict()
    config.mesh.data = -1  # batch split, parameters copied
    config.mesh.fsdp = 1  # batch split, parameters and optimiser state split too
    config.mesh.tensor = 1  # the same batch, matrices split between devices: for networks too large otherwise
    config.mesh.fsdp_min_size = 65536  # elements; smaller parameters are copied, not split
    config.mesh.split_frozen = False  # frozen encoders split over fsdp too; False: copied, faster and larger

    # Closed-loop evaluation: one server, several simulator processes.
    config.eval = ConfigDict()
    config.eval.episodes = 20  # per task
    config.eval.demos = ""  # rlbench: a split of stored episodes; episode i then starts as stored episode seed + i did
    config.eval.seed = 1_000_000_000  # of the first episode; beyond every demonstration's seed, so each goal is unseen
    config.eval.workers = 2  # simulator processes
    config.eval.execute = 4  # actions carried out of each chunk before the policy is asked again
    config.eval.execution = "receding"  # receding | ensemble (average of overlapping chunks) | async (ask while acting)
    config.eval.ensemble_decay = 0.1  # m of ensemble: a prediction made n control steps ago weighs exp(-m n)
    config.eval.lead_steps = 1  # async: asks this many control steps before execute actions are done
    config.eval.delay_steps = 1  # async: control steps that an answer takes; known beforehand, so runs can be repeated
    config.eval.latency_ms = 0.0  # async: in place of delay_steps, how long an answer takes; below 0: as long as here
    config.eval.hold_last = False  # async: hold the last target where an answer is later than the chunk is long
    config.eval.blend_steps = 1  # async: control steps over which a new chunk takes over from the old one
    config.eval.max_steps = 250  # control steps before an episode counts as failed
    config.eval.hold_steps = 10  # control steps the success condition must hold without a break
    config.eval.repeatable = True  # a network call per request: results depend on no other request; False: batches
    config.eval.episode_seconds = 600.0  # wall clock; a simulator that takes longer hangs and is replaced
    config.eval.videos = 1  # episodes per task recorded as mp4
    config.eval.video_camera = "zoom"  # the view of the videos, any camera of the simulator; "" = the policy's first
    config.eval.record = "none"  # none | success | all: episodes kept whole, for data.export and data.build

    config.serve = ConfigDict()
    config.serve.host = "127.0.0.1"  # loopback; 0.0.0.0 to answer other machines
    config.serve.port = 8000
    config.serve.batch_sizes = (1, 2, 4)  # compiled before listening; the largest is the most requests gathered
    config.serve.batch_deadline_ms = 2.0  # longest wait for more requests to join a batch
    config.serve.num_samples = 1  # chunks drawn for every observation from the request's seed, in one call; one acts
    config.serve.choose = "first"  # which: first | nearest_mean (the sample nearest to the samples' mean; of 3 or more)
    config.serve.dataset = ""  # of a mixture: the set (end of its path) that the policy acts for; "": the first
    config.serve.compile_cache = False  # True: compiled programs are kept in WORKDIR/compile_cache for the next start
    config.serve.text_cache = 256  # instructions whose features are remembered
    config.serve.api_key = ""  # if set, clients must send "Authorization: Api-Key <it>"
    config.serve.tls_certificate = ""  # PEM file; with its key the server speaks wss://
    config.serve.tls_key = ""  # PEM file
    config.serve.max_connections = 256  # open at once
    config.serve.max_queue = 256  # requests that may wait for the network; more are answered "busy"
    config.serve.idle_seconds = 600.0  # after which a silent connection is closed
    config.lock()
    return config
