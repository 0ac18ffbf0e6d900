"""A remark of a scene is on its policy."""

from approval.catalogue.scenes import Remark, Scene, Severity
from tests.factories import make_directory, make_policy


def test_a_remark_names_the_policy_that_the_scene_is_of() -> None:
    scene = Scene(policy=make_policy(), upstream="shop", askers=(), directory=make_directory())
    assert scene.remark(Severity.NOTE, "a_code", "/tools/x", "is odd", "mend it") == Remark(
        severity=Severity.NOTE,
        code="a_code",
        source="test.json",
        path="/tools/x",
        what="is odd",
        remedy="mend it",
    )


def test_severities_are_in_order_the_worst_first() -> None:
    assert [str(each) for each in Severity] == ["error", "warning", "note"]
