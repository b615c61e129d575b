import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.rendered import raster

SIZE = 24


def draw(screen, triangles, parts=None, mask=0.0):
    screen = np.asarray(screen, np.float32)
    triangles = np.asarray(triangles, np.int32)
    parts = np.full(len(triangles), raster.GLASSES if parts is None else parts, np.uint8)
    maps = np.zeros((len(triangles), 3, 2), np.float32)
    nearest = np.empty((SIZE, SIZE), np.int32)
    depth = np.empty((SIZE, SIZE), np.float32)
    weights = np.empty((SIZE, SIZE, 2), np.float32)
    hair = np.full((4, 4, 1), mask, np.float32)
    raster.rasterise(screen, triangles, parts, maps, hair, 0.0, nearest, depth, weights)
    return nearest, depth, weights


def inside(triangle, x, y):
    """Same side of all three edges, by cross products."""
    sides = []
    for k in range(3):
        a, b = triangle[k], triangle[(k + 1) % 3]
        sides.append((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
    return all(s > 1e-3 for s in sides) or all(s < -1e-3 for s in sides), all(
        s > -1e-3 for s in sides
    ) or all(s < 1e-3 for s in sides)


@settings(max_examples=40)
@given(st.lists(st.floats(-10, 34, width=32), min_size=6, max_size=6))
def test_exactly_the_pixels_inside_are_covered(numbers):
    points = np.array(numbers, np.float32).reshape(3, 2)
    screen = np.concatenate([points, np.zeros((3, 1), np.float32)], 1)
    nearest, _, weights = draw(screen, [[0, 1, 2]])
    for y in range(SIZE):
        for x in range(SIZE):
            surely, perhaps = inside(points.astype(float), x + 0.5, y + 0.5)
            if surely and abs(np.linalg.det(np.c_[points, [1, 1, 1]])) > 1:
                assert nearest[y, x] == 0
                wa, wb = weights[y, x]
                at = wa * points[0] + wb * points[1] + (1 - wa - wb) * points[2]
                assert np.allclose(at, [x + 0.5, y + 0.5], atol=0.05)
            if not perhaps:
                assert nearest[y, x] == -1


def test_the_nearer_triangle_hides_the_farther_in_either_order():
    corners = [[1, 1], [20, 2], [3, 20]]
    screen = [[*c, z] for z in (0.0, 1.0) for c in corners]
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        nearest, depth, _ = draw(screen, order)
        covered = nearest >= 0
        assert covered.any()
        assert np.all(depth[covered] == 1.0)


def test_skin_seen_from_behind_is_not_drawn():
    screen = [[2, 2, 0], [20, 2, 0], [2, 20, 0]]
    front, back = [[0, 2, 1]], [[0, 1, 2]]
    assert (draw(screen, front, raster.SKIN)[0] >= 0).any()
    assert (draw(screen, back, raster.SKIN)[0] < 0).all()
    assert (draw(screen, back, raster.GLASSES)[0] >= 0).any()  # frames have two sides


def test_hair_is_drawn_where_its_mask_says():
    screen = [[2, 2, 0], [20, 2, 0], [2, 20, 0]]
    assert (draw(screen, [[0, 1, 2]], raster.HAIR, mask=1.0)[0] >= 0).any()
    assert (draw(screen, [[0, 1, 2]], raster.HAIR, mask=0.0)[0] < 0).all()


def test_sampling_wraps_around_the_head_and_interpolates():
    image = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    assert raster.bilinear(image, 0.125, 0.25, 0) == 0  # a texel's centre
    assert raster.bilinear(image, 0.25, 0.25, 0) == 0.5
    assert raster.bilinear(image, 0.0, 0.25, 0) == 1.5  # between columns 3 and 0
    assert raster.bilinear(image, 1.125, 0.25, 0) == 0
    both = np.concatenate([image, -image], 2)
    out = np.zeros(2)
    raster.sample(both, 0.3, 0.4, out)
    assert out[0] == raster.bilinear(image, 0.3, 0.4, 0)
    assert out[1] == -out[0]


def test_halving_averages_blocks():
    picture = np.random.default_rng(0).random((6, 6, 3)).astype(np.float32)
    expected = picture.reshape(3, 2, 3, 2, 3).mean((1, 3))
    assert np.allclose(raster.halve(picture), expected, atol=1e-6)


def test_noise_fills_its_range_evenly():
    values = np.array([raster.scatter(i, j) for i in range(40) for j in range(40)])
    assert values.min() >= 0
    assert values.max() < 1
    assert np.abs(np.histogram(values, 4, (0, 1))[0] / 1600 - 0.25).max() < 0.05
