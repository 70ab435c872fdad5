"""Which classifiers may be served: those that are better than a bound, and no worse than the version before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_ecg_mae.config import Export
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.training_data import describe_label
from keras_ecg_mae.serving.model_json import Decision, Description, read_description
from keras_ecg_mae.serving.versions import whole_versions

Group = Mapping[str, Any]  # with the fields of `evaluation.scoring.Group`


def gate_refusals(groups: Sequence[Group], settings: Export, incumbent: Sequence[Group] = ()) -> list[str]:
    """Why a classifier is not to be served; empty where it may be.

    * All internal and all external test ECGs: the AUROC's interval begins at `export_minimum_auroc` or above.
    * Each institution: it begins at `export_minimum_institution_auroc` or above, where that is not 0.
    * All internal and all external: the AUROC is at most `export_auroc_tolerance` under the incumbent's.
    * Each institution: the AUROC's interval reaches to there. Its ECGs are few, so that two equally good models
      differ by chance; what lies under the incumbent with its whole interval does not.

    Args:
        groups: the classifier's accuracy by institution and pool.
        settings: the bounds.
        incumbent: that of the version served so far, on the same ECGs; empty without one.
    """
    refusals = []
    for group in groups:
        bound = settings.export_minimum_auroc if group["pooled"] else settings.export_minimum_institution_auroc
        flag = "export_minimum_auroc" if group["pooled"] else "export_minimum_institution_auroc"
        low = group["auroc"]["low"]
        if bound > 0 and (low is None or low < bound):
            received = f"none ({group['auroc']['undefined']})" if low is None else f"{low:.3f}"
            refusals.append(
                f"Expected the AUROC's interval of {group['name']} to begin at {bound:g} or above, by "
                f"--{settings.flag(flag)}. Received {received}."
            )
    return refusals + _worse_than_incumbent(groups, settings.export_auroc_tolerance, incumbent)


def _worse_than_incumbent(groups: Sequence[Group], tolerance: float, incumbent: Sequence[Group]) -> list[str]:
    before = {(group["name"], group["pooled"]): group["auroc"]["value"] for group in incumbent}
    refusals = []
    for group in groups:
        value = before.get((group["name"], group["pooled"]))
        what, end = ("AUROC", "value") if group["pooled"] else ("AUROC's interval", "high")
        reached = group["auroc"][end]
        if value is None or (reached is not None and reached >= value - tolerance):
            continue
        received = f"none ({group['auroc']['undefined']})" if reached is None else f"{reached:.3f}"
        refusals.append(
            f"Expected the {what} of {group['name']} to reach {value:.3f} less {tolerance:g}, where the version before "
            f"is, by --export_auroc_tolerance. Received {received}."
        )
    return refusals


def incumbent_version(saved_models: Path) -> tuple[Path, Description, Decision] | None:
    """The newest version of a classifier that the gate did not refuse, which the next one must not be worse than."""
    for number in reversed(whole_versions(saved_models)):
        version = saved_models / str(number)
        described = read_description(version)
        if described.decision is not None and not described.decision.refused:
            return version, described, described.decision
    return None


def expect_same_model(version: Path, description: Description, model: str, label: str) -> None:
    """Raises `RunError` where `version`, the newest, is of another kind: a server would change over from it to ours.

    `label` is ours, as `training_data.describe_label` has it.
    """
    decision = description.decision
    served = f"a {describe_label(decision.label, decision.lvef_threshold)} classifier" if decision else "an autoencoder"
    ours = f"a {label} classifier" if model == "classifier" else "an autoencoder"
    if served != ours:
        raise RunError(
            f"{version}: Expected a version of the same model, {ours}. Received {served}: give another --name."
        )
