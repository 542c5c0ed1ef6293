"""`bestiary evaluate`."""

from bestiary.cli.opening import open_data
from bestiary.cli.options import (
    Count,
    DataName,
    DataSettings,
    Device,
    EmbeddingName,
    Json,
    Metrics,
    RunFolder,
    Seed,
    Split,
)
from bestiary.cli.output import print_json, print_table, say
from bestiary.errors import OptionError, unknown_name
from bestiary.scores import DEFAULT_EMBEDDING, EMBEDDINGS, SCORES


def evaluate(
    run: RunFolder,
    metrics: Metrics = None,
    embedding: EmbeddingName = None,
    n: Count = 10_000,
    split: Split = "validation",
    data: DataName = None,
    data_set: DataSettings = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a run: likelihood, and samples against real data.

    Each score has its error bar and its full name. Scores are added to the run's scores.jsonl.
    Without --data they are taken on the data the run was trained on.
    """
    from bestiary.config import parse_assignments

    settings = parse_assignments(data_set or [], "--data-set")
    if settings and data is None:
        raise OptionError("--data-set: found without --data, wanted the name of the data too")

    from bestiary.runs import evaluate as evaluate_run
    from bestiary.runs import open_run
    from bestiary.runs.evaluation import check_metrics, plain_scores
    from bestiary.runs.folder import check_same_data
    from bestiary.study.results import is_bound, show

    opened = open_run(run)
    check_metrics(metrics or ())
    if embedding is not None and embedding not in EMBEDDINGS:
        raise unknown_name("embedding", embedding, EMBEDDINGS)
    loaded = None if data is None else open_data(data, settings)
    if loaded is not None:
        check_same_data(opened.config.spec, loaded, f"RUN: {run}")
    say(f"scoring {run} on the {split} split of {data or opened.config.data['name']}")
    scores = evaluate_run(
        opened,
        loaded,
        metrics=metrics,
        n=n,
        split=split,
        embedding=embedding or DEFAULT_EMBEDDING,
        seed=seed,
        device=device,
        say=say,
    )
    if as_json:
        print_json(plain_scores(scores))
        return
    print_table(
        ["score", "value", "better", "protocol"],
        [
            [
                name,
                f"{'≤ ' if is_bound(name, score) else ''}{show(score)}",
                SCORES[name].better,
                score.protocol,
            ]
            for name, score in scores.items()
        ],
        right=["value"],
    )
