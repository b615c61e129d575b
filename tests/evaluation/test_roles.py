from vec2face.config.params import OWN_SETS, RESERVED
from vec2face.evaluation.roles import OTHERS, ROLES, in_order


def test_the_roles_are_the_names_that_parameters_reserve():
    assert list(ROLES) == [*OWN_SETS, *RESERVED]
    assert [name for name, role in ROLES.items() if role.faces] == list(OWN_SETS)


def test_further_sets_come_last_by_name_and_are_told_apart():
    roles = in_order(["zoo", "second", "dcface", "generated", "ants"])
    assert [role.name for role in roles] == ["generated", "second", "ants", "dcface", "zoo"]
    assert len({role.colour for role in roles}) == len({role.label for role in roles}) == 5
    assert not {role.colour for role in ROLES.values()} & {*OTHERS}


def test_only_the_generated_sets_metrics_have_no_prefix():
    roles = in_order(["real", "generated", "zoo"])
    assert [role.prefix for role in roles] == ["", "real_", "zoo_"]
