"""The whole job, with every tool: a tree or a large file goes in, again unchanged, comes back, is verified, is mounted.

The native column is the limit: `tar | zstd -3 -T2` for the first ingest, a `find` over the tree for an unchanged one,
unpacking for the restore, decoding to nowhere for the verification, and the file system itself for the mount.
"""

import inputs
from bench import Result, Taker, in_turn, is_due, mounted, mounted_without_passphrase, note, part
from packing import PackedFile, PackedTree
from probes import RANDOM
from readings import cat_twice, find_twice, probe, tar_twice
from tools import must_be_equal


def measure_tree(bench):
    tree = inputs.source_tree(bench.folder, bench.small)
    files, size = inputs.tree_size(tree)
    about = f"The unpacked sources of many Rust packages: {files:,} files, {size / 10**6:,.0f} MB."
    whole_job(bench, "tree", tree, about, [find_twice, tar_twice], PackedTree)


def measure_directory(bench):
    files = bench.sizes["directory_files"]
    tree = inputs.large_directory(bench.folder, files)
    about = f"{files:,} files of at most 2,000 bytes in one directory."
    whole_job(bench, "directory", tree, about, [find_twice, tar_twice], PackedTree)


def measure_large(bench):
    size = bench.sizes["large_bytes"]
    folder = inputs.large_file(bench.folder, size)
    about = (f"One file of {size / 10**9:.2g} GB: stretches of words, of hexadecimal digits, of random bytes and of "
             "zeros; but for those, nothing in it comes twice.")
    readings = [lambda taker, path: cat_twice(taker, path / inputs.LARGE_FILE),
                lambda taker, path: probe(taker, RANDOM, path / inputs.LARGE_FILE)]
    whole_job(bench, "large", folder, about, readings, PackedFile)


def whole_job(bench, workload, path, about, readings, packing):
    """Runs all rounds of a workload. `readings` are done on a mount, and on the file system for comparison."""
    result = Result(bench, workload, about, [tool.name for tool in bench.tools] + ["native"])
    takers = {name: Taker(bench, result, name) for name in result.data["columns"]}
    for number in range(bench.runs):
        for tool in in_turn([*bench.tools, None], number):
            name = tool.name if tool else "native"
            if not is_due(name, number):
                continue
            note(f"{workload}, round {number + 1} of {bench.runs}: {name}")
            with takers[name].round():
                if tool is None:
                    native_job(bench, takers[name], path, readings, packing)
                else:
                    with tool.fresh_store():
                        store_and_return(bench, takers[name], tool, path)
                        read_mounts(takers[name], tool, path, readings)
                        if tool is bench.yester and number == 0:
                            with tool.mounted(path) as mount:
                                must_be_equal(path, mount.at(path))
    result.finish()


def native_job(bench, taker, path, readings, packing):
    with bench.scratch() as scratch:
        packing(path, scratch).measure(taker, bench.discard)
    for reading in readings:
        reading(taker, path)


def store_and_return(bench, taker, tool, path):
    taker.take("first ingest, cold", lambda: tool.ingest(path), peak=True)
    taker.figures["store, MB"] = tool.stored_mb()
    taker.take("unchanged ingest, cold", lambda: tool.ingest(path), peak=True)
    target = tool.folder / "restored"
    with part():
        taker.take("restore, cold", lambda: tool.restore(target), peak=True)
        with taker.attempt("comparing what was restored"):
            must_be_equal(path, tool.restored(target, path))
    bench.discard(target)
    with part():
        taker.take("verify all data, cold", tool.verify, peak=True)


def read_mounts(taker, tool, path, readings):
    """Mounts anew for each reading, so that one that was cut off does not burden the next."""
    mounted_without_passphrase(taker, tool, path)
    for reading in readings:
        with part(), mounted(taker, tool, path) as mount:
            reading(taker, mount.at(path))
