"""The command line: what it prints, its exit codes, the plugin it writes, the page it draws."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from ffoadapt._cli import console, main, new_plugin, page, problem_file
from ffoadapt._cli.measure import Comparison, Row
from ffoadapt._cli.plots import draw_plots
from ffoadapt._cli.problem_file import read_problem
from ffoadapt._runtime.progress import progress

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "plugins" / "_template"
PAIR = ("--solver", "clarabel", "--solver", "daqp", "--runs", "1")

Capture = pytest.CaptureFixture[str]


def command(
    arguments: Sequence[str], path: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python -m ffoadapt`` in a process of its own, with ``path`` on its PYTHONPATH."""
    env = {**os.environ, **environment, "PYTHONWARNINGS": "error"}
    env["PYTHONPATH"] = str(path) if path else ""
    return subprocess.run(
        [sys.executable, "-m", "ffoadapt", *arguments], capture_output=True, text=True, env=env
    )


# --------------------------------------------------------------------------- a distribution

SOLVERS = '''
import ffoadapt
import numpy as np


@ffoadapt.box_solver
def raises(P, q, A, l, u, options):
    print("noise on stdout")
    raise ValueError("a vendor's exception")


@ffoadapt.box_solver
def liar(P, q, A, l, u, options):
    """Calls any point a solution."""
    return np.zeros(q.size), np.zeros(l.size)
'''

REGISTRATION = """
from ffoadapt import SolverSpec, hookimpl

dense = frozenset({"dense"})


@hookimpl
def ffoadapt_register_solvers():
    return [
        SolverSpec("raises", load="odd_solvers:raises", matrices=dense),
        SolverSpec("liar", load="odd_solvers:liar", matrices=dense),
        SolverSpec("gone", load="odd_solvers:gone", matrices=dense),
        SolverSpec("lonely", load="odd_solvers:raises", requires=("no_such_module",)),
        SolverSpec("osqp", load="odd_solvers:raises", matrices=dense),
    ]
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH with three distributions: odd solvers, broken, unwanted."""
    path = tmp_path_factory.mktemp("odd")
    (path / "odd_solvers.py").write_text(SOLVERS)
    (path / "odd_plugin.py").write_text(REGISTRATION)
    (path / "broken_plugin.py").write_text("raise RuntimeError('it broke at import')\n")
    for name in ("odd", "broken", "unwanted"):
        info = path / f"ffoadapt_{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[ffoadapt]\n{name} = {name}_plugin\n")
    return path


# ---------------------------------------------------------------------------------- plugins


def test_plugins_lists_what_is_installed(capsys: Capture) -> None:
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    clarabel = next(line for line in lines if line.split()[1:2] == ["clarabel"])
    for word in ("solver", "ready", "ffoadapt-clarabel", "sparse", "exponential", "psd"):
        assert word in clarabel
    assert any(line.split()[:3] == ["framework", "numpy", "ready"] for line in lines)


def test_plugins_by_kind_as_json(capsys: Capture) -> None:
    assert main(["plugins", "--kind", "executor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"serial", "threads"} <= {row["name"] for row in rows}
    assert {row["kind"] for row in rows} == {"executor"}


def test_plugins_says_why_one_is_unusable(odd: Path) -> None:
    env = {"FFOADAPT_DISABLE_PLUGINS": "unwanted"}
    done = command(["plugins", "--json"], odd, **env)
    assert done.returncode == 0, done.stderr
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.stdout)}
    lonely, broken = rows["solver", "lonely"], rows["plugin", "broken"]
    assert (lonely["state"], lonely["detail"]) == ("missing", "pip install no_such_module")
    assert (broken["state"], broken["distribution"]) == ("failed", "broken-dist")
    assert "it broke at import" in broken["detail"]
    assert rows["plugin", "unwanted"]["state"] == "disabled"
    osqp = rows["solver", "osqp"]
    assert osqp["state"] == "duplicate"
    assert {"odd-dist", "ffoadapt-osqp"} <= {osqp["distribution"], *osqp["detail"].split()}
    assert rows["solver", "clarabel"]["state"] == "ready"

    text = command(["plugins", "--kind", "solver"], odd, **env).stdout
    assert re.search(r"^solver +lonely +missing dependency +odd-dist +1.5 ", text, re.MULTILINE)
    assert "solver lonely (odd-dist): pip install no_such_module" in text
    assert "plugin broken (broken-dist): RuntimeError: it broke at import" in text


# ------------------------------------------------------------------------------------ check


def test_check_as_json(capsys: Capture) -> None:
    assert main(["check", "daqp", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {result["outcome"] for result in report["results"]} <= {"passed", "skipped"}


def test_check_fails_with_1(odd: Path) -> None:
    done = command(["check", "liar"], odd)
    assert done.returncode == 1
    assert "FAILED stationarity" in done.stdout
    assert done.stderr == ""


def test_check_waives_by_pattern(odd: Path, capsys: Capture) -> None:
    done = command(["check", "liar", "--waive", "*=it lies"], odd)
    assert done.returncode == 0 and "waived: it lies" in done.stdout
    for wrong, words in (("stationarity", "expected PATTERN=REASON"), ("nothing=why", "nothing")):
        assert main(["check", "daqp", "--waive", wrong]) == 2
        assert words in capsys.readouterr().err


def test_check_of_an_unknown_solver_is_2(capsys: Capture) -> None:
    assert main(["check", "dapq"]) == 2
    assert "Did you mean 'daqp'?" in capsys.readouterr().err


# ------------------------------------------------------------------------------- new-plugin


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("copy")
    assert main(["new-plugin", "my-solver", "--directory", str(directory)]) == 0
    return directory / "ffoadapt-my-solver"


def test_new_plugin_has_its_own_name_everywhere(copy: Path) -> None:
    files = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert files == {
        "README.md",
        "pyproject.toml",
        "src/ffoadapt_my_solver/__init__.py",
        "src/ffoadapt_my_solver/_interior_point.py",
        "src/ffoadapt_my_solver/_solver.py",
        "src/ffoadapt_my_solver/py.typed",
        "tests/test_conformance.py",
    }
    text = {name: (copy / name).read_text() for name in files}
    assert not [name for name in files if "template" in text[name].lower()]
    assert "class MySolver(Solver):" in text["src/ffoadapt_my_solver/_solver.py"]
    assert "class TestMySolver(" in text["tests/test_conformance.py"]
    assert 'my-solver = "ffoadapt_my_solver"' in text["pyproject.toml"]


def test_new_plugin_installs_and_passes_its_tests(copy: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    where = ["--no-deps", "--no-build-isolation", "--target", str(tmp_path), str(copy)]
    subprocess.run([*pip, *where], check=True, capture_output=True)
    tests = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    assert re.search(r"1\d\d passed", tests.stdout)


def test_new_plugin_refuses_to_overwrite(copy: Path, capsys: Capture) -> None:
    before = (copy / "README.md").read_text()
    assert main(["new-plugin", "my-solver", "--directory", str(copy.parent)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (copy / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My_Solver", "lowercase letters and digits, words joined by single hyphens.*'my-solver'"),
        ("1st", "a letter first, e.g. 'st'"),
        ("a--b", "e.g. 'a-b'"),
        ("../evil", "e.g. 'evil'"),
        ("", "cannot name a plugin"),
        ("ffoadapt-mine", "leave the prefix out: 'mine'"),
        ("daqp", r"taken by ffoadapt-daqp \d"),
        ("torch", r"ffoadapt-torch \S+ is installed already"),
    ],
)
def test_new_plugin_names(name: str, words: str, tmp_path: Path, capsys: Capture) -> None:
    if name == "torch":
        pytest.importorskip("ffoadapt_torch")
    assert main(["new-plugin", name, "--directory", str(tmp_path)]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_wheel_carries_the_files_to_copy(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
    where = ["--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run([*pip, *where], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    made = command(["new-plugin", "other", "--directory", str(tmp_path)], tmp_path / "site")
    assert made.returncode == 0, made.stderr
    expected = new_plugin.create("other", tmp_path / "from_the_repository")
    files = sorted(p.relative_to(expected) for p in expected.rglob("*") if p.is_file())
    found = tmp_path / "ffoadapt-other"
    assert files == sorted(p.relative_to(found) for p in found.rglob("*") if p.is_file())
    assert all((found / file).read_bytes() == (expected / file).read_bytes() for file in files)


def test_the_adapter_to_copy_is_short() -> None:
    spec = importlib.util.spec_from_file_location("lines", ROOT / "tools" / "adapter_lines.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source = (TEMPLATE / "src" / "ffoadapt_template" / "_solver.py").read_text()
    assert tool.code_lines(source) <= tool.LIMITS[tool.view(source)]


# ---------------------------------------------------------------------------------- compare

N = 5
Q = np.array([0.4, -1.0, 0.3, 2.0, -0.5])
# minimize 1/2 |x|^2 + q'x, sum x = 1: x = (1 + sum q)/n - q
X = (1.0 + Q.sum()) / N - Q
OBJECTIVE = 0.5 * X @ X + Q @ X


def parts(name: str, matrix: Any) -> dict[str, Any]:
    """The arrays by which an .npz file holds a sparse matrix."""
    csc = sparse.csc_matrix(matrix)
    return {f"{name}_{key}": getattr(csc, key) for key in ("data", "indices", "indptr", "shape")}


ONES = np.ones((1, N))
FORMS: dict[str, dict[str, Any]] = {
    "split": {"P": np.eye(N), "q": Q, "A": ONES, "b": np.ones(1)},
    "box": {"P": np.eye(N), "q": Q, "A": ONES, "l": np.ones(1), "u": np.ones(1)},
    "cone": {"P": np.eye(N), "q": Q, "A": ONES, "b": np.ones(1), "cones": ["zero:1"]},
    "sparse": {
        **parts("P", np.eye(N)),
        "q": Q,
        **parts("G", np.eye(N)),
        "h": np.full(N, 9.0),
        **parts("A", ONES),
        "b": np.ones(1),
    },
}


def compared(path: Path, capsys: Capture, *more: str, code: int = 0) -> dict[str, Any]:
    assert main(["compare", str(path), "--json", *PAIR, *more]) == code
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


@pytest.mark.parametrize("form", FORMS)
def test_compare_matrices(form: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "problem.npz"
    np.savez(path, **FORMS[form])
    record = compared(path, capsys)
    assert (record["variables"], record["sparse"]) == (N, form == "sparse")
    assert len(record["solvers"]) == 2
    for row in record["solvers"]:
        assert row["status"] == "optimal"
        assert abs(row["objective"] - OBJECTIVE) < 1e-6
        assert row["kkt_residual"] < 1e-7
        assert row["forward_seconds"] > 0 and row["backward_seconds"] > 0
        data = {name.partition("_")[0] for name in FORMS[form]} - {"cones"}
        assert set(row["gradient_difference"]) >= data
        assert max(row["gradient_difference"].values()) < 1e-6


def test_compare_prints_a_table(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "problem.npz", **FORMS["box"])
    assert main(["compare", str(tmp_path / "problem.npz"), *PAIR, "--reference", "daqp"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^daqp +optimal .* reference ", text, re.MULTILINE)
    assert re.search(r"^clarabel +optimal ", text, re.MULTILINE)
    assert "relative difference of the gradient to that of daqp" in text
    assert re.search(r"^u +", text, re.MULTILINE)


def test_compare_says_who_cannot_take_the_problem(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "cone.npz"
    np.savez(
        path, q=np.array([1.0, 0.5, 0.2]), A=-np.eye(3), b=np.zeros(3), cones=["second_order:3"]
    )
    rows = {row["solver"]: row for row in compared(path, capsys)["solvers"]}
    assert rows["clarabel"]["status"] == "optimal"
    assert rows["daqp"]["status"] == "unsupported"
    assert rows["daqp"]["reason"] == "it lacks the cones second_order"


def test_compare_of_an_infeasible_problem_is_1(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "problem.npz"
    G, h = np.array([[1.0], [-1.0]]), np.array([-1.0, -1.0])
    np.savez(path, P=np.eye(1), q=np.zeros(1), G=G, h=h)
    record = compared(path, capsys, code=1)
    assert {row["status"] for row in record["solvers"]} == {"primal_infeasible"}
    assert record["reference"] is None


def test_compare_survives_solvers_that_fail(odd: Path, tmp_path: Path) -> None:
    path = tmp_path / "problem.npz"
    np.savez(path, **FORMS["split"])
    chosen = [word for name in ("raises", "liar", "gone", "daqp") for word in ("--solver", name)]
    done = command(["compare", str(path), "--json", *chosen], odd)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)  # what a solver prints is not in it
    rows = {row["solver"]: row for row in record["solvers"]}
    assert rows["raises"]["status"] == "error"
    assert rows["raises"]["reason"] == "ValueError: a vendor's exception"
    assert rows["gone"]["status"] == "unusable"
    assert record["reference"] == "daqp"
    assert rows["liar"]["verdict"] == "inaccurate_solution" or rows["liar"]["kkt_residual"] < 1e-6
    assert rows["liar"]["kkt_residual_before_polish"] > 1e-2

    unready = command(["compare", str(path), "--solver", "lonely"], odd)
    assert unready.returncode == 2
    assert "no solver named 'lonely' is ready" in unready.stderr


CVXPY = """
import cvxpy as cp
import numpy as np

print("noise on stdout")
q = cp.Parameter(5, name="<q>", value=np.array([0.4, -1.0, 0.3, 2.0, -0.5]))
x = cp.Variable(5)
problem = cp.Problem(cp.Maximize(-0.5 * cp.sum_squares(x) - q @ x), [cp.sum(x) == 1])
"""


def write(path: Path, text: str) -> Path:
    if "import cvxpy" in text:
        pytest.importorskip("cvxpy")
    path.write_text(textwrap.dedent(text))
    return path


def test_compare_cvxpy(tmp_path: Path, capsys: Capture) -> None:
    record = compared(write(tmp_path / "problem.py", CVXPY), capsys)
    for row in record["solvers"]:
        assert abs(row["objective"] + OBJECTIVE) < 1e-6
        assert row["gradient_difference"]["<q>"] < 1e-6


def test_compare_cvxpy_with_chosen_parameters_and_variables(
    tmp_path: Path, capsys: Capture
) -> None:
    more = "\nparameters = [q]\nvariables = [x, problem.constraints[0].dual_variables[0]]\n"
    path = write(tmp_path / "problem.py", CVXPY + more)
    assert len(read_problem(path).program.outputs) == 2
    capsys.readouterr()
    assert compared(path, capsys)["solvers"][1]["gradient_difference"]["<q>"] < 1e-6


def test_compare_without_parameters(tmp_path: Path, capsys: Capture) -> None:
    path = write(
        tmp_path / "problem.py",
        """
        import cvxpy as cp
        x = cp.Variable(2)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1])
        """,
    )
    assert main(["compare", str(path), *PAIR]) == 0
    assert "no parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.npz", None, "there is no such file"),
        ("problem.txt", "", r"ends in '.txt'; expected .npz .* or .py"),
        ("problem.npz", "not a zip file", r"problem.npz: it is no .npz file"),
        ("problem.npz", {"x": np.zeros(2)}, "x is not expected and q is missing"),
        ("problem.npz", {**FORMS["box"], "h": np.ones(1)}, "h is not expected"),
        ("problem.npz", {"q": np.zeros(2), "P": np.eye(3)}, r"P has shape \(3, 3\); expected"),
        ("problem.npz", {"q": np.zeros(2), "P": -np.eye(2)}, "not positive semidefinite"),
        ("problem.npz", {"q": np.array([1.0, np.nan])}, "q holds nan"),
        ("problem.npz", {"q": np.array([object()])}, "it is no .npz file of plain arrays"),
        ("problem.npz", {**FORMS["cone"], "cones": ["zro:1"]}, "'zro:1' is no cone; expected"),
        ("problem.npz", {**FORMS["cone"], "cones": ["zero:x"]}, "'zero:x' has no valid size"),
        ("problem.npz", {"q": Q, "P_data": Q}, "matrix P lacks P_indices, P_indptr, P_shape"),
        ("problem.npz", {"q": Q, **parts("P", np.eye(5)), "P_shape": [2, 2]}, "are no CSC matrix"),
        ("problem.py", "a = 1", "it defines no `problem`"),
        ("problem.py", "a = 1\nb = a / 0", "problem.py, line 2: ZeroDivisionError"),
        ("problem.py", "a = 1\n\nb = = 2", "problem.py, line 3: SyntaxError"),
        ("problem.py", "problem = 1", "no list of `parameters`"),
        ("problem.py", "import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
        ("problem.py", CVXPY + "q.value = None", "the parameter '<q>' has no value"),
    ],
)
def test_compare_says_what_is_wrong_with_a_file(
    name: str, content: Any, words: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        write(path, content)
    elif content is not None:
        np.savez(path, **content)
    assert main(["compare", str(path), *PAIR]) == 2
    seen = capsys.readouterr()
    assert re.search(words, seen.err)
    assert seen.err.count("error: ") == 1 and "Traceback" not in seen.err
    assert seen.out == ""


# ----------------------------------------------------------------------------------- a page


class Page(HTMLParser):
    """Collects what a page refers to, its ids and text; fails on tags that do not match."""

    VOID = ("meta", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "xlink:href", "data"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def draw(tmp_path: Path, content: str = CVXPY) -> str:
    out = tmp_path / "out.html"
    path = write(tmp_path / "problem.py", content)
    assert main(["compare", str(path), *PAIR, "--html", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_the_page_is_self_contained(tmp_path: Path, capsys: Capture) -> None:
    text = draw(tmp_path)
    assert str(tmp_path / "out.html") in capsys.readouterr().out
    page = Page(text)
    assert page.tags.count("svg") == 2
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link", text)
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference.removeprefix("#") for reference in page.references} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))
    assert "<q>" in page.text and "<q>" not in text  # names are escaped
    assert {"clarabel", "daqp"} <= set(re.findall(r"\w+", page.text))


def test_the_page_without_matplotlib(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = Page(draw(tmp_path))
    assert "svg" not in page.tags
    assert "pip install matplotlib" in page.text
    assert "pip install matplotlib" in capsys.readouterr().out


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "problem.npz", **FORMS["split"])
    out = str(tmp_path / "nowhere" / "out.html")
    assert main(["compare", str(tmp_path / "problem.npz"), *PAIR, "--html", out]) == 2
    assert "cannot be written" in capsys.readouterr().err


# ------------------------------------------------------------------- damaged files, full disks


def header(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """An .npy file that is said to hold float64 of this shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + data


def archive(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)


def saved() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **FORMS["split"])
    return file.getvalue()


def renamed() -> bytes:
    file = io.BytesIO()
    np.save(file, Q)
    return file.getvalue()


def encrypted() -> bytes:
    """The bit that says so, in both places where an entry has one."""
    data = bytearray(saved())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 4)
    return bytes(data)


def altered() -> bytes:
    data = bytearray(saved())
    place = data.find(b"PK\x03\x04") + 80
    data[place : place + 20] = bytes(20)
    return bytes(data)


def one_line(path: Path, capsys: Capture, *more: str) -> str:
    assert main(["compare", str(path), *PAIR, *more]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", seen.err)
    return seen.err


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b"PK", b"PK\x05\x06" + bytes(18), renamed(), encrypted(), altered()),
        *(saved()[: int(share * len(saved()))] for share in (0.1, 0.5, 0.95)),
        saved().replace(b"q.npy", b"w.npy"),
        saved()[:-60] + bytes(60),
    ],
)
def test_a_damaged_file_is_one_line(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "problem.npz").write_bytes(content)
    assert "problem.npz" in one_line(tmp_path / "problem.npz", capsys)


@pytest.mark.parametrize(
    "data",
    [
        header((10**18,)),
        header((3 * 10**9, 3 * 10**9)),
        header((2**62, 4)),
        header((-1,)),
        header((2**40,), bytes(80)),
        header((4,), bytes(80)),
        header((10,), bytes(79)),
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x01\x00\xff\xff" + bytes(10),
        b"\x93NUMPY\x01\x00\x0a\x00{'descr':(",
        header((2,)).replace(b"'<f8'", b"'|O' ") + bytes(16),
        header((2,)).replace(b"'<f8'", b"'<zz'") + bytes(16),
        b"",
    ],
)
def test_an_array_that_is_not_what_it_says(data: bytes, tmp_path: Path, capsys: Capture) -> None:
    """Nothing is allocated for it: a header of 100 bytes can ask for all the memory."""
    archive(tmp_path / "problem.npz", q=data)
    assert "it is no .npz file" in one_line(tmp_path / "problem.npz", capsys)


def test_more_than_the_memory_there_is(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that is a large one when it is unpacked."""
    archive(tmp_path / "problem.npz", q=header((10**6,), bytes(8 * 10**6)))
    assert (tmp_path / "problem.npz").stat().st_size < 10**5
    assert problem_file._memory() > 4e6
    monkeypatch.setattr(problem_file, "_memory", lambda: 4e6)
    assert "this machine has 0.004 GB" in one_line(tmp_path / "problem.npz", capsys)


@pytest.mark.parametrize(
    "arrays",
    [
        {"q": np.array(["a", "b"])},
        {"q": np.array([1 + 2j])},
        {"q": np.zeros(2, [("a", "f8")])},
        {"q": np.zeros(2, "M8[s]")},
        {"q": np.float64(3.0)},
        {**FORMS["sparse"], "P_indices": np.full(N, 9)},
        {**FORMS["sparse"], "P_indptr": np.array([0, 9, 0, 0, 0, N])},
        {**FORMS["sparse"], "P_shape": np.array([10**18, 10**18])},
        {**FORMS["sparse"], "P_shape": np.float64(5)},
        {**FORMS["sparse"], "P_shape": np.array([-5, 5])},
        {**FORMS["sparse"], "P_data": np.array(["x"] * N)},
        {**FORMS["cone"], "cones": ["zero:" + "9" * 30]},
        {**FORMS["cone"], "cones": ["psd:" + "9" * 9]},
        {**FORMS["cone"], "cones": ["power:nan"]},
        {**FORMS["cone"], "cones": ["zero:-1"]},
    ],
)
def test_arrays_that_are_no_program(
    arrays: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    np.savez(tmp_path / "problem.npz", **arrays)
    one_line(tmp_path / "problem.npz", capsys)


def test_what_is_no_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "folder.npz").mkdir()
    assert "no regular file" in one_line(tmp_path / "folder.npz", capsys)
    assert "too long" in one_line(tmp_path / f"{'x' * 300}.npz", capsys)
    one_line(tmp_path / "gone" / "problem.npz", capsys)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_that_nobody_may_read(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "problem.npz").write_bytes(saved())
    (tmp_path / "problem.npz").chmod(0)
    assert "ermission denied" in one_line(tmp_path / "problem.npz", capsys)


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


@FULL
@pytest.mark.parametrize("arguments", [["plugins"], ["plugins", "--json"], ["--version"], []])
def test_a_full_disk(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ffoadapt", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # argparse ignores what it sees itself
        )
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*No space left on device\n", done.stderr)


@FULL
def test_a_page_on_a_full_disk(tmp_path: Path, capsys: Capture) -> None:
    np.savez(tmp_path / "problem.npz", **FORMS["split"])
    assert main(["compare", str(tmp_path / "problem.npz"), *PAIR, "--html", "/dev/full"]) == 2
    assert "cannot be written to /dev/full: No space left" in capsys.readouterr().err
    assert not Path("/dev/full").is_file()  # a device stays one


def test_a_page_is_whole_or_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written under another name, beside the file that a link leads to."""
    out, link = tmp_path / "out.html", tmp_path / "link.html"
    out.write_text("before")
    out.chmod(0o640)
    link.symlink_to(out)
    page._write(link.resolve(), "after")
    assert out.read_text() == "after" and out.stat().st_mode & 0o777 == 0o640

    def fail(path: Path, text: str, **_: Any) -> None:
        with path.open("w") as file:
            file.write(text[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        page._write(out, "again")
    monkeypatch.undo()
    assert out.read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "out.html"]


def test_half_of_a_plugin_is_none(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_text

    def fail(path: Path, text: str, **more: Any) -> int:
        if path.suffix == ".toml":
            raise OSError(28, "No space left on device")
        return written(path, text, **more)

    monkeypatch.setattr(Path, "write_text", fail)
    assert main(["new-plugin", "other-one", "--directory", str(tmp_path)]) == 2
    assert "error: [Errno 28] No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["$", "a_b$c$", r"$\frac{$", "_x_", r"\alpha", "$^$", "<&>"])
def test_names_are_no_formulas(name: str) -> None:
    pytest.importorskip("matplotlib")
    row = Row(name, "optimal", True, forward=1e-3, backward=2e-3, residual=1e-9, raw_residual=1e-6)
    for _, _, svg in draw_plots(Comparison((row,), name)):
        assert f">{escape(name, quote=False)}</text>" in svg


def test_a_solver_whose_exception_has_no_text() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "raises another" in console.reason(SilentError())
    assert console.reason(ValueError("a\n  b")) == "a b"
    assert console.reason(MemoryError()) == "MemoryError"


@pytest.mark.parametrize("command", [["compare", "x.npz"], ["check", "daqp"]])
def test_a_negative_seed(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--seed", "-1"])
    assert "'-1' is negative" in capsys.readouterr().err


# ---------------------------------------------------------------------- the console, the rest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_gets_a_table_and_a_bar(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with progress(2) as tell:
        tell("first")
        tell("[second]")
    console.print_table(("name", "size"), [("[a]", "1"), ("b", "20")], right=("size",))
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    words = [line.split() for line in plain.splitlines() if line.split()]
    assert ["[a]", "1"] in words and ["b", "20"] in words and ["name", "size"] in words
    assert err.getvalue()


def test_importing_ffoadapt_imports_no_command() -> None:
    code = "import ffoadapt, sys; print(*(m for m in sys.modules if m.startswith('ffoadapt._cli')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_a_command_there_is_help(capsys: Capture) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("plugins", "check", "new-plugin", "compare"))
