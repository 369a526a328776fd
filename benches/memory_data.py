"""Vectors as embeddings of texts are, and their exact neighbours. Needs numpy.

A text has a topic and something of its own. Topics are points in 48 dimensions whose spread falls with the square root of
their number, as the spectrum of embeddings does; there is one for about 200 texts, some far more frequent than others
(Zipf). A text is its topic plus 0.6 times a point of its own of the same kind. Those 48 dimensions are turned at random into
all of them; noise of 0.03 fills the rest, and all vectors lean to one side (0.25 of their length), as those of language
models do. Queries are drawn alike, and none is among the vectors.
"""

import numpy

INTRINSIC = 48
TEXTS_OF_A_TOPIC = 200


def synthetic(count, dimensions, of, seed):
    """`count` vectors of unit length, single precision, as a set of `of` vectors has them."""
    chance = numpy.random.default_rng(1)
    spread = 1 / numpy.sqrt(1 + numpy.arange(INTRINSIC))
    topics = chance.normal(size=(5000, INTRINSIC)) * spread
    turn = numpy.linalg.qr(chance.normal(size=(dimensions, INTRINSIC)))[0].T
    side = chance.normal(size=dimensions)
    side *= 0.25 * numpy.linalg.norm(spread) / numpy.linalg.norm(side)
    own = numpy.random.default_rng(seed)
    used = min(len(topics), max(8, of // TEXTS_OF_A_TOPIC))
    weights = 1 / (5 + numpy.arange(used))
    found = numpy.empty((count, dimensions), numpy.float32)
    for begin in range(0, count, 10_000):
        size = min(10_000, count - begin)
        topic = own.choice(used, size=size, p=weights / weights.sum())
        points = topics[topic] + 0.6 * spread * own.normal(size=(size, INTRINSIC))
        values = points @ turn + side + 0.03 * own.normal(size=(size, dimensions))
        found[begin:begin + size] = values / numpy.linalg.norm(values, axis=1, keepdims=True)
    return found


def exact(path, dimensions, queries, k):
    """The numbers of the `k` vectors of the file that are nearest to each query, computed in single precision."""
    best = numpy.full((len(queries), k), -2.0, numpy.float32)
    ids = numpy.zeros((len(queries), k), numpy.int64)
    for begin, vectors in pieces(path, dimensions, 20_000):
        scores = numpy.concatenate([best, queries @ vectors.T], axis=1)
        numbers = numpy.concatenate([ids, numpy.broadcast_to(numpy.arange(begin, begin + len(vectors)),
                                                             (len(queries), len(vectors)))], axis=1)
        chosen = numpy.argpartition(-scores, k, axis=1)[:, :k]
        best = numpy.take_along_axis(scores, chosen, axis=1)
        ids = numpy.take_along_axis(numbers, chosen, axis=1)
    return ids.tolist()


def pieces(path, dimensions, size):
    """The vectors of a file, `size` at a time, each with the number of the first."""
    with open(path, "rb") as file:
        begin = 0
        while len(values := numpy.fromfile(file, numpy.float32, size * dimensions)):
            vectors = values.reshape(-1, dimensions)
            yield begin, vectors
            begin += len(vectors)
