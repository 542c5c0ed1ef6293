"""A training whose end a benchmark needs before it measures anything."""

import sys

import bestiary


def finished_run(model, data, *, budget, out, seed, **options):
    """The run of a folder, trained or trained further; where it was stopped or diverged, the script ends."""
    run = bestiary.train(model, data, budget=budget, out=out, seed=seed, resume=True, device="cpu", **options)
    if run.status != "finished":
        sys.exit(
            f"{run.folder}: {run.status}, {run.state['reason']}; a stopped one goes on by the same command"
        )
    return run
