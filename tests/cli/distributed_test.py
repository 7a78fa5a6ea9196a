"""vrwkv-train in several processes on the CPU: the same numbers as one, and an orderly end whatever happens."""

import csv
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

from cli_support import BIN, TRACES, CliTest, main, numbers, read_safetensors

CONFIG = pathlib.Path(os.environ["VRWKV_SOURCE"]) / "configs" / "digits_vrwkv_micro.yaml"
# torchrun of LibTorch's Python, where there is one.
TORCHRUN = pathlib.Path(sys.executable).with_name("torchrun")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Distributed(CliTest):
    def command(self, folder, *more):
        synthetic = [
            f"data.{part}.{key}"
            for part, images in (("train", 100), ("val", 37))
            for key in ("format=synthetic", f"synthetic.images={images}", "synthetic.classes=10")
        ]
        return [
            str(BIN / "vrwkv-train"), str(CONFIG), f"run.output_dir={self.folder / folder}", "run.threads=1",
            "data.workers=1", "model.depth=2", "run.dtype=float64", "train.epochs=2", "train.batch_size=24",
            "train.log_every=1", "train.schedule.warmup_epochs=0", "train.optimizer.lr=0.01", "eval.batch_size=8",
            "train.distributed.timeout=20", *synthetic, *more,
        ]

    def start_rank(self, rank, processes, port, command, **variables):
        environment = dict(
            os.environ, CUDA_VISIBLE_DEVICES="", RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank),
            LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        environment.update(variables)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, cwd=self.folder, env=environment)

    def start(self, processes, folder, *more):
        """All ranks of a run, as a launcher starts them."""
        port = str(free_port())
        return [self.start_rank(rank, processes, port, self.command(folder, *more)) for rank in range(processes)]

    def end(self, running, codes):
        """What each printed; checks the exit codes."""
        texts = [process.communicate(timeout=120)[0] for process in running]
        self.assertEqual([process.returncode for process in running], codes, "\n".join(texts))
        for text in texts:
            for trace in TRACES:
                self.assertNotIn(trace, text)
        return texts

    def train(self, processes, folder, *more):
        running = self.start(processes, folder, *more)
        return self.end(running, [0] * processes)

    def lines(self, folder, kind):
        text = (self.folder / folder / "metrics.jsonl").read_text()
        return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]

    def tensors(self, folder):
        return read_safetensors(self.folder / folder / "checkpoints" / "last.safetensors")[0]

    def assert_same(self, one, other, tolerance):
        for first, second in zip(self.lines(one, "train"), self.lines(other, "train"), strict=True):
            self.assertEqual(first["step"], second["step"])
            for key in ("loss", "grad_norm", "lr"):
                self.assertAlmostEqual(first[key], second[key], delta=tolerance * max(1, abs(first[key])))
        for first, second in zip(self.lines(one, "eval"), self.lines(other, "eval"), strict=True):
            for key in ("images", "top1", "top5"):
                self.assertEqual(first[key], second[key], key)
            self.assertAlmostEqual(first["loss"], second["loss"], delta=tolerance)
        first, second = self.tensors(one), self.tensors(other)
        self.assertEqual(set(first), set(second))
        for name in first:
            worst = max(abs(a - b) for a, b in zip(numbers(first[name]), numbers(second[name]), strict=True))
            self.assertLess(worst, tolerance, name)

    def test_processes_compute_what_one_computes(self):
        ema = ["train.ema.enabled=true", "train.ema.decay=0.9"]
        self.train(1, "one", *ema)
        self.assertEqual(len(self.lines("one", "train")), 8)
        self.assertEqual(self.lines("one", "eval")[0]["images"], 37)
        for processes in (2, 3, 4):
            with self.subTest(processes):
                texts = self.train(processes, f"of_{processes}", *ema)
                self.assert_same("one", f"of_{processes}", 1e-10)
                for text in texts[1:]:
                    self.assertEqual(text, "")  # Rank 0 speaks for all.

    def test_evaluation_and_bench_in_several_processes(self):
        self.train(1, "trained", "train.epochs=1")
        checkpoint = str(self.folder / "trained" / "checkpoints" / "last.safetensors")
        found = []
        for processes in (1, 3):
            output = self.folder / f"eval_{processes}.json"
            command = [str(BIN / "vrwkv-eval"), *self.command("unused")[1:], "--checkpoint", checkpoint, "--json", str(output)]
            port = str(free_port())
            texts = self.end([self.start_rank(rank, processes, port, command) for rank in range(processes)], [0] * processes)
            self.assertEqual(texts[1:], [""] * (processes - 1))
            report = json.loads(output.read_text())
            found.append({key: report[key] for key in ("images", "correct1", "correct5") if key in report})
            self.assertIn("top-1", texts[0])
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0]["images"], 37)
        labels = self.folder / "labels.json"
        labels.write_text(json.dumps({"classes": {str(c): [c, (c + 1) % 10] for c in range(10)}}))
        tables = []
        for processes in (1, 3):
            confusion, table = (self.folder / f"{name}_{processes}.csv" for name in ("confusion", "evaluation"))
            command = [str(BIN / "vrwkv-eval"), *self.command("unused")[1:], "--checkpoint", checkpoint, "--tta", "flip",
                       "--labels", str(labels), "--confusion", str(confusion), "--csv", str(table)]
            port = str(free_port())
            self.end([self.start_rank(rank, processes, port, command) for rank in range(processes)], [0] * processes)
            counts = next(csv.DictReader(table.read_text().splitlines()))
            tables.append((confusion.read_text(), [counts[key] for key in ("images", "correct1", "correct5")]))
        self.assertEqual(tables[0], tables[1])
        self.assertEqual(tables[0][1][0], "37")
        output = self.folder / "scaling.json"
        command = [str(BIN / "vrwkv-bench"), "scaling", "--variant", "tiny", "--sizes", "32", "--batch", "1", "--steps", "1",
                   "--threads", "1", "--json", str(output)]
        port = str(free_port())
        texts = self.end([self.start_rank(rank, 2, port, command) for rank in range(2)], [0, 0])
        self.assertEqual(texts[1], "")
        row = json.loads(output.read_text())["scaling"][0]
        self.assertEqual(row["processes"], 2)
        self.assertEqual(row["gradient_bytes"] % 4, 0)
        for key in ("alone_ms", "together_ms", "reduce_ms", "efficiency", "images_per_s"):
            self.assertGreater(row[key], 0)

    def test_accumulation_and_micro_batches(self):
        self.train(1, "whole")
        self.train(2, "accumulated", "train.grad_accumulation=3")
        self.assert_same("whole", "accumulated", 1e-10)
        for processes in (1, 2):
            self.train(processes, f"micro_{processes}", "train.micro_batch_size=4")
            self.assert_same("whole", f"micro_{processes}", 1e-10)
        texts = self.end(self.start(2, "odd", "train.batch_size=25"), [2, 2])
        self.assertIn("train.batch_size (25) cannot be shared evenly by 2 processes", texts[0])

    def test_gradients_in_bfloat16(self):
        self.train(2, "exact", "train.epochs=1")
        self.train(2, "rounded", "train.epochs=1", "train.distributed.gradients=bfloat16")
        exact, rounded = self.lines("exact", "train"), self.lines("rounded", "train")
        self.assertNotEqual(exact[0]["grad_norm"], rounded[0]["grad_norm"])
        self.assertAlmostEqual(exact[0]["grad_norm"], rounded[0]["grad_norm"], delta=0.01 * exact[0]["grad_norm"])

    def test_small_buckets_change_nothing(self):
        self.train(2, "large")
        self.train(2, "small", "train.distributed.bucket_mb=1", "model.embed_dims=64")
        self.assert_same("large", "small", 1e-10)

    def test_divided_optimizer_state(self):
        """As much state in all as one process has, the same numbers, and checkpoints that fit any number."""
        ema = ["train.ema.enabled=true"]
        self.train(1, "undivided", *ema)
        sums = [tensor for name, tensor in self.tensors("undivided").items() if name.startswith("optimizer.exp")]
        whole = sum(len(data) for _, _, data in sums)
        for optimizer in ("adamw", "lamb"):
            more = [*ema, f"train.optimizer.name={optimizer}"]
            if optimizer != "adamw":
                self.train(1, f"undivided_{optimizer}", *more)
            for processes in (2, 3):
                folder = f"divided_{optimizer}_{processes}"
                texts = self.train(processes, folder, "train.distributed.shard_optimizer=true", *more)
                self.assert_same("undivided" + ("" if optimizer == "adamw" else f"_{optimizer}"), folder, 1e-10)
                kept = int(re.search(r"this one keeps (\d+) bytes", texts[0])[1])
                self.assertLess(kept, whole / processes * 1.2)
                self.assertGreater(kept, whole / processes * 0.8)

    def test_divided_optimizer_state_goes_on_anywhere(self):
        self.train(1, "whole_run")
        for first, second in ((2, 3), (2, 1), (1, 2)):
            with self.subTest(f"{first} to {second}"):
                folder = f"from_{first}_to_{second}"
                running = self.start(first, folder, "train.distributed.shard_optimizer=true", "train.checkpoint_every_steps=1")
                self.wait_for_steps(folder, 5)
                running[-1].send_signal(signal.SIGTERM)
                self.end(running, [0] * first)
                self.train(second, folder, "--resume", "train.distributed.shard_optimizer=true")
                self.assert_same("whole_run", folder, 1e-10)

    def test_a_full_disk_of_rank_0_ends_all_and_leaves_the_last_good_checkpoint(self):
        self.train(1, "calm_disk")
        size = (self.folder / "calm_disk" / "checkpoints" / "last.safetensors").stat().st_size
        disk = self.folder / "small_disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2}", "tmpfs", str(disk)],
                          capture_output=True).returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(disk)], capture_output=True)
        texts = self.end(self.start(2, "small_disk", "train.checkpoint_every_steps=1"), [1, 1])
        self.assertRegex(texts[0], r"error: .*last\.safetensors: No space left on device")
        self.assertIn("one of them has failed", texts[1])
        self.assertRegex(texts[1], r"rank 0 of 2: .*No space left on device")
        subprocess.run(["mount", "-o", f"remount,size={size * 9}", str(disk)], check=True)
        texts = self.train(2, "small_disk", "--resume")
        self.assertRegex(texts[0], "resumed from .*last.safetensors after step 1 of 8")
        self.assert_same("calm_disk", "small_disk", 1e-10)

    def test_resuming_with_another_number_of_processes(self):
        self.train(1, "undisturbed")
        running = self.start(2, "resumed", "train.checkpoint_every_steps=1", "train.epochs=2", "run.seed=0")
        self.wait_for_steps("resumed", 5)
        running[1].send_signal(signal.SIGTERM)  # One of them is told; all stop, and rank 0 saves.
        texts = self.end(running, [0, 0])
        self.assertIn("interrupted after step", texts[0])
        self.train(3, "resumed", "--resume")
        self.assert_same("undisturbed", "resumed", 1e-10)

    def wait_for_steps(self, folder, steps):
        path = self.folder / folder / "metrics.jsonl"
        for _ in range(6000):
            if path.exists() and path.read_text().count('"train"') >= steps:
                return
            time.sleep(0.02)
        self.fail(f"{folder} did not come to step {steps}")

    def lost_rank(self, folder, sign, *more):
        """Rank 1 of three gets `sign` in the middle; what the others say before they end."""
        running = self.start(3, folder, "train.epochs=500", *more)
        self.wait_for_steps(folder, 10)
        running[1].send_signal(sign)
        began = time.monotonic()
        texts = self.end([running[0], running[2]], [1, 1])
        seconds = time.monotonic() - began
        running[1].kill()
        running[1].communicate()
        for text in texts:
            self.assertRegex(text, rf"rank 1, process {running[1].pid} on .*gives no sign of life")
            self.assertNotIn("rank 0, process", text)
            self.assertNotIn("rank 2, process", text)
        return seconds

    def test_a_killed_rank_is_named_and_the_run_goes_on_later(self):
        more = ["train.checkpoint_every_steps=1", "train.keep_checkpoints=0"]
        self.lost_rank("killed", signal.SIGKILL, *more)
        steps = max(line["step"] for line in self.lines("killed", "train"))
        epochs = steps // 4 + 2
        self.train(3, "killed", f"train.epochs={epochs}", "--resume", *more)
        self.train(1, "calm", f"train.epochs={epochs}", *more)
        # The schedule is that of 500 epochs until the kill, so only the last step's number is compared here.
        self.assertEqual(self.lines("killed", "train")[-1]["step"], self.lines("calm", "train")[-1]["step"])

    def test_a_stopped_rank_is_named_after_the_timeout(self):
        seconds = self.lost_rank("stopped", signal.SIGSTOP, "train.distributed.timeout=6")
        self.assertLess(seconds, 60)

    def test_an_error_of_rank_0_ends_all(self):
        (self.folder / "file").write_text("")
        texts = self.end(self.start(2, "file"), [2, 1])
        self.assertIn("vrwkv-train: error: ", texts[0])
        self.assertIn("rank 1 ends, as rank 0 has failed", texts[1])

    def test_nobody_comes(self):
        environment = dict(os.environ, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1",
                           MASTER_PORT=str(free_port()), CUDA_VISIBLE_DEVICES="")
        command = self.command("alone", "train.distributed.timeout=5")
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("rank 0 of 2 did not meet the others at 127.0.0.1:", result.stderr)
        environment["RANK"] = "2"
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("RANK must be an integer from 0 to 1, got '2'", result.stderr)

    def test_two_hosts(self):
        """Each in a network namespace of its own, with one cable between them."""
        names = [f"vrwkv{os.getpid()}{letter}" for letter in "ab"]
        cable = [f"vr{os.getpid() % 100000}{letter}" for letter in "ab"]

        def ip(*arguments):
            subprocess.run(["ip", *arguments], check=True, capture_output=True)

        try:
            for name in names:
                ip("netns", "add", name)
                self.addCleanup(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
            for host in range(2):
                ip("-n", names[host], "address", "add", f"10.231.7.{host + 1}/24", "dev", cable[host])
                ip("-n", names[host], "link", "set", cable[host], "up")
                ip("-n", names[host], "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as problem:
            self.skipTest(f"network namespaces cannot be made here: {problem}")
        self.train(1, "one_host")
        running = [
            self.start_rank(host, 2, "29531", ["ip", "netns", "exec", names[host], *self.command("two_hosts")],
                            MASTER_ADDR="10.231.7.1", GLOO_SOCKET_IFNAME=cable[host], LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
            for host in range(2)
        ]
        self.end(running, [0, 0])
        self.assert_same("one_host", "two_hosts", 1e-10)

    @unittest.skipUnless(TORCHRUN.exists(), "no torchrun beside this Python")
    def test_torchrun_restarts_a_killed_run(self):
        """Rank 1 is killed once; the restarted run ends with the calm run's weights."""
        more = ["train.checkpoint_every_steps=1", "--resume=auto"]
        self.train(1, "calm_run", *more)
        folder = self.folder / "restarted"
        script = self.folder / "worker.sh"
        script.write_text(
            "#!/bin/sh\n"
            f'if [ "$RANK" = 1 ] && [ ! -e "{folder}.killed" ]; then\n'
            f'  (while ! grep -q \'"step":5\' "{folder}/metrics.jsonl"; do sleep 0.02; done; touch "{folder}.killed"; '
            "kill -9 $$) 2>/dev/null &\n"
            "fi\n"
            'exec "$@"\n'
        )
        script.chmod(0o755)
        result = subprocess.run(
            [str(TORCHRUN), "--no-python", "--nproc-per-node=2", "--max-restarts=2", "--master-addr=127.0.0.1",
             f"--master-port={free_port()}", str(script), *self.command("restarted", *more)],
            env=dict(os.environ, CUDA_VISIBLE_DEVICES=""), capture_output=True, text=True, timeout=240,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(pathlib.Path(f"{folder}.killed").exists())
        self.assert_same("calm_run", "restarted", 1e-10)


if __name__ == "__main__":
    main()
