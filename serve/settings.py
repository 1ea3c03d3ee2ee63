"""Settings of `serve/`: the policy endpoint and the training service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingServiceSettings(BaseModel):
    """The training service, which speaks Tinker's protocol. Its files lie in the folder of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model_name: str | None = None
    """What clients call the base model; None: the folder or hub name that it is loaded from."""
    database_variable: str = "AUTODRIVERL_DATABASE"
    """Environment variable that holds the database's URL, such as `postgresql://user:secret@host/name`; where it is not
    set, SQLite in the folder of the run. An address with a password has no place in a recipe."""
    max_rank: int = Field(64, ge=1, le=512)
    """Largest rank of a client's adapter."""
    resident_models: int = Field(32, ge=1)
    """Models that the learner holds at once; the one that was idle longest makes room, and comes back when needed."""
    engine_adapters: int = Field(16, ge=1)
    """Adapters that an engine holds at once."""
    snapshot_steps: int = Field(8, ge=1)
    """Optimizer steps of a model between two snapshots. What lies between is learnt again after a loss, from the stored
    requests."""
    gap_s: float = Field(20.0, gt=0)
    """How long a forward_backward waits for one with a lower number that has not arrived."""
    hold_s: float = Field(30.0, gt=0, lt=45)
    """How long a call for a result is held while there is none; clients give up after 45 s."""
    attempts: int = Field(3, ge=1)
    """How often a request is tried at most while learners or engines are lost over it."""
    max_queued: int = Field(4096, ge=1)
    """Requests that may wait for the learner, and as many for the engines; one more is refused with 429."""
    max_datums: int = Field(4096, ge=1)
    """Most datums in one forward_backward."""
    max_samples: int = Field(256, ge=1)
    """Most sequences that one sampling request may ask for."""
    idle_hours: float = Field(24.0, gt=0)
    """A session that gave no sign of life for so long is ended; its models leave the learner, and their files stay."""
    answer_days: float = Field(7.0, gt=0)
    """How long the body and the result of a request are kept after it ended."""
    collect_minutes: float = Field(10.0, gt=0)
    """Minutes between two collections of what need not be kept."""
    lease_s: float = Field(15.0, gt=1)
    """How long a server that stopped answering keeps the right to serve this database."""


class JobSettings(BaseModel):
    """Fine-tuning jobs, which speak OpenAI's dialect and run as Ray jobs beside the service."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    overrides: tuple[str, ...] = ()
    """Settings of every job's recipe, such as `learner.cpus=2`; what they do not name is as in the service's own."""
    max_running: int = Field(1, ge=1)
    """Jobs that run at once; others wait in the order in which they came."""
    poll_s: float = Field(2.0, gt=0)
    """How often the service looks after its jobs."""
    stop_s: float = Field(300.0, gt=0)
    """How long a run that is paused may take to write its checkpoint before it is killed."""
    attempts: int = Field(3, ge=1)
    """How often a job is given up only after its run was lost: it goes on from its newest checkpoint meanwhile."""
    max_file_mib: float = Field(512.0, gt=0)
    """Largest file that can be uploaded."""
    max_steps: int = Field(10_000, ge=1)
    """Most steps of one job."""


class PagesSettings(BaseModel):
    """The pages that the training service shows in a browser, and the scoring website."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    endpoints: tuple[str, ...] = ()
    """Base URLs of OpenAI-compatible endpoints, such as `http://127.0.0.1:8001/v1`. The playground asks their models,
    with the key of `serve.key_variable`."""
    runs_of: tuple[str, ...] = ()
    """Tenants whose keys see the runs below `run.root`; where none is named, every tenant's."""
    chat_timeout_s: float = Field(120.0, gt=0)
    """How long the playground waits for an answer."""


class ServeSettings(BaseModel):
    """The OpenAI-compatible endpoint of a run's policy, and the training service."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless you mean it."""
    port: int = Field(8000, ge=1, le=65535)
    """HTTP port."""
    key_variable: str = "AUTODRIVERL_SERVE_KEY"
    """Environment variable that holds the bearer key every request must carry."""
    max_images: int = Field(6, ge=1)
    """Images allowed in one request."""
    max_tokens: int = Field(512, ge=1)
    """Cap of a request's `max_tokens`."""
    max_body_mib: float = Field(32.0, gt=0)
    """Largest request body."""
    max_megapixels: float = Field(16.0, gt=0)
    """Largest image, in millions of pixels; read from its header before anything is decoded."""
    megapixels_at_once: float = Field(64.0, gt=0)
    """Decoded pixels, in millions, that requests hold at once before their images have the policy's size; three bytes
    each."""
    max_concurrent: int = Field(16, ge=1)
    """Requests answered at once; further ones wait, each tenant's in turn."""
    max_waiting: int = Field(256, ge=0)
    """Requests that may wait; a further one is refused with 429."""
    timeout_s: float = Field(120.0, gt=0)
    """Longest time one answer may take, from the arrival of its request."""
    jobs: JobSettings = JobSettings()
    """Fine-tuning jobs of the service."""
    training: TrainingServiceSettings = TrainingServiceSettings()
    """What `python -m serve.app` starts where it is given no run folder."""
    pages: PagesSettings = PagesSettings()
    """What a browser is shown at the same address."""
