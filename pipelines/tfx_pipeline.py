"""Fine-tuning as a TFX pipeline: a model that is not better than the last blessed one is not pushed.

    python pipelines/tfx_pipeline.py --flagfile=pipelines/ds1.flags --dataset=DATASET --run=PIPELINE_ROOT

ImportExampleGen reads the dataset's TFRecords; StatisticsGen, the curated schema and ExampleValidator look at them;
Trainer fine-tunes (keras_ecg_mae/tfx_trainer.py) the pretrained encoder that --finetune_encoder names; Evaluator tells
the AUC overall and by institution, and holds it against --export_minimum_auroc, --export_minimum_institution_auroc and
the last blessed model's; where Docker has TF Serving's image, InfraValidator has it load and ask the model; Pusher
copies what is blessed to --saved_models/--name. Every recording of the dataset needs a label. Runs on this machine
(LocalDagRunner); docs/serving.md says what TFX needs.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tensorflow_data_validation.anomalies.proto import custom_validation_config_pb2
from tfx import v1 as tfx

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import OWN_PRETRAINING, RANDOM, SPLITS, Config, Export
from keras_ecg_mae.dataset import Manifest, read_manifest
from keras_ecg_mae.errors import DatasetError, RunError
from keras_ecg_mae.flags import flag_lines
from keras_ecg_mae.runs.training_data import AUTOENCODER
from keras_ecg_mae.spec import LEADS, SAMPLES

SCHEMA = Path(__file__).with_name("ecg_schema.pbtxt")
# Of an AUC: what two models may differ in by rounding.
SMALLEST_DIFFERENCE = 1e-6
TF_SERVING = "2.16.1"  # as in pipelines/serving/


def create_pipeline(config: Config, manifest: Manifest) -> tfx.dsl.Pipeline:
    """The pipeline of one dataset and one set of settings.

    Raises:
        DatasetError: a recording has no label, which Evaluator needs.
        RunError: the encoder to fine-tune is missing.
    """
    unlabelled = manifest.count(labelled=False)
    if unlabelled:
        raise DatasetError(f"{manifest.path}: Expected a label with every recording. Received {unlabelled} without.")
    root = Path(config.training.run)
    train, validation, test = SPLITS
    splits = [tfx.proto.Input.Split(name=split, pattern=f"*/{split}-*.tfrecord") for split in SPLITS]
    examples = tfx.components.ImportExampleGen(
        input_base=str(Path(manifest.folder).resolve()), input_config=tfx.proto.Input(splits=splits)
    )
    schema = tfx.components.ImportSchemaGen(schema_file=str(SCHEMA))
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"], schema=schema.outputs["schema"])
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        custom_validation_config=text_format.Parse(
            _SAMPLES.format(size=len(LEADS) * SAMPLES * 2), custom_validation_config_pb2.CustomValidationConfig()
        ),
    )
    pretrained = _pretraining(config.finetuning.encoder)
    trainer = tfx.components.Trainer(
        run_fn="keras_ecg_mae.tfx_trainer.run_fn",
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        base_model=pretrained.outputs["result"] if pretrained else None,
        train_args=tfx.proto.TrainArgs(splits=[train]),
        eval_args=tfx.proto.EvalArgs(splits=[validation, test]),
        custom_config={
            "flags": [line for line in flag_lines(config).splitlines() if line.startswith("--")],
            "label_name": manifest.label_name,
            "external_institutions": list(manifest.external_institutions),
            "prepared": dict(manifest.settings),
        },
    )
    blessed = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("last_blessed_model")
    evaluator = tfx.components.Evaluator(
        examples=examples.outputs["examples"],
        example_splits=[test],
        model=trainer.outputs["model"],
        baseline_model=blessed.outputs["model"],
        eval_config=evaluation(manifest.label_name, config.export),
    )
    tried = _infra_validator(trainer, examples)
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=tried.outputs["blessing"] if tried else None,
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=str(Path(config.export.saved_models).resolve() / config.export.name)
            )
        ),
    )
    components = [
        examples,
        schema,
        statistics,
        validator,
        trainer,
        blessed,
        evaluator,
        *([tried] if tried else []),
        pusher,
    ]
    return tfx.dsl.Pipeline(
        pipeline_name=config.export.name,
        pipeline_root=str(root.resolve()),
        components=[*([pretrained] if pretrained else []), *components],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(root / "metadata.sqlite")
        ),
        beam_pipeline_args=["--direct_num_workers=1"],
    )


# What the schema cannot say: how many bytes the samples are.
_SAMPLES = """
feature_validations {{
  feature_path {{ step: "ecg" }}
  validations {{
    sql_expression: "feature.bytes_stats.min_num_bytes = {size} AND feature.bytes_stats.max_num_bytes_int = {size}"
    severity: ERROR
    description: "Expected 12 x 5000 int16, {size} bytes, in every recording. Received another size."
  }}
}}
"""


def evaluation(label_name: str, settings: Export) -> tfma.EvalConfig:
    """What a model has to reach: overall an AUC of `export_minimum_auroc`, and a better one than the last blessed
    model's; at each institution `export_minimum_institution_auroc`, where that is not 0."""
    overall, institutions = tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["institution"])
    # A threshold that names no slices would hold for every one: a tie at one institution, or one of a single class,
    # would then refuse a better model.
    thresholds = [
        tfma.PerSliceMetricThreshold(
            slicing_specs=[overall],
            threshold=tfma.MetricThreshold(
                value_threshold=tfma.GenericValueThreshold(lower_bound={"value": settings.export_minimum_auroc}),
                change_threshold=tfma.GenericChangeThreshold(
                    direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": SMALLEST_DIFFERENCE}
                ),
            ),
        )
    ]
    if settings.export_minimum_institution_auroc:
        least = tfma.GenericValueThreshold(lower_bound={"value": settings.export_minimum_institution_auroc})
        thresholds.append(
            tfma.PerSliceMetricThreshold(
                slicing_specs=[institutions], threshold=tfma.MetricThreshold(value_threshold=least)
            )
        )
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                signature_name="serve_examples", label_key="label", prediction_key=f"{label_name}_probability"
            )
        ],
        slicing_specs=[overall, institutions],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount"),
                    # Exact up to so many distinct probabilities.
                    tfma.MetricConfig(
                        class_name="AUC", config='"num_thresholds": 10000', per_slice_thresholds=thresholds
                    ),
                ]
            )
        ],
    )


def _infra_validator(
    trainer: tfx.components.Trainer, examples: tfx.components.ImportExampleGen
) -> tfx.components.InfraValidator | None:
    """Has TF Serving itself load the model and answer for some examples; None where its image is not here."""
    if not _has_image(f"tensorflow/serving:{TF_SERVING}"):
        return None
    return tfx.components.InfraValidator(
        model=trainer.outputs["model"],
        examples=examples.outputs["examples"],
        serving_spec=tfx.proto.ServingSpec(
            tensorflow_serving=tfx.proto.TensorFlowServing(tags=[TF_SERVING]),
            local_docker=tfx.proto.LocalDockerConfig(),
        ),
        request_spec=tfx.proto.RequestSpec(
            tensorflow_serving=tfx.proto.TensorFlowServingRequestSpec(signature_names=["serve_examples"]),
            num_examples=3,
        ),
    )


def _has_image(image: str) -> bool:
    try:
        return subprocess.run(["docker", "image", "inspect", image], check=False, capture_output=True).returncode == 0
    except OSError:  # no Docker
        return False


def _pretraining(encoder: str) -> tfx.dsl.Importer | None:
    """The folder of a pretraining as a model that TFX keeps track of; None for random weights."""
    if encoder == RANDOM:
        return None
    path = Path(encoder)
    if encoder == OWN_PRETRAINING or path.name != AUTOENCODER or not path.is_file():
        raise RunError(
            f"Expected --finetune_encoder=RUN/pretrain/{AUTOENCODER} of a finished pretraining, or random. Received "
            f"{encoder}."
        )
    return tfx.dsl.Importer(
        source_uri=str(path.parent.resolve()), artifact_type=tfx.types.standard_artifacts.Model
    ).with_id("pretrained_encoder")


def main(config: Config, _: Sequence[str]) -> int:
    """Runs the pipeline and says what came of it."""
    config.training.require("dataset", "run")
    pipeline = create_pipeline(config, read_manifest(config.training.dataset))
    tfx.orchestration.LocalDagRunner().run(pipeline)
    pushed = sorted(Path(config.export.saved_models, config.export.name).glob("[0-9]*"))
    sys.stdout.write(
        f"Pipeline {config.training.run}\nVersions of {config.export.name}: {[path.name for path in pushed]}\n"
    )
    return 0


if __name__ == "__main__":
    run_command(main, ["training", "finetuning", "evaluation", "export"])
