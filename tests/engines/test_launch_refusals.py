"""Whatever is wrong in the settings or in a launch is one line that names it, before any request is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud.launch import LAUNCH, call_script, modules, write_settings

# Of each variable, what cannot be meant; TF_VAR_* repeat them.
_WRONG = {
    "PROJECT": ["My Project", "x", "a_b_c_d_e"],
    "REGION": ["us-central1-a", "US", "europe"],
    "INPUT": ["/data/*.jsonl", "gs://my-texts", "my-texts/*.jsonl"],
    "NOTIFY": ["me", "me@example", "'me @example.com'"],
    "TASK": ["embedding", "Embed"],
    "BUCKET": ["gs://b-jobs", "UPPER", "my-project-embedding-models"],
    "MODELS": ["gs://b-models", "a"],
    "STATE": ["gs://b-state"],
    "OUTPUT": ["embeddings", "gs://my-project-embedding-jobs"],
    "TAG": [
        "embed:1",
        "europe-west1-docker.pkg.dev/my-project/jobs/embed:1",
        "us-docker.pkg.dev/p/jobs/embed",
    ],
    "TEMPLATE": ["templates/embed.json", "gs://b-models/templates/embed"],
    "WORKER": ["embedding-worker", "me@example.com"],
    "SCHEDULER": ["embedding-scheduler@", "me@example.com"],
    "BUNDLE": ["minilm", "gs://b/x", "gs://b/x@sha256:00"],
    "IMAGE": ["us-central1-docker.pkg.dev/my-project/jobs/embed:1", "embed@sha256:" + "0" * 64],
    "MAX_WORKERS": ["0", "-1", "ten", "1001", "2.5"],
    "KMS_KEY": ["my-key", "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"],
    "SUBNETWORK": ["default", "regions/europe-west1/subnetworks/s"],
    "PRIVATE_WORKERS": ["yes", "TRUE", "1"],
    "PAUSED": ["no", "0"],
}


def names() -> list[str]:
    lines = (LAUNCH / "settings.env.example").read_text(encoding="utf-8").splitlines()
    found = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return [name for name in found if not name.startswith("TF_VAR_")]


def test_every_variable_is_here() -> None:
    assert names() == [name for name in names() if name in _WRONG]
    assert set(_WRONG) == set(names())


@pytest.mark.parametrize("name", _WRONG)
def test_a_variable_that_is_wrong_or_left_out_is_named(tmp_path: Path, name: str) -> None:
    for value in _WRONG[name]:
        path = write_settings(tmp_path, **{name: value})
        for script in ("submit", "check"):
            code, _, err = call_script(script, f"--settings={path}")
            number = 1 + [line.partition("=")[0] for line in path.read_text().splitlines()].index(name)
            # BUCKET is wrong for being that of MODELS: one line, which names both.
            assert code == 1
            assert f"{path}:{number}: {name}" in err or f"{name}, too" in err, (value, err)
    path = write_settings(tmp_path)
    kept = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}=")]
    path.write_text("\n".join(kept))
    code, _, err = call_script("submit", f"--settings={path}")
    assert code == 1
    assert f"{name} is missing" in err or f"names ${name}, which no earlier line sets" in err


@pytest.mark.parametrize(("name", "step"), [("BUNDLE", 2), ("IMAGE", 3)])
def test_what_a_step_writes_is_asked_for_with_the_step(tmp_path: Path, name: str, step: int) -> None:
    path = write_settings(tmp_path, **{name: ""})
    code, _, err = call_script("submit", f"--settings={path}", "--print_only")
    assert (code, f"{name} is empty; step {step} of launch/README.md writes it" in err) == (1, True)


@pytest.mark.parametrize("script", ["settings", "check", "submit", "schedule", "build_template"])
def test_without_settings_each_script_says_how_to_begin(tmp_path: Path, script: str) -> None:
    path = tmp_path / "settings.env"
    code, out, err = call_script(script, f"--settings={path}")
    assert (code, out) == (1, "")
    assert f"--settings {path}: there are no settings yet. Make your copy: cp " in err
    assert f"{LAUNCH / 'settings.env.example'} {path}" in err
    code, _, err = call_script("settings", f"--settings={path}", "PROJECT=my-project")
    assert (code, "there are no settings yet" in err) == (1, True)


def test_a_copy_of_the_settings_is_not_committed() -> None:
    ignored = (LAUNCH.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/launch/settings.env" in ignored


def test_settings_are_written_where_they_are_valid(tmp_path: Path) -> None:
    path = write_settings(tmp_path)
    assert (
        call_script("settings", f"--settings={path}", "MAX_WORKERS=3", "INPUT=gs://a-b/{date}/a b\\1.txt")[0]
        == 0
    )
    with modules("settings") as (module,):
        values = module.read_settings(path).values
    assert (values["MAX_WORKERS"], values["INPUT"]) == ("3", "gs://a-b/{date}/a b\\1.txt")
    assert values["TF_VAR_max_workers"] == "3"
    before = path.read_text()
    for text in ("MAX_WORKERS=many", "MAX_WORKER=3", "MAX_WORKERS"):
        code, _, err = call_script("settings", f"--settings={path}", text)
        assert (code, "MAX_WORKER" in err) == (1, True)
        assert path.read_text() == before


@pytest.mark.parametrize("line", ["PROJECT = my-project", "export PROJECT=x", "PROJECT='x", "BUCKET=$(id)"])
def test_a_line_that_a_shell_would_read_otherwise_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "settings.env"
    path.write_text(f"# one\n{line}\n")
    code, _, err = call_script("settings", f"--settings={path}")
    assert (code, f"{path}:2: " in err) == (1, True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--job_name=Night"], "--job_name Night: expected"),
        (["--temp_location=/tmp"], "--temp_location /tmp: expected gs://"),
        (["--service_account=me"], "--service_account me: expected"),
        (["--machine_type=big"], "--machine_type big: expected"),
        (["--machine_type=t2a-standard-4"], "Arm machine"),
        (["--machine_type=c4a-standard-4"], "Arm machine"),
        (["--launcher_machine_type=bogus"], "--launcher_machine_type bogus: expected"),
        (["--launcher_machine_type=t2a-standard-1"], "Arm machine"),
        (["--network=a b"], "--network a b: expected the name of a network"),
        (["--experiment="], "--experiment '': expected a name"),
        (["--pipeline_option=runner=DirectRunner"], "a template runs on Dataflow"),
        (["--pipeline_option=max_num_workers=900"], "max_num_workers=900: use --max_workers."),
        (["--pipeline_option=sdk_container_image=x"], "use --image."),
        (["--label=goog-x=1"], "not goog"),
        (["--disk_size_gb=10"], "--disk_size_gb 10: expected at least 30"),
        (["--num_workers=0"], "--num_workers 0: expected at least 1"),
        (["--num_workers=20"], "--num_workers 20 is more than --max_workers 10"),
        (["--max_workers=0"], "--max_workers 0: expected a number from 1 to 1000"),
        (["--subnetwork=s"], "--subnetwork s: expected regions/"),
        (["--subnetwork=regions/europe-west1/subnetworks/s"], "expected regions/us-central1/subnetworks"),
        (["--kms_key=k"], "--kms_key k: expected projects/"),
        (["--image=embed:1"], "--image embed:1: expected an image by digest"),
        (["--region=us-central1-a"], "--region us-central1-a: expected a region"),
        (["--spot"], "no workers that are only Spot machines. --flexrs"),
        (
            ["--flexrs", "--pipeline_option=dataflow_service_options=worker_accelerator=x"],
            "FlexRS has no GPUs",
        ),
        (["--pipeline_option=--a=b"], "expected NAME=VALUE, without dashes"),
        (["--label=Team=search"], "--label Team=search: expected lower-case"),
        (["--label=team"], "--label team: expected NAME=VALUE"),
        (["--parameter=--limit=x"], "expected NAME=VALUE, without dashes"),
        (["--parameter=keep_text"], "expected NAME=VALUE, without dashes"),
        (["--parameter=date=2026-11-01", "--parameter=date=2026-11-02"], "date is given twice"),
    ],
)
def test_a_launch_that_cannot_be_meant_is_refused(tmp_path: Path, flags: list[str], said: str) -> None:
    code, out, err = call_script("submit", f"--settings={write_settings(tmp_path)}", *flags, "--print_only")
    assert (code, out) == (1, "")
    assert said in err


@pytest.fixture(scope="module")
def template() -> Iterator[tuple[Any, Any]]:
    """The functions ``check_parameters`` and ``read_metadata``."""
    with modules("parameters", "make_metadata") as (parameters, make_metadata):
        yield parameters.check_parameters, make_metadata.read_metadata


_GOOD = {
    "input": "gs://my-texts/{date-1}/*.jsonl",
    "output": "gs://my-jobs/out",
    "run_id": "night-{date}",
    "bundle": "gs://m/x@sha256:" + "0" * 64,
}
# Of parameters that are texts, what their meaning forbids; other texts may be anything but empty.
_TEXTS = {
    "allow_ops": ["Read File", "a/b"],
    "bundle": ["not a name", "bundle@sha256:12", "s3://b/x"],
    "bundle_store": ["/local", "bucket"],
    "column_names": ["a,a"],
    "column_types": ["a", "a=banana", "a=bool,b", "x=bool"],
    "comment_prefix": [],
    "date": ["yesterday", "2026-13-01", "2026-1-1", "28.11.2026"],
    "delimiter": [";;", '"'],
    "encoding": ["utf9"],
    "gold_column": [],
    "id_column": [],
    "input": ["gs://bucket", "/data/*.jsonl", "my-texts/*", "gs://b/{dat}/x{date:"],
    "keep_columns": ["a,a", "a,A"],
    "layer": [],
    "output": ["/local", "embeddings"],
    "previous": ["last", "/local"],
    "prompt": [],
    "prompt_text": [],
    "rename_columns": ["a", "a=", "a=b,c", "x=y"],
    "run_id": ["a/b", "-a", "night-{date:%Y-%m}", "night-{dat"],
    "stop_after_dead": ["many", "-1", "0", "1.5", "nan"],
    "text_column": ["a,a"],
    "text_pair_column": ["a,a"],
    "text_separator": ["\\n", "\\t"],
    "timezone": ["Berlin", "UTC+1"],
    "window_language": [],
}


def wrong_values(parameter: dict[str, Any], kind: Any) -> list[str]:
    """What a parameter's type forbids."""
    if parameter.get("paramType") == "BOOLEAN":
        return ["", "yes", "1", "banana"]
    if kind is int:
        return [
            "",
            "many",
            "-1",
            "1.5",
            "1e3",
            *([] if parameter["name"] in ("max_dead_files", "window_overlap") else "0"),
        ]
    if kind is float:
        return ["", "many", "-1", "nan", "inf", "1,5"]
    if parameter.get("paramType") == "TEXT":
        return ["", "banana", parameter["name"].upper()]
    return ["", *_TEXTS[parameter["name"]]]


@pytest.mark.parametrize("task", ["embed", "classify"])
def test_each_parameter_wrong_in_each_way_is_refused(template: tuple[Any, Any], task: str) -> None:
    from beam_jobs.job.flags.parsers import classify_parser, embed_parser

    check, read_metadata = template
    check(task, _GOOD)
    parser = embed_parser() if task == "embed" else classify_parser()
    kinds = {action.dest: action.type for action in parser._actions}
    found = 0
    for parameter in read_metadata(task)["parameters"]:
        name = parameter["name"]
        for value in wrong_values(parameter, kinds[name]):
            with pytest.raises(SystemExit) as refused:
                check(task, _GOOD | {name: value})
            assert name in str(refused.value).replace("--parameter: Expected --", "")
            found += 1
        with pytest.raises(SystemExit, match="no such parameter"):
            check(task, _GOOD | {f"{name}s": "1"})
    assert found > 120


@pytest.mark.parametrize(
    ("task", "changed", "said"),
    [
        ("embed", {"tex_column": "body"}, "no such parameter. Did you mean text_column?"),
        ("embed", {"top_k": "3"}, "no such parameter"),
        ("classify", {"layer": "-1"}, "no such parameter"),
        ("embed", {"keep_text": "true", "no_text": "true"}, "leave one of them out"),
        ("embed", {"emit": "changes"}, "--emit changes needs --previous"),
        ("embed", {"bundle_store": "gs://b/x", "bundle_in_image": "true"}, "give only one"),
        ("embed", {"max_dead_fraction": "1.5"}, "a fraction from 0 to 1"),
        ("embed", {"max_cost": "0"}, "--max_cost 0: expected an amount above 0"),
        ("embed", {"checkpoint_seconds": "0"}, "--checkpoint_seconds must be above 0"),
        ("embed", {"rename_columns": "a=b"}, "--keep_columns"),
        ("embed", {"input": "gs://b/x", "run_id": "a", "date": "2026-11-01"}, "leave it out"),
    ],
)
def test_slips_and_contradictions_are_named(
    template: tuple[Any, Any], task: str, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        template[0](task, _GOOD | changed)
    assert said in str(refused.value)


def test_what_is_required_is_asked_for(template: tuple[Any, Any]) -> None:
    for task, missing in (("embed", {"input", "output"}), ("classify", {"input", "output", "bundle"})):
        with pytest.raises(SystemExit) as refused:
            template[0](task, {})
        lines = str(refused.value).splitlines()
        assert {line.split()[1] for line in lines if "is missing" in line} == missing
