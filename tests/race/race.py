#!/usr/bin/env python3
"""Races `dsv4 bench` against llama-bench on the same files, threads and minutes; needs Python 3.9 and nothing else.

    race.py --dsv4 target/release/dsv4 --model slice.gguf [--threads 2,1] [--prompt 256,1024] [--gen 32] [--rounds 5]
    race.py ... --prompt 256 --depth 256,8192          decode at several depths of context

Every round runs, one after the other: the bandwidth test, dsv4, llama-bench; then the next round. Ratios are formed within
a round, so that what slows the whole machine down for a while slows down both, and their median is reported.
"""

import argparse
import json
import mmap
import os
import pathlib
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache"


def log(text):
    print(text, file=sys.stderr, flush=True)


class Memory(threading.Thread):
    """The most memory a process had while it ran: all that was resident, and the part that belongs to no file."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.all, self.anonymous, self.over = f"/proc/{pid}/status", 0, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.05):
            try:
                with open(self.path) as status:
                    fields = dict(line.split(":", 1) for line in status if ":" in line)
            except OSError:
                return
            kilobytes = {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon") if name in fields}
            self.all = max(self.all, 1024 * kilobytes.get("VmHWM", 0))
            self.anonymous = max(self.anonymous, 1024 * kilobytes.get("RssAnon", 0))


def run(command):
    """Standard output and peak memory of a command that must succeed."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    memory = Memory(process.pid)
    out, errors = process.communicate()
    memory.over.set()
    if process.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\nexit status {process.returncode}\n{errors.strip()}")
    return out, memory


class Bandwidth:
    """Reads memory as fast as it can be read: bytes a second of anonymous memory, and of the mapped file."""

    def __init__(self, args):
        CACHE.mkdir(exist_ok=True)
        self.program, self.seconds = CACHE / "bandwidth", args.bandwidth_seconds
        source = HERE / "bandwidth.c"
        subprocess.run([os.environ.get("CC", "cc"), "-O3", "-march=native", "-pthread", source, "-o", self.program], check=True)

    def measure(self, threads, model):
        run_for = lambda *file: json.loads(run([self.program, threads, self.seconds, *file])[0])["median"]
        return {"bandwidth": run_for(), "bandwidth of the file": run_for(model)}


class Dsv4:
    name = "dsv4"

    def __init__(self, args):
        self.args = args

    def plan(self, model, context):
        """Bytes that the plan promises: all memory but the weights."""
        out, _ = run([self.args.dsv4, "plan", model, "-c", context, "--json"])
        return json.loads(out)["memory_bytes"]

    def measure(self, model, threads):
        """One run for every size: `bench` evaluates a prompt, then decodes at that depth."""
        args, results = self.args, {}
        for size in sorted({*args.prompt, *args.depth}):
            gen = args.gen if size in args.depth else 1
            context = ["-p", size] if size in args.prompt else shlex.split(args.dsv4_depth.format(depth=size))
            out, memory = run([args.dsv4, "bench", model, *context, "-n", gen, "-t", threads, "--json", *args.dsv4_args])
            bench = json.loads(out)
            if size in args.prompt:
                results["prefill", size] = bench["prefill_tps"]
            if size in args.depth:
                results["decode", size] = bench["decode_tps"]
            results["weights"] = bench["weight_bytes_per_token"]
            results["load", size] = bench["load_ms"]
            results["peak", size] = bench["peak_rss_bytes"] or memory.all
            results["anonymous", size] = memory.anonymous
            results["plan", size] = self.plan(model, size + gen)
        return results


class Llama:
    name = "llama.cpp"

    def __init__(self, args):
        self.args = args

    def bench(self, model, threads, prompt, gen, depth):
        args = self.args
        out, memory = run([args.llama / "llama-bench", "-m", model, "-t", threads, "-r", 1, "-o", "json",
                           "-p", prompt, "-n", gen, "-d", depth, *args.llama_args])  # fmt: skip
        return json.loads(out)[0]["avg_ts"], memory

    def measure(self, model, threads):
        args, results = self.args, {}
        for size in sorted({*args.prompt, *args.depth}):
            peaks = []
            if size in args.prompt:
                results["prefill", size], memory = self.bench(model, threads, size, 0, 0)
                peaks.append(memory)
            if size in args.depth:
                results["decode", size], memory = self.bench(model, threads, 0, args.gen, size)
                peaks.append(memory)
            results["peak", size] = max(m.all for m in peaks)
            results["anonymous", size] = max(m.anonymous for m in peaks)
        return results


def median(rounds, value):
    return statistics.median(value(r) for r in rounds)


def speeds(args, model, threads, rounds):
    """Rows of the table of speeds: what, dsv4, llama.cpp, ratio (least to most), % of the limit."""
    for kind, sizes in (("prefill", args.prompt), ("decode", args.depth)):
        for size in sizes:
            ratios = sorted(r["dsv4"][kind, size] / r["llama.cpp"][kind, size] for r in rounds)
            limit = lambda r: r["bandwidth"] / r["dsv4"]["weights"]
            row = [
                model.stem,
                str(threads),
                f"{kind} {size}" if kind == "prefill" else f"decode at {size}",
                f"{median(rounds, lambda r: r['dsv4'][kind, size]):.2f}",
                f"{median(rounds, lambda r: r['llama.cpp'][kind, size]):.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
            ]
            if kind == "decode":
                row += [f"{100 * median(rounds, lambda r: r[who][kind, size] / limit(r)):.0f}" for who in ("dsv4", "llama.cpp")]
                row += [f"{median(rounds, limit):.2f}"]
            else:
                row += ["", "", ""]
            yield row


def depths(args, model, threads, rounds):
    """Rows of the table of what context costs: decode as a share of decode at the first depth."""
    first = args.depth[0]
    for size in args.depth[1:]:
        share = lambda who: median(rounds, lambda r: r[who]["decode", size] / r[who]["decode", first])
        yield [model.stem, str(threads), f"{size} / {first}", *(f"{share(who):.2f}" for who in ("dsv4", "llama.cpp"))]


DEPTHS = ["file", "threads", "decode at", "dsv4", "llama.cpp"]

SPEEDS = ["file", "threads", "tokens/s", "dsv4", "llama.cpp", "ratio", "range", "dsv4 % of limit", "llama.cpp %", "limit"]


def memories(args, model, threads, rounds):
    """Rows of the table of memory, in MB (10^6): peaks, and what they ought to be."""
    file = model.stat().st_size
    for size in sorted({*args.prompt, *args.depth}):
        of = lambda who, what: max(r[who][what, size] for r in rounds)
        plan, peak, other = of("dsv4", "plan"), of("dsv4", "peak"), of("llama.cpp", "peak")
        mb = lambda n: f"{n / 1e6:.1f}"
        yield [
            model.stem, str(threads), str(size), mb(file), mb(plan), mb(of("dsv4", "anonymous")), mb(peak),
            f"{peak / (plan + file):.3f}", mb(of("llama.cpp", "anonymous")), mb(other), f"{other / file:.2f}",
            f"{max(r['dsv4']['load', size] for r in rounds):.1f}",
        ]  # fmt: skip


MEMORIES = ["file", "threads", "tokens", "file MB", "plan MB", "dsv4 anonymous", "dsv4 peak", "peak / (plan + file)",
            "llama.cpp anonymous", "llama.cpp peak", "its peak / file", "dsv4 load ms"]  # fmt: skip


def bandwidths(args, model, threads, rounds):
    for what in ("bandwidth", "bandwidth of the file"):
        values = sorted(r[what] / 1e9 for r in rounds)
        name = "memory" if what == "bandwidth" else model.name
        yield [name, str(threads), f"{statistics.median(values):.1f}", f"{values[0]:.1f}-{values[-1]:.1f}"]


BANDWIDTHS = ["GB/s", "threads", "median", "range"]


def plain(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        yield "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))


def markdown(head, rows):
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def machine():
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} CPUs"


def cpu_time():
    """CPU seconds so far: of this script and the commands it ran, of all processes, of a virtual machine's neighbours, and
    of there having been CPUs."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    try:
        with open("/proc/stat") as stat:
            user, nice, system, idle, wait, interrupts, soft, stolen = (
                int(n) / os.sysconf("SC_CLK_TCK") for n in stat.readline().split()[1:9]
            )
    except (OSError, ValueError):
        return ours, 0, 0, 0
    all_processes = user + nice + system + interrupts + soft
    return ours, all_processes, stolen, all_processes + idle + wait + stolen


def quiet(before):
    """What others did to the measurement since `before`."""
    ours, everyone, stolen, time = (b - a for a, b in zip(before, cpu_time()))
    if not time:
        return "unknown"
    others = max(everyone - ours, 0) / time
    warning = ": NOT A QUIET MACHINE, these numbers mean little" if others + stolen / time > 0.03 else ""
    return f"other processes took {others:.1%} of the CPUs' time, the machine's host {stolen / time:.1%}{warning}"


def bring_in(model, anew):
    """Has `model` in the page cache; `anew`, as a mapping with advice for large pages brings in a file that was not there
    (ours gives it). What wrote or copied the file leaves it there in small pages, whoever maps it later."""
    with open(model, "rb") as file:
        if anew:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as bytes_of:
            try:
                bytes_of.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                log("no large pages for files here")
            for at in range(0, len(bytes_of), mmap.PAGESIZE):
                bytes_of[at]


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsv4", type=pathlib.Path, required=True, help="the dsv4 command")
    parser.add_argument("--llama", type=pathlib.Path, default=CACHE / "llama/build/bin", help="what setup.sh built")
    parser.add_argument("--model", type=pathlib.Path, nargs="+", required=True, help="GGUF files")
    parser.add_argument("--threads", type=numbers, default=[2, 1])
    parser.add_argument("--prompt", type=numbers, default=[256, 1024], help="prefill of so many tokens")
    parser.add_argument("--depth", type=numbers, help="decode behind so many tokens (default: the first --prompt)")
    parser.add_argument("--gen", type=int, default=32, help="tokens decoded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0, help="seconds between two rounds")
    parser.add_argument("--cached", action="store_true", help="leave the file in the page cache as it lies there")
    parser.add_argument("--bandwidth-seconds", type=float, default=1.0)
    parser.add_argument("--dsv4-args", type=shlex.split, default=[], help="more arguments of dsv4 bench")
    parser.add_argument("--llama-args", type=shlex.split, default=[], help="more arguments of llama-bench")
    parser.add_argument("--dsv4-depth", metavar="ARGS", default="-p 0 --depth {depth}", help="arguments of dsv4 bench,"
                        " {depth} filled in, where only decoding is measured; `-p {depth}` evaluates all those tokens")
    parser.add_argument("--markdown", type=pathlib.Path, help="append the tables to this file, as markdown")
    parser.add_argument("--json", type=pathlib.Path, help="append every single measurement, one JSON object a round")
    args = parser.parse_args()
    args.depth = args.depth or args.prompt[:1]

    bandwidth, programs = Bandwidth(args), [Dsv4(args), Llama(args)]
    before, command = cpu_time(), shlex.join(sys.argv)
    heads = {speeds: SPEEDS, depths: DEPTHS, memories: MEMORIES, bandwidths: BANDWIDTHS}
    tables = {rows_of: [] for rows_of in heads}
    for model in args.model:
        bring_in(model, not args.cached)
        for threads in args.threads:
            rounds = []
            for i in range(args.rounds):
                if rounds and args.pause:
                    time.sleep(args.pause)
                result = bandwidth.measure(threads, model)
                result |= {program.name: program.measure(model, threads) for program in programs}
                rounds.append(result)
                dsv4, llama = result["dsv4"], result["llama.cpp"]
                both = [key for key in dsv4 if key in llama and key[0] in ("prefill", "decode")]
                log(f"{model.stem} {threads} threads round {i + 1}: {result['bandwidth'] / 1e9:.1f} GB/s"
                    + "".join(f", {k} {n}: {dsv4[k, n]:.2f} / {llama[k, n]:.2f}" for k, n in both))  # fmt: skip
                if args.json:
                    flat = {"model": model.name, "threads": threads, "round": i}
                    for name, value in result.items():
                        inner = value.items() if isinstance(value, dict) else [((), value)]
                        for key, v in inner:
                            key = key if isinstance(key, tuple) else (key,)
                            flat[" ".join(map(str, (name, *key)))] = v
                    with open(args.json, "a") as out:
                        print(json.dumps(flat), file=out)
            for rows_of, rows in tables.items():
                rows.extend(rows_of(args, model, threads, rounds))
    tables = [(heads[rows_of], rows) for rows_of, rows in tables.items() if rows]

    about = f"{machine()}; {args.rounds} rounds; {quiet(before)}"
    print(about)
    for head, rows in tables:
        print("", *plain(head, rows), sep="\n")
    if args.markdown:
        with open(args.markdown, "a") as out:
            print(f"    {command}\n\n{about}", file=out)
            for head, rows in tables:
                print("", *markdown(head, rows), sep="\n", file=out)


if __name__ == "__main__":
    main()
