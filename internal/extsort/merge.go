package extsort

import "bytes"

// merger merges cursors, with a tree of losers: tree[1:] holds the loser of each
// match, and the winner goes on to the next. Each cursor on the winner's way up has a
// code that says where its key leaves the key of the last winner, so that most matches
// are decided without a look at the keys (offset-value coding: Conner, 1977; Do and
// Graefe, 2022).
type merger struct {
	cursors []*cursor
	codes   []code // of each cursor
	tree    []int32
	winner  int32
	started bool
}

// newMerger merges cursors. Of equal keys, those of an earlier cursor come first.
func newMerger(cursors []*cursor) (*merger, error) {
	m := &merger{cursors: cursors, codes: make([]code, len(cursors)), tree: make([]int32, len(cursors))}
	for i, c := range cursors {
		if err := c.next(); err != nil {
			return nil, err
		}
		m.codes[i] = c.code
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
	m.tree[node] = b
	return a
}

// beats reports whether the record of cursor a comes before that of b. The code of the
// one that comes later is then by the key of the other.
func (m *merger) beats(a, b int32) bool {
	x, y := m.codes[a], m.codes[b]
	switch {
	case x.common != y.common:
		return x.common > y.common
	case x.word != y.word:
		return x.word < y.word
	case x.common == ended || x.common == wholeKey:
		return a < b
	case x.common == longer: // by as many zeros
		m.codes[max(a, b)] = code{wholeKey, 0}
		return a < b
	}
	ka, kb := m.cursors[a].key, m.cursors[b].key
	from := min(8*x.common, len(ka), len(kb))
	d := bytes.Compare(ka[from:], kb[from:])
	if d < 0 || d == 0 && a < b {
		m.codes[b] = codeOf(kb, ka, from/8)
		return true
	}
	m.codes[a] = codeOf(ka, kb, from/8)
	return false
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
		if c.common == wholeKey {
			return &c.head, true, nil
		}
		m.codes[m.winner] = c.code
		m.replay()
	}
	m.started = true
	c := m.cursors[m.winner]
	if c.common == ended {
		return nil, false, nil
	}
	return &c.head, m.codes[m.winner].common == wholeKey, nil
}

// replay plays the matches of the last winner again.
func (m *merger) replay() {
	w := m.winner
	for node := (int(w) + len(m.cursors)) / 2; node > 0; node /= 2 {
		if c := m.tree[node]; m.beats(c, w) {
			m.tree[node], w = w, c
		}
	}
	m.winner = w
}
