"""What a run has come to, for the console."""

from keras_ecg_mae.config import OWN_PRETRAINING, STAGES, Config
from keras_ecg_mae.evaluation.evaluate import format_results, read_results
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.files import is_remote, storage_path
from keras_ecg_mae.runs.fingerprint import made_from, model_stage, stage_folder
from keras_ecg_mae.runs.folder import read_done


def summary(config: Config) -> str:
    """What a run has come to: a short text for the console."""
    run = storage_path(config.training.run)
    done = {stage: read_done(stage_folder(stage, config)) for stage in STAGES}
    outdated = []
    for stage in ("evaluate", "export"):
        maker, folder = model_stage(stage, config), stage_folder(stage, config)
        if done[stage] is not None and not made_from(folder, stage_folder(maker, config)):
            done[stage] = None
            outdated.append(
                f"  {folder} is of another model: the stage {maker} was done anew. Remove the folder before the stage "
                f"{stage}."
            )
    lines = ["", f"Run {run}", *outdated]
    if pretrained := done["pretrain"]:
        lines += [
            f"  pretrained   {config.model.size}: {pretrained['encoder_weights'] / 1e6:.2f} M encoder and "
            f"{pretrained['decoder_weights'] / 1e6:.2f} M decoder weights, {pretrained['steps']:,} steps",
            f"               error on hidden patches of {pretrained['validated_on']}, as a share of their variance: "
            f"{pretrained['validation_error']:.2f}",
            f"               (predicting the recording's mean: {pretrained['validation_record_mean']:.2f}; the mean of "
            f"the lead's visible patches: {pretrained['validation_lead_visible_mean']:.2f})",
        ]
        if pretrained["validation_error"] > 0.9 * pretrained["validation_lead_visible_mean"]:
            lines.append("               This is hardly better than the trivial predictors: pretrain for longer.")
    if finetuned := done["finetune"]:
        lines.append(
            f"  fine-tuned   at {finetuned['learning_rate']:g}, epoch {finetuned['epoch'] + 1}: lowest validation loss "
            f"{finetuned['validation_loss']:.4f}"
        )
        diverged = [trial for trial in finetuned["learning_rates"] if trial["validation_loss"] is None]
        lines += [f"               {trial['learning_rate']:g} diverged: {trial['diverged']}" for trial in diverged]
    if done["evaluate"] is not None:
        results = read_results(stage_folder("evaluate", config))
        lines += [f"  evaluated    {results.label_name}, test recordings:", ""]
        lines += [f"    {line}" for line in format_results(results).splitlines()]
        lines.append("")
        if config.evaluation.expected_auroc:
            lines += [f"    {_verdict(results, config.evaluation.expected_auroc)}", ""]
    next_commands = [f"tensorboard --logdir {run}"]
    if exported := done["export"]:
        lines.append(f"  exported     {exported['saved_model']}")
        if config.export.exported == "classifier":
            next_commands.append(f"python -m keras_ecg_mae.predict --model={exported['saved_model']} FILE...")
    else:
        own = config.finetuning.encoder == OWN_PRETRAINING
        missing = ",".join(stage for stage in STAGES if not done[stage] and (own or stage != "pretrain"))
        # absl reads flag files from disks alone.
        flags = (
            f"--flagfile=<a copy of {run / 'flags.txt'}>" if is_remote(str(run)) else f"--flagfile={run / 'flags.txt'}"
        )
        next_commands.append(f"python -m keras_ecg_mae.train {flags} --stages={missing}")
    return "\n".join([*lines, "", "Next:", *(f"  {command}" for command in next_commands), ""])


def _verdict(results: Results, expected: float) -> str:
    """Whether the whole interval of the last pool (external where there is one) lies above what was expected."""
    pool = results.groups[-1]
    level = f"{100 * results.confidence:g}% interval of {pool.name}"
    if pool.auroc.low is None:
        return f"Expected the {level} above {expected:g}. Received none: its AUROC is undefined."
    if pool.auroc.low > expected:
        return f"As expected, the {level} lies above {expected:g}."
    return f"NOT AS EXPECTED: the {level} begins at {pool.auroc.low:.3f}, not above {expected:g}."
