from vec2face.config import OWN_SETS, RESERVED
from vec2face.evaluation.roles import OTHERS, ROLES, in_order


def test_the_roles_are_the_names_that_parameters_reserve():
    assert list(ROLES) == [*OWN_SETS, *RESERVED]
    assert [name for name, role in ROLES.items() if role.faces] == list(OWN_SETS)


def test_further_sets_come_last_by_name_and_are_told_apart():
    roles = in_order(["zoo", "second", "dcface", "generated", "ants"])
    assert list(roles) == ["generated", "second", "ants", "dcface", "zoo"]
    assert all(role.name == name for name, role in roles.items())
    assert len({role.colour for role in roles.values()}) == len(roles)
    assert len({role.label for role in roles.values()}) == len(roles)
    assert not {role.colour for role in ROLES.values()} & {*OTHERS}


def test_only_the_generated_sets_metrics_have_no_prefix():
    prefixes = {name: role.prefix for name, role in in_order(["real", "generated", "zoo"]).items()}
    assert prefixes == {"generated": "", "real": "real_", "zoo": "zoo_"}
