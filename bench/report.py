"""Write measurements into docs/performance.md and README.md, and draw a picture.

    python bench/report.py [--json docs/performance.jsonl] [--service-levels docs/service-levels.jsonl]

The two files are those of `run.py --json` and of `service_levels.py --json`. What has no file stays as it is.

Values are medians of the rounds. A ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import service_levels
from in_short import in_short
from options import OneLineParser
from run import CONTENDERS, SCENARIOS, Rows, against, medians

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENT, README = DOCS / "performance.md", ROOT / "README.md"
PICTURE = DOCS / "performance.png"
FIGURES_PART, SERVICE_LEVELS_PART, SHORT_PART = "figures", "service levels", "in short"
"""The parts of documents that this program writes. Each is between two comments."""

ROLES = ("broker", "server", "players")
COMPARED = {"nats": "NATS", "loops": "the loops", "proxy": "proxy"}
"""The tables have ratios against these contenders."""

SHOWN_FIRST = ("up", "down", "down-100"), 64, "nats"
"""What the table in README.md shows: scenarios, calls in flight, and the contender of the ratios."""

DRAWN_IN_FLIGHT = (64, 512)
COLOURS = {"ringback": ("#0b5394", "#7fb2dd"), "other": ("#666666", "#c4c4c4")}
"""The colours of the bars, for 64 and 512 calls in flight."""


class Goal(NamedTuple):
    """A bound on the ratio of one contender's figure to that of another contender, or on the figure itself.

    Attributes:
        other: the contender that it is compared with; "": the bound is on the figure itself.
        at_most: whether the ratio should be at most `bound`, rather than at least.
    """

    scenarios: tuple[str, ...]
    in_flight: tuple[int, ...]
    figure: str
    other: str
    bound: float
    at_most: bool = False
    contender: str = "ringback.aio"


ONE, MANY = ("up", "down"), ("down-100",)
GOALS = (
    Goal(ONE, (64,), "calls_per_s", "nats", 2.2),
    Goal(ONE, (64,), "cpu_us", "nats", 0.5, at_most=True),
    Goal(ONE, (512,), "calls_per_s", "nats", 2.6),
    Goal(ONE, (512,), "calls_per_s", "proxy", 1.2),
    Goal(MANY, (64,), "calls_per_s", "nats", 1.3),
    Goal(MANY, (512,), "calls_per_s", "nats", 1.8),
    Goal(MANY, (64, 512), "cpu_broker_server_us", "nats", 0.8, at_most=True),
    Goal(ONE, (1,), "p50_us", "nats", 0.95, at_most=True),
    Goal(ONE, (1,), "cpu_broker_us", "", 110, at_most=True),
    Goal(ONE, (1,), "p50_us", "ringback.aio", 1.5, at_most=True, contender="ringback"),
    Goal(("up",), (64,), "calls_per_s", "nats", 1.0, contender="ringback"),
    Goal(("up",), (64,), "calls_per_s", "nats", 1.0, contender="ringback callbacks"),
    Goal(MANY, (64,), "calls_per_s", "nats", 0.8, contender="ringback"),
    Goal(MANY, (64,), "calls_per_s", "nats", 0.8, contender="ringback callbacks"),
    Goal(("blob",), (64,), "calls_per_s", "proxy", 0.8),
    Goal(ONE, (1, 64, 512), "cpu_us", "ringback.aio", 1.5, at_most=True, contender="ringback.aio CURVE"),
)
"""The project's own goals."""

FIGURES = {
    "calls_per_s": "rate",
    "cpu_us": "CPU a call",
    "cpu_broker_us": "CPU a call of the broker, us",
    "cpu_broker_server_us": "CPU of broker and server",
    "p50_us": "p50",
}

Results = dict[tuple[str, int], dict[str, Rows]]
"""The rows by scenario and calls in flight, and then by contender."""


class Measured(NamedTuple):
    """The measurements in a file.

    Attributes:
        machine: the machine they were made on.
        rounds: the largest number of rounds of a contender.
        seconds: how long each measurement took.
    """

    machine: dict[str, Any]
    results: Results
    rounds: int
    seconds: float


def read_rows(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the machine of the measurements in a file, and their rows."""
    first, *rows = map(json.loads, path.read_text().splitlines())
    return first["machine"], rows


def read(path: Path) -> Measured:
    machine, rows = read_rows(path)
    found: Results = {}
    for row in rows:
        row["cpu_broker_server_us"] = row.get("cpu_broker_us", 0.0) + row["cpu_server_us"]
        where = found.setdefault((row.pop("scenario"), row["in_flight"]), {})
        where.setdefault(row.pop("contender"), []).append(row)
    results = {
        (name, in_flight): {
            who: found[name, in_flight][who] for who in CONTENDERS if who in found[name, in_flight]
        }
        for name, scenario in SCENARIOS.items()
        for in_flight in scenario.in_flight
        if (name, in_flight) in found
    }
    rounds = 1 + max(row["round"] for row in rows)
    return Measured(machine, results, rounds, rows[0]["seconds"])


def text(measured: Measured) -> str:
    """Return the part of docs/performance.md that this program writes."""
    seconds = f"{measured.seconds:g} s for each measurement"
    parts = [
        about(measured.machine, measured.rounds, seconds),
        f"![calls a second and processor time a call]({PICTURE.name})\n",
    ]
    parts.append(f"### Goals, and what was measured\n\n{goals(measured.results)}")
    for (name, in_flight), contenders in measured.results.items():
        calls = "one call at a time" if in_flight == 1 else f"{in_flight} in flight"
        parts.append(f"### {name}: {SCENARIOS[name].text}, {calls}\n\n{table(contenders)}")
    return "\n".join(parts)


def short_text(results: Results) -> str:
    """Return the part of docs/performance.md that puts all measurements in short."""
    parts = []
    for title, lines in in_short(results).items():
        cells = [[*line[:3], f"{line.ratio:.2f}"] for line in lines]
        heads = ["", "ringback", "NATS", "times as good"]
        found = markdown([heads, *cells]) if lines else "Nowhere.\n"
        parts.append(f"### {title}\n\n{found}")
    return "\n".join(parts)


def service_level_text(path: Path) -> str:
    """Return the part of docs/performance.md about service levels."""
    machine, rows = read_rows(path)
    results = service_levels.by_situation(rows)
    loop = "uvloop" if rows[0]["uvloop"] else "asyncio's own event loop"
    parts = [about(machine, 1 + max(row["round"] for row in rows), loop)]
    verdicts = [
        [*verdict[:-1], "yes" if verdict.reached else "no"] for verdict in service_levels.judge(results)
    ]
    heads = ["scenario", "figure", "goal", "measured", "reached"]
    parts.append(f"### Goals for service levels\n\n{markdown([heads, *verdicts], (0, 1, 2, 4))}")
    for name in dict.fromkeys(name for name, _ in results):
        title = f"### {name}: {service_levels.SCENARIOS[name].text}"
        parts.append(f"{title}\n\n{markdown(service_levels.table(name, results))}")
    return "\n".join(parts)


def about(machine: dict[str, Any], number: int, how: str) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    rounds = "one round" if number == 1 else f"{number} rounds"
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"
    return f"{where}. {rounds.capitalize()}, {how}.\n\n{versions}.\n"


def goals(results: Results) -> str:
    heads = ["scenario", "in flight", "figure", "goal", "measured", "reached"]
    lines = [heads]
    for goal in GOALS:
        for scenario, in_flight in product(goal.scenarios, goal.in_flight):
            rows = results.get((scenario, in_flight), {})
            if goal.contender not in rows or (goal.other and goal.other not in rows):
                continue
            ours = rows[goal.contender]
            wanted = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
            if goal.other:
                [found] = against(ours, rows[goal.other], goal.figure)
                wanted, measured = f"{wanted} times {goal.other}", f"{found:.2f}"
            else:
                found = medians(ours)[goal.figure]
                measured = f"{found:.0f}"
            reached = found <= goal.bound if goal.at_most else found >= goal.bound
            what = f"{goal.contender}: {FIGURES[goal.figure]}"
            lines.append([scenario, str(in_flight), what, wanted, measured, "yes" if reached else "no"])
    return markdown(lines, (0, 2, 3, 5))


def table(contenders: dict[str, Rows]) -> str:
    others = {name: words for name, words in COMPARED.items() if name in contenders}
    heads = ["", "calls/s", "p50 us", "p99 us", "p99.9 us", "CPU us a call", ", ".join(ROLES)]
    heads += [f"{what} against {words}" for words in others.values() for what in ("rate", "CPU")]
    lines = [heads]
    for name, rows in contenders.items():
        median = medians(rows)
        latencies = [f"{median[key]:.0f}" for key in ("p50_us", "p99_us", "p999_us")]
        shares = [f"{median[key]:.1f}" if (key := f"cpu_{role}_us") in median else "-" for role in ROLES]
        cells = [
            name,
            f"{median['calls_per_s']:.0f}",
            *latencies,
            f"{median['cpu_us']:.1f}",
            ", ".join(shares),
        ]
        for other in others:
            cells += [f"{ratio:.2f}" for ratio in against(rows, contenders[other], "calls_per_s", "cpu_us")]
        lines.append(cells)
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """Return a table in Markdown.

    Args:
        lines: the cells, with the heads first.
        words: the columns with words. The others have figures.
    """
    heads, *others = lines
    rule = ["---" if number in words else "---:" for number in range(len(heads))]
    rows = (f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (heads, rule, *others))
    return "\n".join(rows) + "\n"


def summary(results: Results) -> str:
    """Return the table of ratios for README.md, or "" if a part of it was not measured."""
    names, in_flight, other = SHOWN_FIRST
    found = {name: results[name, in_flight] for name in names if other in results.get((name, in_flight), {})}
    if len(found) < len(names):
        return ""
    lines = [["", *(f"{figure}, {name}" for figure in ("rate", "CPU") for name in found)]]
    for contender in CONTENDERS:
        if all(contender in contenders for contenders in found.values()):
            cells = [
                f"{against(contenders[contender], contenders[other], figure)[0]:.2f}"
                for figure in ("calls_per_s", "cpu_us")
                for contenders in found.values()
            ]
            lines.append([contender, *cells])
    return markdown(lines)


def write(path: Path, part: str, content: str) -> None:
    """Replace the content of one part of a document."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    document = path.read_text()
    between = re.compile(f"{begin}.*{end}", re.S)
    if not between.search(document):
        raise SystemExit(f"{path} has no {begin} and {end}")
    path.write_text(between.sub(lambda _: f"{begin}\n\n{content}\n{end}", document))


def draw(measured: Measured, path: Path) -> None:
    """Draw a row of two charts for each scenario: calls a second, and processor time a call."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    names = [name for name in SCENARIOS if any((name, some) in measured.results for some in DRAWN_IN_FLIGHT)]
    shown = {name: [some for some in DRAWN_IN_FLIGHT if (name, some) in measured.results] for name in names}
    heights = [0.6 + len(shown[name]) for name in names]
    figure, grid = plt.subplots(
        len(names),
        2,
        figsize=(11, 1.6 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for name, axes in zip(names, grid, strict=True):
        for axis, key, what in zip(
            axes,
            ("calls_per_s", "cpu_us"),
            ("calls a second (more is better)", "processor time a call, us (less is better)"),
            strict=True,
        ):
            bars(axis, {some: measured.results[name, some] for some in shown[name]}, key)
            axis.set_title(f"{SCENARIOS[name].text}\n{what}", fontsize=10, loc="left")
    shades = zip(DRAWN_IN_FLIGHT, COLOURS["other"], strict=True)
    legend = [Patch(color=shade, label=f"{some} calls in flight") for some, shade in shades]
    figure.legend(handles=legend, loc="outside upper right", ncols=len(legend), frameon=False, fontsize=9)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def bars(axis: Any, situations: dict[int, dict[str, Rows]], key: str) -> None:
    """Draw a bar for each contender and number of calls in flight."""
    names = list(next(iter(situations.values())))
    thickness = 0.8 / len(situations)
    for place, (in_flight, contenders) in enumerate(situations.items()):
        for position, name in enumerate(names):
            if name not in contenders:
                continue
            value = medians(contenders[name])[key]
            colours = COLOURS["ringback" if name.startswith("ringback") else "other"]
            at = position + (place - (len(situations) - 1) / 2) * thickness
            drawn = axis.barh(at, value, thickness, color=colours[DRAWN_IN_FLIGHT.index(in_flight)])
            axis.bar_label(drawn, [f"{value:,.0f}"], padding=3, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.tick_params(axis="x", labelsize=8)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=DOCS / "performance.jsonl")
    parser.add_argument("--service-levels", type=Path, default=DOCS / "service-levels.jsonl")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    results: Results = {}
    if options.service_levels.exists():
        write(DOCUMENT, SERVICE_LEVELS_PART, service_level_text(options.service_levels))
        results |= service_levels.by_situation(read_rows(options.service_levels)[1])
    if options.json.exists():
        measured = read(options.json)
        results |= measured.results
        write(DOCUMENT, FIGURES_PART, text(measured))
        if table_of_ratios := summary(measured.results):
            write(README, FIGURES_PART, table_of_ratios)
        draw(measured, options.picture)
    write(DOCUMENT, SHORT_PART, short_text(results))


if __name__ == "__main__":
    main()
