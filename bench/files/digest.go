package main

import (
	"fmt"
	"math/bits"
	"strconv"

	"github.com/zeebo/xxh3"
)

// digest identifies the content of an output, which consists of key-value pairs. Depending on the job, a value is a
// row, a field or a result. The order of keys does not affect the digest.
type digest struct {
	Keys, Pairs uint64
	Rows        uint64 // sum of the pairs' hashes; the order of a key's values does not affect it
	Ordered     uint64 // hash that also depends on the order of each key's values
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

func (d *digest) addKey(c chain) {
	d.Keys++
	d.Pairs += c.pairs
	d.Rows += c.rows
	d.Ordered += bits.RotateLeft64(c.ordered*chainPrime, 31) * chainPrime
}

// grouping computes the digest of pairs that are grouped by key. If a key's pairs are not
// adjacent, the key counts twice, so the digest shows that the output is wrong.
type grouping struct {
	d          digest
	currentKey []byte
	hash       uint64
	chain      chain
	hasKey     bool
}

func (g *grouping) add(key, value []byte) {
	if !g.hasKey || string(key) != string(g.currentKey) {
		g.finish()
		g.currentKey = append(g.currentKey[:0], key...)
		g.hash, g.hasKey = xxh3.Hash(key), true
	}
	g.chain.add(g.hash, value)
}

func (g *grouping) finish() {
	if g.hasKey {
		g.d.addKey(g.chain)
	}
	g.chain, g.hasKey = chain{}, false
}

func (g *grouping) result() digest {
	g.finish()
	return g.d
}

// expectedOutputs holds the digests of correct outputs.
type expectedOutputs struct {
	rows   digest // for the jobs shuffle, split and sort: pairs of a key and a row
	sums   digest // for the job sum: pairs of a key and the result of sumOf
	values digest // for the job values: pairs of a key and a value
}

// expectedBuilder computes expectedOutputs from rows, which must be added in input order.
type expectedBuilder struct {
	src  *input
	keys map[string]*keyState
}

type keyState struct {
	hash         uint64
	rows, values chain
	sum          float64
}

func newExpectedBuilder(src *input) *expectedBuilder {
	return &expectedBuilder{src: src, keys: map[string]*keyState{}}
}

func (e *expectedBuilder) add(line []byte) error {
	key, ok := e.src.field(line, e.src.keyNumber)
	value, ok2 := e.src.field(line, e.src.valueNumber)
	if !ok || !ok2 {
		return fmt.Errorf("%s: line %q has no key field or no value field", e.src.path, line)
	}
	k := e.keys[string(key)]
	if k == nil {
		k = &keyState{hash: xxh3.Hash(key)}
		e.keys[string(key)] = k
	}
	k.rows.add(k.hash, line)
	k.values.add(k.hash, value)
	if e.src.sumNumber > 0 {
		number, _ := e.src.field(line, e.src.sumNumber)
		x, err := strconv.ParseFloat(string(number), 64)
		if err != nil {
			return fmt.Errorf("%s: adding %q: %w", e.src.path, number, err)
		}
		k.sum += x
	}
	return nil
}

func (e *expectedBuilder) result() (x expectedOutputs) {
	for key, k := range e.keys {
		x.rows.addKey(k.rows)
		x.values.addKey(k.values)
		var c chain
		c.add(xxh3.HashString(key), sumOf(k.rows.pairs, k.sum))
		x.sums.addKey(c)
	}
	return x
}

// sumOf formats a count and a sum for comparison. Two decimals suffice, because values have no
// more.
func sumOf(count uint64, sum float64) []byte {
	b := append(strconv.AppendUint(nil, count, 10), ',')
	if sum == 0 {
		sum = 0 // avoid -0
	}
	return strconv.AppendFloat(b, sum, 'f', 2, 64)
}
