package extsort

import (
	"bytes"
	"math"
)

// merger merges cursors, with a tree of losers: tree[1:] holds the loser of each
// match, and the winner goes on to the next.
type merger struct {
	cursors []*cursor
	tree    []match
	winner  int32
	started bool
	last    []byte // the key of the record before
}

// match is a loser, with its prefix close by.
type match struct {
	prefix uint64
	cursor int32
}

// newMerger merges cursors. Of equal keys, those of an earlier cursor come first.
func newMerger(cursors []*cursor) (*merger, error) {
	m := &merger{cursors: cursors, tree: make([]match, len(cursors))}
	for _, c := range cursors {
		if err := c.next(); err != nil {
			return nil, err
		}
	}
	if len(cursors) > 0 {
		m.winner = m.play(1)
	}
	return m, nil
}

// play plays all matches beneath a node for the first time, and returns the
// winner. Nodes from len(cursors) on are the cursors themselves.
func (m *merger) play(node int) int32 {
	if node >= len(m.cursors) {
		return int32(node - len(m.cursors))
	}
	a, b := m.play(2*node), m.play(2*node+1)
	if m.beats(b, a) {
		a, b = b, a
	}
	m.tree[node] = match{m.prefix(b), b}
	return a
}

func (m *merger) prefix(i int32) uint64 {
	if c := m.cursors[i]; !c.done {
		return c.prefix
	}
	return math.MaxUint64
}

// beats reports whether the record of cursor a comes before that of b.
func (m *merger) beats(a, b int32) bool {
	ca, cb := m.cursors[a], m.cursors[b]
	if ca.done || cb.done {
		return !ca.done
	}
	if d := ca.compare(&cb.head); d != 0 {
		return d < 0
	}
	return a < b
}

// next returns the next record, and whether its key is that of the one before;
// nil after the last.
func (m *merger) next() (h *head, same bool, err error) {
	if len(m.cursors) == 0 {
		return nil, false, nil
	}
	if m.started {
		c := m.cursors[m.winner]
		if err := c.next(); err != nil {
			return nil, false, err
		}
		// What was the first of its key is so still.
		if c.same && !c.done {
			return &c.head, true, nil
		}
		m.replay()
	}
	c := m.cursors[m.winner]
	if c.done {
		return nil, false, nil
	}
	same = m.started && bytes.Equal(c.key, m.last)
	if !same {
		m.last = append(m.last[:0], c.key...)
	}
	m.started = true
	return &c.head, same, nil
}

// replay plays the matches of the last winner again.
func (m *merger) replay() {
	w := m.winner
	p := m.prefix(w)
	for node := (int(w) + len(m.cursors)) / 2; node > 0; node /= 2 {
		t := &m.tree[node]
		if t.prefix < p || t.prefix == p && m.beats(t.cursor, w) {
			w, t.cursor = t.cursor, w
			p, t.prefix = t.prefix, p
		}
	}
	m.winner = w
}
