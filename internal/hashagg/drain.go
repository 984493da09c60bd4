package hashagg

import "hash/maphash"

// DrainTo sets what empties the table by [Table.Drain] where it is full, instead of a
// file. Its owner merges the states of a key then, of all tables and times, and ranges
// over no Groups.
func (t *Table) DrainTo(empty func() error) { t.empty = empty }

// Drain calls use for each key that the table holds, and forgets them all.
func (t *Table) Drain(use func(Group) error) error {
	for at := 0; at < t.used; {
		key := t.key(at)
		if err := use(Group{key, t.count(at), t.state(at), t.states}); err != nil {
			return t.fail(err)
		}
		at += t.size(len(key))
	}
	t.reset()
	t.drained = t.in.records
	return nil
}

// Where most records have keys of their own, a table is of no use: most records pass it by,
// and now and then some show whether that is still so.
const (
	manyNew = 256 << 10 // entries that show it
	fewNew  = 16 << 10  // entries that show that it is still so
	rounds  = 64        // of these, before as many have to show it as at first
	passing = 16        // times as many records as those few pass by in between
)

// LetPass has the table find out where it is of no use: who uses it asks [Table.Passes].
func (t *Table) LetPass() { t.enough = manyNew }

// pass lets records pass by a table that is of no use.
func (t *Table) pass() {
	t.passing = passing * fewNew
	t.enough = fewNew
	if t.rounds--; t.rounds < 0 {
		t.rounds = rounds
	}
	if t.rounds == 0 {
		t.enough = manyNew
	}
}

// Passes reports whether the table is of no use for the next of some keys: so what they
// stand for goes where it would be drained to. It has counted them.
func (t *Table) Passes(keys [][]byte) bool {
	if t.passing <= 0 || t.err != nil {
		return false
	}
	t.passing -= len(keys)
	t.in.records += int64(len(keys))
	t.drained += int64(len(keys))
	for _, key := range keys {
		t.in.keySum += maphash.Bytes(t.seed, key)
	}
	return true
}

// Hash returns what Stats add up for each record of a key.
func (a *Aggregator) Hash(key []byte) uint64 { return maphash.Bytes(a.seed, key) }
