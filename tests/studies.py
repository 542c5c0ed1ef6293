"""Made-up studies whose arms have known laws, for the tests of the statistics and of the report."""

import numpy as np

from bestiary.study.analysis.trials import Retrained, StudyResults, Trial

PROTOCOL = "frechet[efficientnet-lite0, n=5000, validation]"
SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "beta1": {"low": 0.0, "high": 1.0, "log": False},
    "batch_norm": {"choices": [True, False]},
}
# Arm: median score, spread of its logarithm, share of failures, FLOPs of a draw.
ARMS = {
    "minimax-gan": (62.0, 0.5, 0.15, 2.0e14),
    "ns-gan": (55.0, 0.5, 0.1, 2.0e14),
    "lsgan": (60.0, 0.6, 0.2, 2.1e14),
    "wgan": (50.0, 0.35, 0.0, 6.0e14),
    "wgan-gp": (44.0, 0.3, 0.0, 9.0e14),
    "dragan": (57.0, 0.4, 0.05, 3.1e14),
    "began": (63.0, 0.25, 0.0, 3.4e14),
    "vae": (95.0, 0.1, 0.0, 1.1e14),
    "pixelcnn": (72.0, 0.12, 0.0, 5.2e14),
}


def score(value, protocol=PROTOCOL):
    return {"value": value, "error": 0.5, "protocol": protocol}


def trial(arm, number, value, status="finished", *, settings=None, flops=1e14, scores=None, reason=""):
    known = value is not None
    return Trial(
        arm=arm, number=number, settings=settings or {}, seed=number, status=status, reason=reason,
        score=value, scores={**({"frechet": score(value)} if known else {}), **(scores or {})},
        spent={"examples": 320_000.0, "updates": 5000.0, "seconds": flops / 1e12, "flops": flops},
        folder=f"trials/{arm}/{number:03}", started="2026-11-22T10:00:00Z", ended="2026-11-22T10:05:00Z",
    )  # fmt: skip


def retrained(arm, seed, data="fashion-mnist", status="finished", **values):
    return Retrained(
        arm=arm, seed=seed, data=data, settings={}, status=status, reason="",
        scores={name: score(value, f"{name}[n=10000, test]") for name, value in values.items()},
        spent={"examples": 320_000.0, "updates": 5000.0, "seconds": 100.0, "flops": 1e14},
        folder=f"retrained/{arm}/{seed}",
    )  # fmt: skip


def results(trials, **changed):
    arms = tuple(dict.fromkeys(t.arm for t in trials))
    return StudyResults(**{
        "name": "first", "data": "fashion-mnist", "budget": "5000 discriminator updates",
        "selection": PROTOCOL, "score": "frechet", "maximise": False,
        "draws": max(sum(t.arm == arm for t in trials) for arm in arms), "arms": arms,
        "trials": tuple(trials), "models": {arm: arm for arm in arms},
        "command": "bestiary study run first.yaml",
        "versions": {"bestiary": "0.1.0", "torch": "2.13.0"}, "hardware": "2 cores", "date": "2026-11-23",
        "seconds_total": 40_000.0, **changed,
    })  # fmt: skip


def simulated(draws=8, seeds=3, arms=ARMS, seed=0, **changed):
    """A study whose scores depend on the learning rate, as drawn from the laws in `arms`."""
    generator, trials, again, elsewhere = np.random.default_rng(seed), [], [], []
    for arm, (median, spread, fails, flops) in arms.items():
        best = np.inf
        for number in range(draws):
            rate, beta, norm = generator.random(3)
            settings = {
                "learning_rate": float(10 ** (-5 + 3 * rate)), "beta1": float(beta),
                "batch_norm": bool(norm < 0.5), "latent_dim": 64,
            }  # fmt: skip
            value = median * np.exp(
                2.5 * spread * ((rate - 0.4) ** 2 * 4 - 0.33) + 0.5 * spread * generator.normal()
            )
            if generator.random() < fails:
                trials.append(trial(arm, number, None, "diverged", settings=settings, flops=0.4 * flops,
                                    reason="generator/loss was not finite in round 2311"))  # fmt: skip
                continue
            recall = 0.9 - value / 300 + 0.05 * generator.normal()
            trials.append(trial(arm, number, float(value), settings=settings, flops=flops,
                                scores={"prd_f8": score(float(recall))}))  # fmt: skip
            best = min(best, value)
        for s in range(seeds):
            values = {"fid": best * 0.8 + generator.normal(), "frechet": best + 2 + 1.5 * generator.normal()}
            values["prd_f8"] = 0.9 - best / 300 + 0.01 * generator.normal()
            again.append(retrained(arm, s, **{name: float(v) for name, v in values.items()}))
            elsewhere.append(
                retrained(arm, s, "mnist", fid=float(values["fid"] * 0.4 + 2 * generator.normal()))
            )
    return results(trials, retrained=tuple(again), elsewhere=tuple(elsewhere),
                   spaces=dict.fromkeys(arms, SPACE), **changed)  # fmt: skip
