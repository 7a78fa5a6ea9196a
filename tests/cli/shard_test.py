"""vrwkv-shard: its shards are what Python's tarfile and zlib say they should be."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import unittest
import zlib

from cli_support import BIN, CliTest, main, write_png


class ShardTest(CliTest):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        self.source = self.folder / "val"

    def shard(self, *arguments, **keywords):
        return self.run_program("vrwkv-shard", *arguments, **keywords)

    @staticmethod
    def content(folder):
        """{name in the shard: bytes}, in order, of all shards."""
        files = {}
        for path in sorted(pathlib.Path(folder).glob("*.tar")):
            with tarfile.open(path) as tar:
                for member in tar:
                    assert member.name not in files
                    assert (member.mtime, member.uid, member.mode) == (0, 0, 0o644)
                    files[member.name] = tar.extractfile(member).read()
        return files

    @staticmethod
    def digest(folder):
        files = sorted(path for path in pathlib.Path(folder).iterdir())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def test_copies_every_image(self):
        out = self.work / "out"
        result = self.shard(self.source, "--out", out, "--per-shard", 7, "--workers", 3)
        self.assertIn("20 images in 3 shards (0 from before)", result.stdout)
        images = sorted(self.images, key=str)
        expected = {
            f"{path.parent.name}/{i:08d}-{path.stem}.png": path.read_bytes() for i, path in enumerate(images)
        }
        self.assertEqual(self.content(out), expected)
        index = json.loads((out / "index.json").read_text())
        self.assertEqual([shard["images"] for shard in index["shards"]], [7, 7, 6])
        for entry in index["shards"] + [index["images_index"]]:
            data = (out / entry["file"]).read_bytes()
            self.assertEqual(len(data), entry["bytes"])
            self.assertEqual(f"{zlib.crc32(data):08x}", entry["crc32"])
        self.assertEqual([path.name for path in out.glob("*.tmp")], [])
        again = self.work / "again"
        self.shard(self.source, "--out", again, "--per-shard", 7, "--workers", 1)
        self.assertEqual(self.digest(out), self.digest(again))

    def test_shards_are_evaluated_and_sharded_as_their_source(self):
        out = self.work / "out"
        self.shard(self.source, "--out", out, "--per-shard", 3)
        reports = []
        for path in (self.source, out, f"{out}/shard-*.tar"):
            result = self.run_program(
                "vrwkv-eval", self.config, "--checkpoint", self.checkpoint, "--json", "-", f"data.val.path={path}"
            )
            report = json.loads(result.stdout[: result.stdout.rindex("}") + 1])
            reports.append({key: report[key] for key in ("top1_correct", "top5_correct", "images") if key in report})
        self.assertTrue(reports[0])
        self.assertEqual(reports[0], reports[1])
        self.assertEqual(reports[0], reports[2])
        twice = self.work / "twice"
        self.shard(out, "--out", twice, "--per-shard", 20)
        self.assertEqual(list(self.content(out).values()), list(self.content(twice).values()))

    def test_lists_become_webdataset_pairs(self):
        rows = [(path, i * 3) for i, path in enumerate(self.images[:5])]
        listing = self.work / "list.csv"
        listing.write_text("label,path\n" + "".join(f"{n},\"{p.relative_to(self.source)}\"\n" for p, n in rows))
        out = self.work / "out"
        self.shard(self.source, "--list", listing, "--out", out, "--per-shard", 2)
        expected = {}
        for i, (path, label) in enumerate(rows):
            expected[f"{i:08d}-{path.stem}.png"] = path.read_bytes()
            expected[f"{i:08d}-{path.stem}.cls"] = str(label).encode()
        self.assertEqual(self.content(out), expected)

    def test_makes_images_smaller(self):
        source = self.work / "set"
        for name, size in (("large", (90, 60)), ("tall", (51, 200)), ("small", (40, 30)), ("even", (50, 50))):
            write_png(source / "c" / f"{name}.png", *size, seed=1)
        damaged = source / "c" / "damaged.png"
        damaged.write_bytes(b"\x89PNG nothing")
        out = self.work / "out"
        result = self.shard(source, "--out", out, "--short-side", 50, "--quality", 80)
        self.assertIn("2 images made smaller, 1 undecodable", result.stdout)
        self.assertIn("damaged.png: kept as it is, as it cannot be decoded", result.stderr)
        content = self.content(out)
        self.assertEqual(
            list(content),
            ["c/00000000-damaged.png", "c/00000001-even.png", "c/00000002-large.jpg", "c/00000003-small.png",
             "c/00000004-tall.jpg"],
        )
        for name in ("damaged", "even", "small"):
            stored = next(data for key, data in content.items() if name in key)
            self.assertEqual(stored, (source / "c" / f"{name}.png").read_bytes())
        # The frame header of a JPEG holds height and width.
        for name, size in (("00000002-large", (50, 75)), ("00000004-tall", (196, 50))):
            data = content[f"c/{name}.jpg"]
            at = data.index(b"\xff\xc0")
            self.assertEqual(
                (int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")), size
            )

    def test_fast_crop_keeps_every_pixel(self):
        fixtures = pathlib.Path(__file__).parent.parent / "data" / "fixtures"
        source = self.work / "set" / "c"
        source.mkdir(parents=True)
        for name in ("cmyk.jpg", "progressive.jpg", "rgb.png", "rgb_420.jpg"):
            shutil.copy(fixtures / name, source)
        out, again = self.work / "out", self.work / "again"
        result = self.shard(source.parent, "--out", out, "--fast-crop", "--per-shard", 2)
        self.assertIn("4 images in 2 shards", result.stdout)
        self.assertIn("0 undecodable, 2 for fast crops", result.stdout)
        for key, data in self.content(out).items():
            name = key.split("-", 1)[1]
            original = (fixtures / name).read_bytes()
            if name in ("cmyk.jpg", "rgb.png"):
                self.assertEqual(data, original)
                continue
            self.assertIn(b"\xff\xc0", data)  # Baseline, also of the progressive one.
            self.assertIn(b"\xff\xdd\x00\x04", data)  # A restart interval.
            stored = self.work / name
            stored.write_bytes(data)
            pixels = []
            for path in (stored, fixtures / name):
                picture = self.work / "picture.png"
                self.run_program("vrwkv-augment", "--op", "solarize=256", path, "--out", picture)
                pixels.append(picture.read_bytes())
            self.assertEqual(*pixels)
        self.shard(source.parent, "--out", again, "--fast-crop", "--per-shard", 2, "--workers", 1)
        self.assertEqual(self.digest(out), self.digest(again))
        self.fails(2, "vrwkv-shard", source.parent, "--out", out, "--per-shard", 2, says=["for fast crops"])
        self.fails(2, "vrwkv-shard", out, "--verify", "--fast-crop", says=["--fast-crop"])

    def test_goes_on_after_a_kill(self):
        source = self.work / "set"
        for i in range(300):
            write_png(source / f"c{i % 3}" / f"{i}.png", 64, 64, seed=i)
        options = ("--per-shard", 10, "--short-side", 40)
        whole = self.work / "whole"
        self.shard(source, "--out", whole, *options)
        killed = self.work / "killed"
        kills = 0
        for shards in (1, 8, 20):
            process = subprocess.Popen(
                [str(BIN / "vrwkv-shard"), *map(str, (source, "--out", killed, *options, "--workers", 1))],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while process.poll() is None and len(list(killed.glob("*.tar"))) < shards:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            if (killed / "index.json").exists():
                break
            message = self.fails(2, "vrwkv-eval", self.config, "--checkpoint", self.checkpoint,
                                 f"data.val.path={killed}", says=["they are incomplete"])
            self.assertIn("the same call goes on", message)
        self.assertGreater(kills, 0)
        # What a machine that lost its power may leave.
        (killed / "shard-000000.tar").write_bytes(b"half")
        result = self.shard(source, "--out", killed, *options)
        self.assertIn("written again", result.stderr)
        self.assertNotIn("(0 from before)", result.stdout)
        for path in killed.glob("*.tmp"):
            path.unlink()
        self.assertEqual(self.digest(whole), self.digest(killed))
        self.assertIn("(30 from before)", self.shard(source, "--out", killed, *options).stdout)

    def test_verify_finds_damage(self):
        out = self.work / "out"
        self.shard(self.source, "--out", out, "--per-shard", 5)
        self.assertIn("20 images in 4 shards are as they were written", self.shard(out, "--verify").stdout)
        damaged = bytearray((out / "shard-000002.tar").read_bytes())
        damaged[1000] ^= 1
        (out / "shard-000002.tar").write_bytes(damaged)
        (out / "shard-000001.tar").unlink()
        message = self.fails(1, "vrwkv-shard", out, "--verify", says=["shard-000001.tar"], lines=3)
        self.assertIn("shard-000002.tar: expected the CRC-32", message)
        self.assertNotIn("shard-000003", message)
        self.fails(2, "vrwkv-shard", self.source, "--verify", says=["incomplete"])

    def test_help(self):
        flags = "SOURCE --out --list --ground-truth --synsets --per-shard --short-side --quality --fast-crop --workers --verify"
        self.help_names_every_default("vrwkv-shard", flags.split())

    def test_wrong_arguments(self):
        out = self.work / "out"
        self.shard(self.source, "--out", out)
        self.fails(2, "vrwkv-shard", self.source, says=["--out is required"])
        self.fails(2, "vrwkv-shard", self.work / "none", "--out", out, says=["none' does not exist"])
        self.fails(2, "vrwkv-shard", self.source, "--out", out, "--per-shard", 3,
                   says=["made from another set or with other options", "1000 per shard"])
        self.fails(2, "vrwkv-shard", self.source, "--out", out, "--per-shard", 0, says=["integer >= 1"])
        self.fails(2, "vrwkv-shard", self.source, "--out", out, "--quality", 80, says=["--short-side"])
        self.fails(2, "vrwkv-shard", self.source, "--out", out, "--quality", 101, "--short-side", 9,
                   says=["integer from 1 to 100, got 101"])
        self.fails(2, "vrwkv-shard", self.source, "--out", out, "--synsets", "x", says=["--ground-truth"])
        self.fails(2, "vrwkv-shard", self.source, "--out", self.config, says=["is no folder"])
        shutil.copy(out / "shard-000000.tar", self.work / "mine.tar")
        self.fails(2, "vrwkv-shard", self.source, "--out", self.work, says=["which vrwkv-shard did not write"])
        unreadable = self.work / "set" / "c" / "gone.png"
        unreadable.parent.mkdir(parents=True)
        os.symlink(self.images[0], unreadable)
        listing = self.work / "list.txt"
        listing.write_text("gone.png 0\nnever.png 1\n")
        self.fails(1, "vrwkv-shard", unreadable.parent, "--list", listing, "--out", self.work / "new",
                   says=["never.png: cannot be opened"])


if __name__ == "__main__":
    main()
