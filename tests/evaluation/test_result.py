"""Where records go."""

import pytest

from lit_gen.evaluation.result import beside_others, save_record


def test_a_record_replaces_only_one_of_the_same_protocol(tmp_path):
    path = tmp_path / "step=1-fid-0.5"
    for protocol, expected in (({"count": 4}, ""), ({"count": 8}, "-2"), ({"count": 4}, ""), ({"count": (8,)}, "-3")):
        found = beside_others(path, protocol)
        assert found.name == f"{path.name}{expected}"
        save_record(found, {"protocol": protocol})
    assert beside_others(path, {"count": [8]}).name == f"{path.name}-3"


@pytest.mark.parametrize("content", ["", "[1]", "{}", "half a rec"])
def test_what_is_no_record_is_not_replaced(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert beside_others(tmp_path / "a", {}).name == "a-2"
