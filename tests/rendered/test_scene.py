from dataclasses import replace

import numpy as np
import pytest

from vec2face.faces.align import TEMPLATE
from vec2face.randomness import stream
from vec2face.rendered.conditions import Regime, draw_conditions
from vec2face.rendered.people import draw_person
from vec2face.rendered.scene import Sitter, render

STILL = Regime(yaw=0, pitch=0, expression=0, jitter=0, noise=0, exposure=0)


@pytest.fixture(scope="module")
def person(geometry):
    drawn = (draw_person(geometry, 3, "p", i) for i in range(50))
    return next(p for p in drawn if p.melanin < 0.3 and not p.female and p.style[2] < 0.05)


@pytest.fixture(scope="module")
def conditions(person):
    return draw_conditions(stream(1, "c", 0), person, STILL)


@pytest.fixture(scope="module")
def picture(studio, person, conditions):
    return render(Sitter(studio, person), conditions)


def changed(a, b, threshold=6):
    """Rows and columns of the pixels that differ."""
    return np.nonzero(np.abs(a.astype(int) - b.astype(int)).max(-1) > threshold)


def test_a_picture_is_a_function_of_its_arguments(studio, person, conditions, picture):
    assert picture.shape == (112, 112, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, render(Sitter(studio, person), conditions))


def test_skin_fills_the_middle_and_the_background_the_corner(picture):
    cheek = picture[70:80, 36:44].reshape(-1, 3).mean(0)
    corner = picture[:4, :4].reshape(-1, 3).mean(0)
    assert cheek[0] > cheek[1] > cheek[2]  # warm
    assert corner[2] >= corner[0]  # the plain background is cool


def test_eyes_lie_on_the_template(studio, person, conditions, picture):
    other = replace(person, iris=np.array([0.9, 0.0, 0.0]))
    rows, columns = changed(picture, render(Sitter(studio, other), conditions))
    assert len(rows) > 6
    points = np.stack([columns, rows], 1)
    distance = np.linalg.norm(points[:, None] - TEMPLATE[None, :2], axis=-1)
    assert distance.min(1).max() < 7
    assert np.all((distance < 7).any(0))  # both of them


def test_lips_lie_on_the_template(studio, person, conditions, picture):
    other = replace(person, lips=np.array([0.0, 0.0, 0.9]))
    clean = replace(conditions, beard=0.0)
    before = render(Sitter(studio, person), clean)
    rows, columns = changed(before, render(Sitter(studio, other), clean), 20)
    assert abs(columns.mean() - TEMPLATE[3:, 0].mean()) < 4
    assert abs(rows.mean() - TEMPLATE[3:, 1].mean()) < 6


def test_a_turned_head_shows_one_side(studio, person, conditions):
    """The nearer half of the face takes up more of the picture."""
    other = replace(person, iris=np.array([0.9, 0.0, 0.0]))
    turned = replace(conditions, yaw=55.0)
    before = render(Sitter(studio, person), turned)
    _, columns = changed(before, render(Sitter(studio, other), turned))
    # Turned to the picture's right, the picture's right eye is foreshortened.
    assert np.ptp(columns[columns < 56]) > np.ptp(columns[columns >= 56])


def test_exposure_brightens_and_light_comes_from_its_side(studio, person, conditions, picture):
    sitter = Sitter(studio, person)
    means = [render(sitter, replace(conditions, exposure=e)).mean() for e in (-2, -1, 0, 1)]
    assert np.all(np.diff(means) > 5)
    lights = conditions.lights.copy()
    lights[0] *= 0.3
    lights[1] *= 0.3
    halves = []
    for side in (-1, 1):
        lights[2] = [0.9 * side, 0.2, 0.4]
        lit = render(sitter, replace(conditions, lights=lights)).astype(float)
        halves.append(lit[40:100, 62:80].mean() - lit[40:100, 32:50].mean())
    assert halves[0] < -15  # from the left: the right half is darker
    assert halves[1] > 15


def test_age_beard_glasses_and_hair_show_where_they_belong(studio, person, conditions, picture):
    sitter = Sitter(studio, person)

    def rows_of(**change):
        return changed(picture, render(sitter, replace(conditions, **change)), 12)[0]

    frame = np.array([0.24, 0.18, 3.0, 0.03, 0.01])
    assert 40 < np.median(rows_of(glasses=frame)) < 66
    clean = render(sitter, replace(conditions, beard=0.0))
    full = render(sitter, replace(conditions, beard=1.0))
    assert np.percentile(changed(clean, full, 12)[0], 5) > 66
    style = conditions.style.copy()
    style[0] = 1.0 if style[0] < 0.5 else 0.15
    assert len(rows_of(style=style)) > 300
    assert len(rows_of(age=80.0)) > 300


def test_people_look_different_in_equal_conditions(studio, geometry, conditions):
    pictures = []
    for index in range(6):
        other = draw_person(geometry, 5, "q", index)
        pictures.append(render(Sitter(studio, other), conditions, 56).astype(float))
    for i in range(6):
        for j in range(i):
            assert np.abs(pictures[i] - pictures[j])[20:50, 14:42].mean() > 6
