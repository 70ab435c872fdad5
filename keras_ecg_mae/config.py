"""Every setting of the package, in one tree of frozen dataclasses.

Flags, their `--help`, a run's `flags.txt` and `docs/settings.md` are all made from it by `flags.py`.
A field is one setting: its type with its range, its default and one documented line. A flag is called after the field,
with the section's prefix in front. A section's `check` is for settings that limit each other, `Config` for what spans
sections.
"""

import re
from dataclasses import Field, dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.spec import voltage_unit

Stage = Literal["pretrain", "finetune", "evaluate", "export"]
STAGES: tuple[Stage, ...] = get_args(Stage)
TRAINED_STAGES = STAGES[:2]  # those that all workers take part in
SPLITS = ("train", "validation", "test")
Normalization = Literal["record", "lead", "none"]
Size = Literal["tiny", "small", "base", "large", "huge"]
OWN_PRETRAINING, RANDOM = "pretrain", "random"
LOCAL = "local"  # the runner that is this machine
_SERVER = re.compile(r"https?://[^\s@/]+(/[^\s@]*)?|[^\s@/]+:\d+")


@dataclass(frozen=True)
class Range:
    """What a setting may be, or each element of a tuple; `str()` says it."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether a value, or each element of a tuple, lies within; NaN lies within no bounds."""
        if isinstance(value, tuple):
            return all(self.holds(element) for element in value)
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and (not self.one_of or value in self.one_of)
        )

    def __str__(self) -> str:
        if self.one_of:
            return f"one of {', '.join(choice or 'nothing' for choice in self.one_of)}"
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)


Count = Annotated[int, Range(at_least=1)]
CountOrZero = Annotated[int, Range(at_least=0)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(at_least=0)]
BelowOne = Annotated[float, Range(at_least=0, below=1)]
Share = Annotated[float, Range(above=0, at_most=1)]
PartialShare = Annotated[float, Range(above=0, below=1)]


def setting(default: Any, doc: str, heading: str = "") -> Any:
    """A dataclass field with its documentation; `heading` is the title of the settings from this one on."""
    return field(default=default, metadata={"doc": doc, "heading": heading})


def range_of(item: "Field[Any]") -> Range:
    """What a setting may be; of a tuple, each element."""
    kind = get_args(item.type)[0] if get_origin(item.type) is tuple else item.type
    if get_origin(kind) is Literal:
        return Range(one_of=get_args(kind))
    return get_args(kind)[1] if get_origin(kind) is Annotated else Range()


def describe_range(item: "Field[Any]") -> str:
    """What a setting may be, in words; empty where it may be anything."""
    words = str(range_of(item))
    return f"each {words}" if words and isinstance(item.default, tuple) else words


class Section:
    """Settings that belong together.

    Args:
        title: of the section, with the commands that use it.
        prefix: what the names of its flags begin with.
    """

    TITLE: ClassVar[str]
    PREFIX: ClassVar[str]

    def __init_subclass__(cls, title: str, prefix: str = ""):
        cls.TITLE, cls.PREFIX = title, prefix

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            self.expect(item.name, range_of(item).holds(getattr(self, item.name)), f"to be {describe_range(item)}")
        self.check()

    def check(self) -> None:
        """Raises `ConfigError` where a setting does not fit another one, or has no plain range."""

    @classmethod
    def flag(cls, name: str) -> str:
        return cls.PREFIX + name

    def expect(self, name: str, correct: bool, expected: str) -> None:
        if not correct:
            raise ConfigError(f"Expected --{self.flag(name)} {expected}. Received {getattr(self, name)!r}.")

    def is_given(self, name: str) -> bool:
        """Whether a setting differs from its default."""
        return bool(getattr(self, name) != getattr(type(self), name))

    def require(self, *names: str) -> None:
        """Raises `ConfigError` where a setting that a command cannot do without was not given."""
        for name in names:
            if not getattr(self, name):
                raise ConfigError(f"Expected --{self.flag(name)}. Received none.")


def _in_order(values: tuple[str, ...], order: tuple[str, ...]) -> bool:
    """Whether values are some of `order`, at least one, in this order and each once."""
    return values == tuple(item for item in order if item in values) != ()


@dataclass(frozen=True)
class Simulation(Section, title="Simulated cohort (simulate)", prefix="simulate_"):
    patients: Count = setting(1200, "Patients to simulate, spread evenly over the institutions.")
    institutions: Count = setting(3, "Institutions, each with its own devices, noise and case mix.")
    counts: str = setting(
        "",
        "CSV file with the size of each institution instead: institution, patients, ecgs; or exactly, by split and "
        "label: institution, split, patients, case, control.",
    )
    table_only: bool = setting(False, "Make the table alone, without recordings.")
    prevalence: PartialShare = setting(0.25, "Share of patients with an ejection fraction under 40%.")
    seed: int = setting(0, "Seed of the simulated cohort.")

    def check(self) -> None:
        self.expect("institutions", self.institutions <= self.patients, "to be at most the patients")
        even = self.is_given("patients") or self.is_given("institutions")
        self.expect("counts", not (self.counts and even), "without --simulate_patients and --simulate_institutions")


@dataclass(frozen=True)
class Signal(Section, title="Files that do not say it of themselves (prepare, predict, inspect)", prefix="signal_"):
    """What arrays (CSV, NumPy, MATLAB, HDF5) often leave unsaid; a file that says it itself is believed over this."""

    sampling_rate_hz: NotNegative = setting(0.0, "Sampling rate of files that do not state theirs; 0: refuse them.")
    unit: str = setting("", "Unit of files that do not state theirs, mV, uV or V; empty: refuse them.")
    leads: tuple[str, ...] = setting((), "Leads, in their order, of files that do not name theirs; empty: refuse them.")

    def check(self) -> None:
        self.expect("unit", not self.unit or voltage_unit(self.unit.lower()) is not None, "to be mV, uV or V")


def _tells_a_date(date_format: str) -> bool:
    """Whether a date written in this form can be read back; the empty one is none."""
    day, *others = (datetime(*day) for day in ((2001, 2, 3), (2002, 2, 3), (2001, 3, 3), (2001, 2, 4)))
    text = day.strftime(date_format)
    if text in [other.strftime(date_format) for other in others]:
        return date_format == ""
    try:
        return datetime.strptime(text, date_format) == day
    except ValueError:
        return False


# What may be doubtful about a recording, in the words of `findings.csv`.
FINDINGS: dict[str, str] = {
    "too_short": "shorter than 10 s",
    "missing_lead": "a lead that was not recorded, or holds zeros only",
    "not_finite": "samples that are no numbers",
    "flat_lead": "a lead that is constant, all the time or for a while",
    "amplitude": "an amplitude no surface ECG has: a wrong unit",
    "clipping": "a lead that stays at the ends of its range: the device's range was left",
    "mains_hum": "mains hum at 50 or 60 Hz",
    "baseline_wander": "a baseline that wanders",
    "einthoven": "limb leads that contradict one another",
    "swapped_limb_leads": "limb electrodes that seem exchanged",
    "duplicate_signal": "the signal of another recording",
}


@dataclass(frozen=True)
class Quality(Section, title="Signal quality (prepare, inspect)", prefix="quality_"):
    """Where the thresholds come from stands in `recordings/findings.py` and `recordings/swapped_limb_leads.py`."""

    reject: tuple[Annotated[str, Range(one_of=tuple(FINDINGS))], ...] = setting(
        (), "Findings for which a recording is left out; the others are listed."
    )
    flat_s: Positive = setting(1.0, "A lead that stays the same, to 5 uV, for so long is flat.")
    smallest_mv: NotNegative = setting(0.05, "A lead that spans less than this from peak to peak holds no ECG.")
    largest_mv: float = setting(10.0, "A lead that spans more than this from peak to peak holds no ECG.")
    clipping_share: Positive = setting(
        0.01, "A lead with this share of its samples at the ends of its range is clipped."
    )
    mains_hum_mv: NotNegative = setting(0.05, "Mains hum above this from peak to peak is a finding.")
    baseline_wander_mv: NotNegative = setting(
        0.75, "A baseline that moves by more than this, slower than 0.5 Hz, wanders."
    )
    einthoven_mv: NotNegative = setting(
        0.05, "Limb leads that miss Einthoven's and Goldberger's laws by more disagree."
    )
    swap_correlation: Positive = setting(
        0.5, "How strongly QRS complexes must run against those of V5 and V6 where limb electrodes were exchanged."
    )
    swap_p_wave_mv: NotNegative = setting(0.03, "How far P waves must point the wrong way where they were exchanged.")

    def check(self) -> None:
        self.expect("largest_mv", self.largest_mv > self.smallest_mv, "to be above --quality_smallest_mv")


@dataclass(frozen=True)
class Inspect(Section, title="Looking at files (inspect)"):
    json: bool = setting(False, "Print one JSON object a file.")
    draw: str = setting("", "Folder to draw each recording into, on ECG paper.")
    draw_format: Literal["png", "svg"] = setting("png", "Form of the drawings.")


@dataclass(frozen=True)
class Cohort(Section, title="Recordings and table (simulate, prepare)"):
    recordings: str = setting("", "Folder of recordings; the table's paths are relative to it.")
    labels: str = setting("", "Table with one row a recording: CSV, TSV, Excel (.xlsx) or Parquet.")
    labels_sheet: str = setting("", "Sheet of an Excel table; empty: its first.")
    output: str = setting("", "Dataset folder to write.")
    path_column: str = setting(
        "path", "Column with the recording's path relative to --recordings.", heading="Columns of the table (prepare)"
    )
    record_id_column: str = setting("record_id", "Column with the recording's id; without it, the path.")
    patient_id_column: str = setting("patient_id", "Column with the patient's id; without it, one patient a recording.")
    institution_column: str = setting("institution", "Column with the institution; without it, one institution.")
    lvef_column: str = setting(
        "lvef", "Column with the left ventricular ejection fraction in percent: 35, a range 35-40, or a bound <40."
    )
    lvef_range: Literal["mean", "lower", "upper", "refuse"] = setting(
        "mean", "What a range of ejection fractions counts as: a number of it, or nothing (refuse)."
    )
    age_column: str = setting("age", "Column with the age in years.")
    birth_date_column: str = setting("", "Column with the birth date, to take the age at the ECG's date from.")
    age_cap: NotNegative = setting(
        90.0, "Higher ages are written as this one (HIPAA's Safe Harbor asks for 90); 0: as they are."
    )
    sex_column: str = setting("sex", "Column with the sex.")
    ecg_date_column: str = setting("ecg_date", "Column with the ECG's date, where a setting needs it; never written.")
    date_format: str = setting(
        "", "Form of dates that do not begin with the year, as Python's strptime has it: %d/%m/%Y. Empty: refuse them."
    )
    echoes: str = setting(
        "",
        "Table with one row an echocardiogram, which gives each ECG its ejection fraction, instead of --labels.",
        heading="Echocardiograms (prepare)",
    )
    echo_sheet: str = setting("", "Sheet of an Excel table of echocardiograms; empty: its first.")
    echo_patient_id_column: str = setting("", "Column of --echoes with the patient's id; empty: --patient_id_column.")
    echo_date_column: str = setting("echo_date", "Column of --echoes with the date.")
    echo_window_days: CountOrZero = setting(
        30, "An ECG takes the nearest echocardiogram of the patient, at most so many days before or after it."
    )
    ecgs_per_patient: Literal["all", "first", "last", "nearest_echo"] = setting(
        "all",
        "All ECGs of a patient, or one: the first or last by date, or the one nearest to its echocardiogram; labelled "
        "ones before others.",
    )
    label_column: str = setting(
        "", "Column with a 0/1 label to use instead of the ejection fraction.", heading="Labels (prepare)"
    )
    lvef_threshold: Annotated[float, Range(above=0, below=100)] = setting(
        40.0, "An ejection fraction under this percentage is a positive label (LVSD)."
    )
    external_institutions: tuple[str, ...] = setting(
        (), "Institutions kept for testing only.", heading="Split (prepare)"
    )
    train_fraction: Share = setting(0.70, "Share of an institution's patients to train on.")
    validation_fraction: NotNegative = setting(
        0.15, "Share of an institution's patients to validate on; the rest is tested."
    )
    split_seed: int = setting(0, "Seed of the patient-level split.")
    split_column: str = setting(
        "", "Column with each recording's split (train, validation or test); empty: split by patient at random."
    )
    split_values: tuple[str, ...] = setting(
        (),
        "What other values of --split_column mean, each as VALUE:SPLIT: 9:validation,10:test; VALUE:none leaves such "
        "recordings out.",
    )
    split_patients: Literal["refuse", "reject"] = setting(
        "refuse",
        "What to do about patients in two splits of --split_column: refuse the table, or reject their recordings of "
        "the earlier split, so that the test set stays whole.",
    )
    long_recordings: Literal["first", "middle", "refuse"] = setting(
        "first", "Which 10 s of a longer recording to take, or to refuse it.", heading="Dataset and processes (prepare)"
    )
    table_only: bool = setting(
        False, "Read and split the table, write OUTPUT/cohort.json and stop, without opening a recording."
    )
    max_flat_leads: Annotated[int, Range(at_least=0, at_most=11)] = setting(
        0, "Recordings with more constant leads than this are rejected."
    )
    patient_key_file: str = setting(
        "", "File with the secret that turns patient ids into keys; made if absent. Default: OUTPUT.key."
    )
    records_per_shard: Count = setting(1000, "Recordings a TFRecord shard (120 kB each).")
    workers: CountOrZero = setting(0, "Processes that read recordings; 0 is one a core.")
    runner: Literal[
        "local",
        "DirectRunner",
        "PrismRunner",
        "PortableRunner",
        "FlinkRunner",
        "SparkRunner",
        "DaskRunner",
        "DataflowRunner",
    ] = setting(
        LOCAL,
        "Where prepare writes shards and predict predicts: on this machine (local), or in an Apache Beam pipeline, its "
        "options after --.",
    )

    @property
    def split_meanings(self) -> dict[str, str]:
        """The split, or `"none"`, by value of `split_column`."""
        pairs = (text.rpartition(":") for text in self.split_values)
        return {value.strip(): split.strip() for value, _, split in pairs}

    def check(self) -> None:
        known, meanings = (*SPLITS, "none"), self.split_meanings
        clear = len(meanings) == len(self.split_values) and set(meanings.values()) <= set(known)
        clear = clear and all(":" in text for text in self.split_values)
        self.expect("split_values", clear, f"to be different VALUE:SPLIT, SPLIT being one of {', '.join(known)}")
        for name in ("split_values", "split_patients"):
            self.expect(name, bool(self.split_column) or not self.is_given(name), "with --split_column only")
        for name in ("train_fraction", "validation_fraction"):
            self.expect(name, not (self.split_column and self.is_given(name)), "to be left out with --split_column")
        rest = 1 - self.train_fraction
        self.expect(
            "validation_fraction",
            self.validation_fraction <= rest + 1e-9,
            f"to be at most 1 - train_fraction = {rest:g}",
        )
        self.expect("date_format", _tells_a_date(self.date_format), "to hold year, month and day, as %d/%m/%Y does")
        self.expect("label_column", not (self.label_column and self.echoes), "without --echoes, or those without it")
        needs_echoes = self.ecgs_per_patient == "nearest_echo" and not self.echoes
        self.expect("ecgs_per_patient", not needs_echoes, "to be nearest_echo with --echoes only")


@dataclass(frozen=True)
class Model(Section, title="Model (train)"):
    architecture: Literal["vit", "cnn"] = setting(
        "vit", "Vision Transformer, or the convolutional baseline, which is not pretrained and has one size."
    )
    size: Size = setting("large", "Encoder: tiny and small for two cores, large (ViT-Large) is the paper's.")
    normalization: Normalization = setting(
        "lead", "Zero mean and unit deviation of each lead on its own (lead), over all twelve leads (record), or none."
    )
    mask_ratio: PartialShare = setting(0.75, "Share of the 240 patches hidden from the encoder in pretraining.")
    normalize_target: bool = setting(False, "Reconstruct each patch normalised by its own mean and deviation.")
    pooling: Literal["mean", "class_token"] = setting("mean", "What the classifier reads: mean of patches, or token.")


@dataclass(frozen=True)
class Training(Section, title="Run (train, evaluate, export)"):
    dataset: str = setting("", "Dataset folder that prepare wrote.")
    run: str = setting("", "Run folder: everything a run leaves goes there.")
    title: str = setting("", "The run's name in a report; without it, the run folder's.")
    paper_column: Literal["", "ds1_cnn", "ds1", "ds1_mae_ds2", "ds2_cnn", "ds2_imagenet", "ds2_mae_ds1", "ds2"] = (
        setting("", "Column of the paper's table 3 that the run reproduces, for a report with --paper.")
    )
    stages: tuple[Annotated[str, Range(one_of=STAGES)], ...] = setting(
        STAGES, "Stages to run, in their order; finished ones are skipped."
    )
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = setting(
        "auto",
        "One device, all GPUs of this machine (mirrored), or those of all machines that TF_CONFIG names; auto takes "
        "what there is.",
    )
    precision: Literal["float32", "mixed_bfloat16"] = setting("float32", "Arithmetic; bfloat16 suits A100s and later.")
    seed: int = setting(0, "Seed of weights, masks, order of records and time shifts.")
    checkpoint_minutes: NotNegative = setting(10.0, "Minutes between two checkpoints to resume from.")
    accumulation: Count = setting(
        1, "Parts that a device computes its share of a batch in, one after another: more need less memory."
    )
    xla: bool = setting(False, "Compile forward and backward pass with XLA.")
    rematerialize: bool = setting(
        False, "Compute a transformer block again in the backward pass instead of keeping it: slower, with less memory."
    )
    profile_steps: CountOrZero = setting(
        0, "Steps to record with TensorFlow's profiler for TensorBoard, after the first."
    )

    def check(self) -> None:
        self.expect("stages", _in_order(self.stages, STAGES), f"to be in the order {','.join(STAGES)}, each once")


@dataclass(frozen=True)
class Pretraining(Section, title="Pretraining (train)", prefix="pretrain_"):
    """He et al. 2022, table 8, at the batch and epochs of Sawano et al."""

    splits: tuple[Annotated[str, Range(one_of=SPLITS)], ...] = setting(
        SPLITS[:1],
        "Splits whose recordings are learnt from, without labels; never those of external institutions. The paper's is "
        "train,validation,test: its encoder has seen the test ECGs.",
    )
    epochs: Count = setting(1600, "Passes over these recordings.")
    batch_size: Count = setting(1024, "Recordings a step, over all devices.")
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw",
        "AdamW, the paper's; or Muon for the matrices inside the transformer blocks and AdamW for the rest: "
        "docs/optimizers.md has what that is worth on a small dataset.",
    )
    base_learning_rate: Positive = setting(
        1.5e-4, "Peak learning rate at batch 256; scaled in proportion to the batch."
    )
    warmup_epochs: NotNegative = setting(40.0, "Epochs of linear warm-up; then half a cosine to 0.")
    weight_decay: NotNegative = setting(0.05, "Decoupled decay of weights with more than one dimension.")
    beta_1: BelowOne = setting(0.9, "AdamW's decay rate of the first moment.")
    beta_2: BelowOne = setting(0.95, "AdamW's decay rate of the second moment.")
    time_shift: bool = setting(False, "Rotate each recording by a random time (not in the paper; for small datasets).")
    initial_weights: str = setting(
        "", "Weights to begin with, in the published naming (.safetensors, .npz, .pth); without them, random ones."
    )
    validation_epochs: Count = setting(10, "Epochs between validations and reconstruction pictures.")

    def check(self) -> None:
        self.expect("splits", _in_order(self.splits, SPLITS), f"to be in the order {','.join(SPLITS)}, each once")
        self.expect("warmup_epochs", self.warmup_epochs < self.epochs, "to be under the epochs")


@dataclass(frozen=True)
class Finetuning(Section, title="Fine-tuning (train)", prefix="finetune_"):
    """Sawano et al., 2.4: Adam at three initial rates, here constant; the weights of the lowest validation loss."""

    encoder: str = setting(
        OWN_PRETRAINING,
        "Weights to start from: pretrain (this run's), random, or a path: an autoencoder.keras, or weights in the "
        "published naming (.safetensors, .npz, .pth).",
    )
    transfer: Literal["encoder", "blocks"] = setting(
        "encoder",
        "What is taken of published weights: the whole encoder, or the blocks, norm and class token of one that was "
        "trained on images.",
    )
    recipe: Literal["paper", "mae"] = setting(
        "paper", "Adam at the constant --finetune_learning_rates, or He et al. 2022 with the --finetune_mae_ settings."
    )
    trained: Literal["all", "norm_and_head", "head"] = setting(
        "all", "What learns: everything; on a frozen encoder, norm and dense layer; or the dense layer (linear probe)."
    )
    epochs: Count = setting(100, "Passes over the labelled training recordings, at most.")
    batch_size: Count = setting(64, "Recordings a step, over all devices (the paper does not say).")
    learning_rates: tuple[Positive, ...] = setting(
        (1e-4, 3e-5, 1e-5), "Adam's constant rates, tried one after another."
    )
    patience: Count = setting(10, "Epochs without a lower validation loss before a rate is ended (not in the paper).")
    label_fraction: Share = setting(
        1.0, "Share of the training and of the validation patients whose labels are used, drawn by --seed."
    )
    time_shift: bool = setting(False, "Rotate each recording by a random time (not in the paper; for small datasets).")

    def check(self) -> None:
        different = len(set(self.learning_rates)) == len(self.learning_rates) > 0
        self.expect("learning_rates", different, "to be different rates, at least one")


@dataclass(frozen=True)
class MaeFinetuning(Section, title="Fine-tuning by --finetune_recipe=mae (train)", prefix="finetune_mae_"):
    """He et al. 2022, table 9, with the stochastic depth of their script for ViT-Large."""

    epochs: Count = setting(50, "Passes over the labelled training recordings.")
    base_learning_rate: Positive = setting(1e-3, "Peak learning rate at batch 256; scaled in proportion to the batch.")
    warmup_epochs: NotNegative = setting(5.0, "Epochs of linear warm-up; then half a cosine to 1e-6.")
    weight_decay: NotNegative = setting(0.05, "AdamW's decay of matrices: not of biases, norms and the class token.")
    layer_decay: Share = setting(0.75, "Factor on learning rate and weight decay from one block to the one below.")
    drop_path: BelowOne = setting(0.2, "Stochastic depth of the last block, rising linearly from 0 over the blocks.")

    def check(self) -> None:
        self.expect("warmup_epochs", self.warmup_epochs < self.epochs, "to be under the epochs")


@dataclass(frozen=True)
class Evaluation(Section, title="Evaluation (train, evaluate)"):
    confidence: PartialShare = setting(0.95, "Confidence level of the intervals.")
    threshold_rule: str = setting(
        "youden",
        "How the threshold is chosen on the validation ECGs: youden (largest sensitivity + specificity), sensitivity=S "
        "(highest with at least S, e.g. sensitivity=0.9), specificity=S (lowest with at least S).",
    )
    evaluate_batch_size: Count = setting(64, "Recordings a step where nothing is learnt.")
    expected_auroc: BelowOne = setting(
        0.0, "Say at a run's end whether the AUROC's interval, external if there is one, lies above this; 0: no."
    )

    def check(self) -> None:
        correct = re.fullmatch(r"youden|(sensitivity|specificity)=(0\.\d+|1(\.0+)?)", self.threshold_rule) is not None
        self.expect("threshold_rule", correct, "to be youden, sensitivity=S or specificity=S with S in (0, 1]")


@dataclass(frozen=True)
class Export(Section, title="Export (train, export)"):
    saved_models: str = setting("saved_models", "Folder that exports go to, one folder a model, one a version.")
    name: str = setting("lvsd", "Name under which the model is served.")
    exported: Literal["classifier", "autoencoder"] = setting(
        "classifier", "Which of the run's models to export: the fine-tuned classifier, or the pretrained autoencoder."
    )
    export_precision: Literal["float32", "mixed_bfloat16"] = setting(
        "float32",
        "What a served classifier's encoder computes in. In mixed_bfloat16 it is evaluated anew; card and gate go by "
        "that, and served values are bfloat16's, not those of the stage evaluate.",
    )
    export_batch_sizes: tuple[Count, ...] = setting(
        (1, 2, 4, 8, 16, 32), "Batch sizes a server warms up with: those its batching allows, smallest first."
    )
    export_minimum_auroc: BelowOne = setting(
        0.5, "Refuse a classifier whose AUROC's interval, all internal or all external, begins under this."
    )
    export_minimum_institution_auroc: BelowOne = setting(
        0.0, "Refuse a classifier whose AUROC's interval at one institution begins under this; 0: ask nothing of them."
    )
    export_auroc_tolerance: BelowOne = setting(
        0.01,
        "Refuse a classifier whose AUROC lies by more than this under that of the newest version that was not refused.",
    )
    export_despite_gate: bool = setting(False, "Export a classifier that would be refused; its model card says why.")

    def check(self) -> None:
        correct = self.name != "" and "/" not in self.name and not self.name.startswith(".")
        self.expect("name", correct, "to be one folder's name")
        sizes = self.export_batch_sizes
        self.expect("export_batch_sizes", sizes == tuple(sorted(set(sizes))) != (), "to be ascending, at least one")
        classifier = self.exported == "classifier" or self.export_precision == "float32"
        self.expect("export_precision", classifier, "to be float32 with --exported=autoencoder")


@dataclass(frozen=True)
class Prediction(Section, title="Prediction (predict)"):
    model: str = setting(
        "",
        "Export to predict with: saved_models/NAME (its newest version) or saved_models/NAME/1; with --server, the "
        "model's name there.",
    )
    server: str = setting("", "TF Serving to ask instead: HOST:PORT for gRPC, http://HOST:PORT for REST.")
    server_label: str = setting(
        "", "Label of the version to ask there, e.g. stable or canary; without one it is the newest that is loaded."
    )
    server_long_recordings: Literal["refuse", "first", "middle"] = setting(
        "refuse",
        "What a server is sent of more than 10 s: nothing, the first or the middle 10 s. It does not say what its "
        "model was trained on; assets/model.json of the export does (long_recordings).",
    )
    server_timeout_s: Positive = setting(
        30.0, "Seconds that the server has for an answer; over REST, for each part of it."
    )
    server_attempts: Count = setting(
        5, "How often a server that does not answer is asked, with growing pauses between."
    )
    files: str = setting("", "Text file with one recording's path a line, besides those given; - reads standard input.")
    predictions: str = setting(
        "", "File to write the predictions to; given again after an interruption, it goes on behind the last one."
    )
    predict_batch_size: Count = setting(32, "Recordings a batch.")
    format: Literal["table", "json"] = setting("table", "Print a table, or one JSON object a line.")

    def check(self) -> None:
        if self.server and (not _SERVER.fullmatch(self.server) or "/v1/models" in self.server):
            # A password may be in it: it is not repeated.
            raise ConfigError(
                "Expected --server to be HOST:PORT, or http://HOST:PORT without name and password, and without "
                "/v1/models/NAME, which is added: the name is --model. Received another form."
            )
        json = self.format == "json" or not self.predictions
        self.expect("format", json, "to be json with --predictions")


@dataclass(frozen=True)
class Report(Section, title="Report (report)"):
    report_output: str = setting("", "Folder to write the report to: Markdown, HTML, a CSV file a table, pictures.")
    paper: str = setting(
        "",
        "Folder of the paper's tables (pipelines/paper): print its AUROC, and the difference, under each of a run that "
        "reproduces a column of its table 3 (--paper_column).",
    )
    report_printed: Literal["everything", "sentences"] = setting(
        "everything", "Print the whole report, or what it says in sentences, as on differences, and the page's path."
    )
    subgroups: tuple[str, ...] = setting(
        ("sex", "age"),
        "Columns of the predictions to evaluate by: sex, age (in bands), or another one that the dataset keeps.",
    )
    study: str = setting(
        "", "TOML file with what only people know of a study (docs/evaluation.md), for the items of TRIPOD+AI."
    )
    fewer_labels: tuple[str, ...] = setting(
        (),
        "Two run folders RUN_A,RUN_B: compare A, trained on fewer labels, with B at the institutions external to both.",
    )

    def check(self) -> None:
        self.expect("fewer_labels", len(self.fewer_labels) in (0, 2), "to be two run folders")


ARMS = ("pretrained", "random", "random_longer", "linear_probe", "frozen_random", "cnn")


@dataclass(frozen=True)
class LabelEfficiency(Section, title="AUROC against the number of labels (label_efficiency)", prefix="study_"):
    arms: tuple[Annotated[str, Range(one_of=ARMS)], ...] = setting(
        ("pretrained", "random", "frozen_random", "cnn"),
        "What is fine-tuned: the encoder that --finetune_encoder names; random weights; random weights for "
        "--study_longer times the epochs; a dense layer on the frozen encoder, pretrained (linear_probe) or random "
        "(frozen_random); the CNN.",
    )
    label_fractions: tuple[Share, ...] = setting(
        (0.05, 0.1, 0.2, 0.5, 1.0), "Shares of the training and of the validation patients whose labels are used."
    )
    seeds: tuple[int, ...] = setting((0, 1, 2), "Each draws labelled patients, random weights and order of recordings.")
    longer: Count = setting(3, "Times the epochs, and the patience, that the arm random_longer has.")


@dataclass(frozen=True)
class Config:
    """Every setting of a command. Each command uses the sections it names."""

    simulation: Simulation = Simulation()
    signal: Signal = Signal()
    quality: Quality = Quality()
    inspection: Inspect = Inspect()
    cohort: Cohort = Cohort()
    model: Model = Model()
    training: Training = Training()
    pretraining: Pretraining = Pretraining()
    finetuning: Finetuning = Finetuning()
    mae_finetuning: MaeFinetuning = MaeFinetuning()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    prediction: Prediction = Prediction()
    report: Report = Report()
    label_efficiency: LabelEfficiency = LabelEfficiency()

    def __post_init__(self) -> None:
        encoder = self.finetuning.encoder
        published = encoder not in (OWN_PRETRAINING, RANDOM) and not encoder.endswith(".keras")
        self.finetuning.expect(
            "transfer", self.finetuning.transfer == "encoder" or published, f"to be encoder with {encoder}"
        )
        if self.model.architecture == "cnn":
            self._check_cnn()
        self._check_recipe()

    def _check_cnn(self) -> None:
        """Raises `ConfigError` where a setting was given that a CNN does not have."""
        training, finetuning = self.training, self.finetuning
        training.expect("stages", "pretrain" not in training.stages, "without pretrain: a CNN has none")
        finetuning.expect("encoder", finetuning.encoder == RANDOM, "to be random: a CNN is not pretrained")
        # Neither `accumulation` nor `xla` goes with batch normalisation, which takes statistics over all replicas.
        for section, name in (
            (finetuning, "recipe"),
            (finetuning, "trained"),
            (training, "accumulation"),
            (training, "xla"),
            (training, "rematerialize"),
        ):
            section.expect(name, not section.is_given(name), "to be left out: it is not for a CNN")

    def _check_recipe(self) -> None:
        """Raises `ConfigError` where a setting was given that is the other fine-tuning recipe's."""
        if self.finetuning.recipe == "mae":
            idle: Section = self.finetuning
            names = ["learning_rates", "epochs", "patience"]
            instead = "give --finetune_mae_base_learning_rate or --finetune_mae_epochs; it is never ended early"
        else:
            idle, names = self.mae_finetuning, [item.name for item in fields(MaeFinetuning)]
            instead = "give --finetune_learning_rates or --finetune_epochs, or --finetune_recipe=mae with it"
        for name in names:
            expected = f"to be left out with --finetune_recipe={self.finetuning.recipe}: {instead}"
            idle.expect(name, not idle.is_given(name), expected)
