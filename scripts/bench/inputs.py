"""What the benchmarks work on: trees of source files and of small files, and large files. Made once, then reused."""

import os
import random
import stat
import subprocess
import sys

# Packages of the Rust registry whose sources, with all they depend on, are a tree of about 70,000 files.
CRATES = {
    "aws-sdk-ec2": '"1"',
    "aws-sdk-s3": '"1"',
    "bevy": '"0.20"',
    "datafusion": '"55"',
    "iced": '"0.14"',
    "leptos": '"0.8"',
    "polars": '{ version = "0.55", features = ["lazy", "sql"] }',
    "swc_core": '"83"',
    "tauri": '"2"',
    "wasmtime": '"50"',
    "windows": '"0.62"',
}


# For trying the benchmarks.
FEW_CRATES = {"clap": '"4"', "regex": '"1"', "serde": '"1"'}

CHANGING_FILES, CHANGED_EACH_NIGHT = 1_000, 10
LARGE_FILE = "large.bin"
SPARSE_FILE = "disk.img"
WORDS = ("amber anchor basket birch blanket bottle bronze candle canvas cedar chair copper cotton cup desk dish door "
         "drawer fern flask frame glass grain granite hammer hook iron jar kettle lamp leather linen lock maple marble "
         "mirror mug needle oak olive paper pine plate pot quilt ribbon rope shelf silk silver slate spoon stone stool "
         "table teapot thread tile tray vase velvet walnut wax wicker wool yarn").split()


def source_tree(folder, small=False):
    """Returns a folder with the unpacked sources of many packages."""
    tree = folder / "tree"
    if not tree.is_dir():
        project = folder / "tree-project"
        (project / "src").mkdir(parents=True, exist_ok=True)
        (project / "src/main.rs").write_text("fn main() {}\n")
        crates = FEW_CRATES if small else CRATES
        dependencies = "\n".join(f"{name} = {version}" for name, version in crates.items())
        (project / "Cargo.toml").write_text(
            f'[package]\nname = "tree"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n{dependencies}\n'
        )
        print("fetching the sources of a large tree (once)", file=sys.stderr)
        subprocess.run(["cargo", "vendor", "--quiet", str(folder / "tree.new")], cwd=project, check=True,
                       stdout=subprocess.DEVNULL)
        (folder / "tree.new").rename(tree)
    return tree


def growing_tree(folder, sizes):
    """Returns folders with small files: the first holds as many as the first size, the first two as the second, ..."""
    def make(new):
        for number, (less, size) in enumerate(zip([0, *sizes], sizes)):
            part = new / str(number)
            part.mkdir()
            write_small_files(part, -(-(size - less) // 1000), min(size - less, 1000), seed=number)

    made = made_once(folder / "many", make)
    return [made / str(number) for number in range(len(sizes))]


def changing_tree(tree, seed=0):
    """Yields the same folder again and again, each time with some of its files written anew; the same in every run."""
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    tree.mkdir()
    write_small_files(tree, CHANGING_FILES // 100, 100, seed)
    choose = random.Random(20261125 + seed)
    files = sorted(tree.rglob("*.json"))
    while True:
        for file in choose.sample(files, CHANGED_EACH_NIGHT):
            file.write_bytes(random_words(choose, choose.randrange(500, 2000)))
        yield tree


def large_directory(folder, files):
    """Returns a folder with many small files side by side."""
    return made_once(folder / "directory", lambda new: write_small_files(new, folders=1, files=files))


def large_file(folder, size):
    """Returns a folder with one file, some of which compresses well, some not at all."""
    return made_once(folder / "large", lambda new: write_stretches(new / LARGE_FILE, size))


def sparse_file(folder, length):
    """Returns a folder with a file that is all holes but for 64 islands, at both ends as well."""
    return made_once(folder / "sparse", lambda new: write_islands(new / SPARSE_FILE, length, islands=64))


def made_once(folder, make):
    if not folder.is_dir():
        print(f"making {folder} (once)", file=sys.stderr)
        new = folder.with_name(folder.name + ".new")
        subprocess.run(["rm", "-rf", str(new)], check=True)
        new.mkdir(parents=True)
        make(new)
        new.rename(folder)
    return folder


def write_small_files(root, folders, files, seed=0):
    """Writes files of at most 2,000 bytes that look like the orders of a small shop; the same in every run."""
    choose = random.Random(20261121 + seed)
    names = [f"{choose.choice('BCDFGKLMNPRST')}{choose.choice('aeiou')}{choose.choice('lmnrst')}{choose.choice('aeio')}"
             for _ in range(400)]
    lines = [
        f'  {{"sku": "{choose.randrange(10**8):08}", "name": "{choose.choice(names)} {choose.choice(names)}", '
        f'"count": {choose.randrange(1, 40)}, "price": {choose.randrange(99, 99999) / 100}}},\n'.encode()
        for _ in range(20_000)
    ]
    for folder in range(folders):
        path = f"{root}/{folder:04}"
        os.mkdir(path)
        for number in range(files):
            order = f'{{"order": "{choose.getrandbits(64):016x}", "by": "{choose.choice(names)}", "items": [\n'
            body = b"".join(choose.choices(lines, k=choose.randrange(24)))
            with open(f"{path}/order-{number:06}.json", "wb", buffering=0) as file:
                file.write(order.encode() + body + b"]}\n")


def write_islands(path, length, islands):
    """Writes islands of 1 to 4 MiB: the first at the beginning, the last up to the end."""
    choose = random.Random(20261121)
    with path.open("wb") as file:
        file.truncate(length)
        for number in range(islands):
            island = choose.randbytes(choose.randrange(1 << 20, 4 << 20))
            file.seek((length - len(island)) * number // (islands - 1))
            file.write(island)


def write_stretches(path, size):
    """Writes stretches of 64 KiB to 4 MiB: a third each of words, digits and random bytes, and some zeros."""
    choose = random.Random(20261124)
    kinds = [random_words, random_digits, random.Random.randbytes, lambda _, length: bytes(length)]
    with path.open("wb") as file:
        left = size
        while left > 0:
            length = min(left, choose.randrange(64 << 10, 4 << 20))
            file.write(choose.choices(kinds, [6, 6, 6, 1])[0](choose, length))
            left -= length


def random_words(choose, length):
    # None of the words has fewer than three letters, and a space follows each.
    return " ".join(choose.choices(WORDS, k=length // 4 + 1)).encode()[:length]


def random_digits(choose, length):
    return choose.randbytes(length // 2 + 1).hex().encode()[:length]


def tree_size(tree):
    """Returns the number of files below a folder and the sum of their bytes."""
    count = size = 0
    for path, _, names in os.walk(tree):
        for name in names:
            found = os.lstat(os.path.join(path, name))
            if stat.S_ISREG(found.st_mode):
                count, size = count + 1, size + found.st_size
    return count, size
