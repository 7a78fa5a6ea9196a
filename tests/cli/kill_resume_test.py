"""Kills training runs with SIGKILL at random moments and resumes them.

Usage: kill_resume_test.py BIN_FOLDER SOURCE_FOLDER

An undisturbed run and one that is killed again and again must log the same losses, bit by bit, and end with the same
weights; after every kill each checkpoint must be readable, and at most the work since the last one may be lost.
"""

import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

CHECKPOINT_STEPS = 3


def command(binaries, source, folder, *more):
    return [
        str(binaries / "vrwkv-train"), str(source / "configs/digits_vrwkv_micro.yaml"), "--device", "cpu",
        f"data.train.path={source}/data/digits/train.tar", f"data.val.path={source}/data/digits/val.tar",
        f"run.output_dir={folder}", "train.epochs=3", "train.log_every=1", "run.threads=1", "data.workers=2",
        "model.embed_dims=16", "model.depth=2", "model.drop_path_rate=0.2", "train.batch_size=96",
        f"train.checkpoint_every_steps={CHECKPOINT_STEPS}", "train.keep_checkpoints=2", *more,
    ]


def lines(folder):
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def last_step(folder):
    return max((line["step"] for line in lines(folder)), default=0)


def results(folder):
    """Everything logged that does not depend on the clock, by step."""
    timing = ("images_per_s", "data_wait")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines(folder)]


def read_checkpoint(path):
    """Header and data of a safetensors file; raises if it is not whole."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    data = raw[8 + size:]
    metadata = header.pop("__metadata__")
    assert len(data) == max(entry["data_offsets"][1] for entry in header.values()), f"{path} is truncated"
    return header, data, json.loads(metadata["train_state"])


def main():
    binaries, source = (pathlib.Path(argument) for argument in sys.argv[1:3])
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        calm, killed = pathlib.Path(temporary, "calm"), pathlib.Path(temporary, "killed")
        start = time.monotonic()
        subprocess.run(command(binaries, source, calm), check=True, stderr=subprocess.DEVNULL)
        duration = time.monotonic() - start

        kills = 0
        while True:
            process = subprocess.Popen(command(binaries, source, killed, "--resume"), stderr=subprocess.PIPE, text=True)
            # The first kill comes by the run's progress, as its time may be far from the calm run's; at most six, so that
            # the test ends however long the start takes.
            patience = rng.uniform(0.2, 1.0) * duration if kills < 6 else None
            if kills == 0:
                patience = 0
                step = rng.randrange(1, last_step(calm) // 2)
                while process.poll() is None and last_step(killed) < step:
                    time.sleep(0.01)
            try:
                _, log = process.communicate(timeout=patience)
                assert process.returncode == 0, log
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                logged = last_step(killed)
                for path in killed.glob("checkpoints/*.safetensors"):
                    state = read_checkpoint(path)[2]
                    if path.name == "last.safetensors":
                        assert state["step"] >= logged - 2 * CHECKPOINT_STEPS, (state, logged)
        print("kills", kills)
        assert kills > 0, "the run ended before it could be killed"
        assert results(calm) == results(killed)
        for name in ("last", "best"):
            expected, actual = (read_checkpoint(f / "checkpoints" / f"{name}.safetensors") for f in (calm, killed))
            assert expected == actual, f"{name}.safetensors differs"
        assert not list(killed.glob("**/*.tmp")), "temporary files are left"
        print("ok")


if __name__ == "__main__":
    main()
