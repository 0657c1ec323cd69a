"""Registered roots: what is below them, and what is not; passwords in URIs."""

from pathlib import Path

import pytest

from scoreinv.errors import UserError
from storage.roots import checked_roots, place_below, workspace_below
from storage.sources import NiftiSource
from storage.uri import masked, without_credentials
from tasks.running.shards import Execution

BUCKET = "s3://bucket/in"


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    """A folder with a link out of it, and a bucket; beside the folder lies what nobody may read."""
    (tmp_path / "scans" / "chest").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "scans" / "out").symlink_to(tmp_path / "secret")
    return {"scans": str(tmp_path / "scans"), "bucket": BUCKET}


def test_a_place_below_a_root(roots: dict[str, str]) -> None:
    assert place_below(roots, "scans/chest/") == f"{roots['scans']}/chest"
    assert place_below(roots, "scans") == roots["scans"]
    assert place_below(roots, "bucket/a/b") == f"{BUCKET}/a/b"


@pytest.mark.parametrize(
    "text",
    [
        *("/etc", "~", "~/x", "", ".", "..", "../secret", "other/x", "scansx", "file:///etc", "s3://bucket/in/x"),
        *(
            "scans/../secret",
            "scans/..",
            "scans//etc",
            "scans/./x",
            "scans\\x",
            "scans/a\nb",
            "scans/out",
            "scans/out/x",
        ),
        *("scans/out/x", "bucket/../x", "memory://x", "shipped:../x"),
    ],
)
def test_other_places_are_refused(roots: dict[str, str], text: str) -> None:
    with pytest.raises(UserError):
        place_below(roots, text)


def test_who_names_no_root_is_told_those_there_are(roots: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"'/etc' is not below a registered root: .* bucket, scans; `scoreinv deploy"):
        place_below(roots, "/etc")
    with pytest.raises(UserError, match="none yet"):
        place_below({}, "/etc")


def test_a_workspace_is_below_a_root_or_beside_the_run(roots: dict[str, str]) -> None:
    assert workspace_below(roots, "workspace") == "workspace"
    assert workspace_below(roots, "wards/seven/") == "wards/seven"
    assert workspace_below(roots, "bucket/results") == f"{BUCKET}/results"
    for text in ("/tmp/x", "../x", "x/../..", "file:///x", "s3://other/x", "~/x", "scans/../x", "", "."):
        with pytest.raises(UserError):
            workspace_below(roots, text)


@pytest.mark.parametrize(
    "given",
    [[], "scans", {"scans": "relative"}, {"a b": "/x"}, {"": "/x"}, {"x": 1}, {"x": ""}, {"s": "s3://key:word@bucket"}],
)
def test_roots_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(UserError) as refused:
        checked_roots(given)
    assert "key:word" not in str(refused.value)


@pytest.mark.parametrize("uri", ["s3://key:word@bucket/in", "https://me:word@host/x", "s3://:word@bucket"])
def test_a_uri_with_a_password_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError, match=r"\*\*\*@.* holds a password") as refused:
        without_credentials(uri)
    assert "word@" not in str(refused.value)
    with pytest.raises(ValueError, match="holds a password"):
        NiftiSource(path=uri)
    with pytest.raises(ValueError, match="holds a password"):
        Execution(workspace=uri)
    assert "word" not in masked(f"no such place {uri}")


def test_an_at_sign_is_no_password() -> None:
    for uri in ("abfs://container@account.dfs.core.windows.net/x", "s3://bucket/a:b@c", "/data/a:b@c"):
        assert without_credentials(uri) == uri
