package main

import (
	"fmt"
	"math/bits"
	"strconv"

	"github.com/zeebo/xxh3"
)

// digest identifies the content of an output: pairs of a key and a value. A value is a
// row, a field or a result. The digest holds sums over all pairs, so the order of keys
// does not matter.
type digest struct {
	Keys, Pairs uint64
	Rows        uint64 // sum of the pairs' hashes, independent of order
	Ordered     uint64 // depends on the order of each key's values
}

// chain is the digest of one key's values, in order.
type chain struct{ pairs, rows, ordered uint64 }

const chainPrime = 0x9E3779B185EBCA87

func (c *chain) add(keyHash uint64, value []byte) {
	h := xxh3.HashSeed(value, keyHash)
	c.pairs++
	c.rows += h
	c.ordered = c.ordered*chainPrime + h
}

// addKey adds the values of a key.
func (d *digest) addKey(c chain) {
	d.Keys++
	d.Pairs += c.pairs
	d.Rows += c.rows
	d.Ordered += bits.RotateLeft64(c.ordered*chainPrime, 31) * chainPrime
}

// grouping digests pairs that are grouped by key. If a key's pairs are in two places, the
// key counts twice, and the output is wrong.
type grouping struct {
	d       digest
	current []byte
	hash    uint64
	chain   chain
	started bool
}

func (g *grouping) add(key, value []byte) {
	if !g.started || string(key) != string(g.current) {
		g.finish()
		g.current = append(g.current[:0], key...)
		g.hash, g.started = xxh3.Hash(key), true
	}
	g.chain.add(g.hash, value)
}

func (g *grouping) finish() {
	if g.started {
		g.d.addKey(g.chain)
	}
	g.chain, g.started = chain{}, false
}

func (g *grouping) end() digest {
	g.finish()
	return g.d
}

// expected holds the digests of correct outputs.
type expected struct {
	rows   digest // shuffle, split, sort: key and row
	sums   digest // key, and count and sum
	values digest // key and value
}

// expectedBuilder computes expected from the rows in input order.
type expectedBuilder struct {
	in   *input
	keys map[string]*keyState
}

type keyState struct {
	hash         uint64
	rows, values chain
	sum          float64
}

func newExpectedBuilder(in *input) *expectedBuilder {
	return &expectedBuilder{in: in, keys: map[string]*keyState{}}
}

func (e *expectedBuilder) add(line []byte) error {
	key, ok := e.in.field(line, e.in.key)
	value, ok2 := e.in.field(line, e.in.value)
	if !ok || !ok2 {
		return fmt.Errorf("%s: line %q lacks the field to group by or the field of values", e.in.path, line)
	}
	k := e.keys[string(key)]
	if k == nil {
		k = &keyState{hash: xxh3.Hash(key)}
		e.keys[string(key)] = k
	}
	k.rows.add(k.hash, line)
	k.values.add(k.hash, value)
	if e.in.sumColumn > 0 {
		number, _ := e.in.field(line, e.in.sumColumn)
		x, err := strconv.ParseFloat(string(number), 64)
		if err != nil {
			return fmt.Errorf("%s: adding %q: %w", e.in.path, number, err)
		}
		k.sum += x
	}
	return nil
}

func (e *expectedBuilder) end() (x expected) {
	for key, k := range e.keys {
		x.rows.addKey(k.rows)
		x.values.addKey(k.values)
		var c chain
		c.add(xxh3.HashString(key), sumOf(k.rows.pairs, k.sum))
		x.sums.addKey(c)
	}
	return x
}

// sumOf formats a count and a sum for comparison. Values have at most two decimals.
func sumOf(count uint64, sum float64) []byte {
	b := append(strconv.AppendUint(nil, count, 10), ',')
	if sum == 0 {
		sum = 0 // avoid -0
	}
	return strconv.AppendFloat(b, sum, 'f', 2, 64)
}
