"""vrwkv-maps, run as a user runs it."""

from cli_support import CliTest, main
from png_support import read_png

WHITE = b"\xff\xff\xff"


class MapsTest(CliTest):
    def picture(self, *arguments, name="map"):
        out = self.folder / f"{name}.png"
        result = self.run_program("vrwkv-maps", self.config, "--checkpoint", self.checkpoint, "--out", out, *arguments)
        self.assertIn(f"{out} written: colours from ", result.stderr)
        return read_png(out)

    def test_help(self):
        self.help_names_every_default(
            "vrwkv-maps",
            ["CONFIG", "--device", "--dtype", "--checkpoint", "--weights", "--kind", "--out", "--layer", "--token"]
            + ["--noise", "--probes", "IMAGE"],
        )

    def test_receptive_field(self):
        # 64 pixels, 7 times as large, the scale of 16 beside it, margins of 8.
        width, height, rows = self.picture(*self.images[:2], "--probes", 2)
        self.assertEqual((width, height), (448 + 16 + 3 * 8, 448 + 2 * 8))
        self.assertEqual(rows[0], WHITE * width)
        brightest = max(sum(rows[y][3 * x : 3 * x + 3]) for y in range(8, 456) for x in range(8, 456))
        self.assertEqual(brightest, 255 + 250 + 190)

    def test_noise_is_of_the_seed(self):
        one = self.picture("--noise", 2)
        self.assertEqual(one, self.picture("--noise", 2, name="again"))
        self.assertNotEqual(one, self.picture("--noise", 2, "run.seed=5"))
        self.assertNotEqual(one, self.picture("--noise", 3))
        # In batches of one it is the same sum.
        batches = self.picture("--noise", 2, "eval.batch_size=1", "--probes", 1000)[2]
        whole = self.picture("--noise", 2, "--probes", 1000)[2]
        for a, b in zip(b"".join(batches), b"".join(whole)):
            self.assertLessEqual(abs(a - b), 1)

    def test_a_row_for_each_image(self):
        for kind in ("attention", "features"):
            with self.subTest(kind=kind):
                # 64 pixels, 4 times as large, twice, 8 between them.
                one = self.picture("--kind", kind, self.images[0])
                two = self.picture("--kind", kind, *self.images[:2])
                self.assertEqual(one[:2], (2 * 256 + 8 + 16 + 3 * 8, 256 + 2 * 8))
                self.assertEqual(two[:2], (one[0], 2 * 256 + 3 * 8))
                self.assertEqual([row[:1600] for row in two[2][:264]], [row[:1600] for row in one[2][:264]])

    def test_layer_and_token_choose(self):
        attention = ["--kind", "attention", self.images[0]]
        default = self.picture(*attention)
        last = self.model["depth"] - 1
        self.assertEqual(default, self.picture(*attention, "--layer", last, "--token", "2,2"))
        self.assertNotEqual(default, self.picture(*attention, "--layer", 0))
        self.assertNotEqual(default, self.picture(*attention, "--token", "0,3"))

    def test_what_cannot_be(self):
        image = self.images[0]
        start = ["vrwkv-maps", self.config, "--checkpoint", self.checkpoint, "--out", "x.png"]
        depth = self.model["depth"]
        for arguments, says in (
            ([], "nothing to draw: give image files, or --noise N"),
            (["--kind", "features"], "nothing to draw: give image files"),
            ([image, "--noise", 2], "--noise and image files cannot go together"),
            (["--kind", "attention", "--noise", 2], "--noise goes with --kind receptive_field alone"),
            ([image, "--token", "1,1"], "--kind receptive_field is of the central token"),
            (["--kind", "features", image, "--token", "4,0"], "rows and columns of patches from 0 to 3, got 4,0"),
            (["--kind", "features", image, "--token", "4"], "--token needs ROW,COLUMN, such as 3,7, got '4'"),
            (["--kind", "features", image, "--token", "a,1"], "--token needs an integer, got 'a'"),
            ([image, "--layer", depth], f"--layer must be 0 to {depth - 1}, got {depth}"),
            ([image, "--layer", "first"], "--layer needs an integer, got 'first'"),
            ([image, "--kind", "attentions"], "--kind"),
            ([image, "--probes", 0], "integer >= 1"),
            ([image, "data.eval_transform.size=60"], "must be a multiple of"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, *start, *arguments, says=[says])
        self.fails(2, "vrwkv-maps", self.config, image, "--out", "x.png", says=["--checkpoint is required"])
        self.fails(2, *start[:4], image, "--out", "no/x.png", says=["--out: the folder of no/x.png"])
        self.fails(2, *start[:3], "none.pth", image, "--out", "x.png", says=["none.pth does not exist"])
        self.fails(1, *start, "none.png", says=["none.png: does not exist"])


if __name__ == "__main__":
    main()
