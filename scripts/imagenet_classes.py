#!/usr/bin/env python3
"""Writes eval/imagenet_classes.txt, the classes of ImageNet-1K in the order of their WordNet identifiers: "n01440764 tench".

    pip download --no-deps timm && scripts/imagenet_classes.py timm-*.whl > eval/imagenet_classes.txt

The names are WordNet's first lemma of each synset, as timm's package lists them; where two synsets share it, the second lemma or,
without one, the identifier is added.
"""

import collections
import sys
import zipfile


def main():
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        read = lambda name: wheel.read(f"timm/data/_info/{name}").decode().splitlines()
        synsets = read("imagenet_synsets.txt")
        lemmas = dict(line.split("\t") for line in read("imagenet_synset_to_lemma.txt"))
    assert len(synsets) == 1000 and synsets == sorted(synsets)
    names = {synset: lemmas[synset].split(", ") for synset in synsets}
    shared = collections.Counter(name[0] for name in names.values())
    for synset in synsets:
        first, *others = names[synset]
        if shared[first] > 1:
            first += f" ({others[0] if others else synset})"
        print(synset, first)


if __name__ == "__main__":
    main()
