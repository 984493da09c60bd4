package hashagg

import "hash/maphash"

// DrainTo sets the function that empties the full table with [Table.Drain], instead of
// writing it to a file. The caller must then merge the states of each key itself, and
// cannot use Groups.
func (t *Table) DrainTo(empty func() error) { t.empty = empty }

// Drain calls use for each key in the table, and removes all keys.
func (t *Table) Drain(use func(Group) error) error {
	for pos := 0; pos < t.used; {
		key := t.key(pos)
		if err := use(Group{key, t.count(pos), t.state(pos), t.states}); err != nil {
			return t.fail(err)
		}
		pos += t.size(len(key))
	}
	t.reset()
	t.drained = t.in.records
	return nil
}

// If most records have unique keys, a table does not help. Then most records bypass the
// table, and occasionally some go through it to check whether this is still so.
const (
	bypassEntries  = 256 << 10 // entries needed to start bypassing
	recheckEntries = 16 << 10  // entries needed to continue bypassing
	rechecks       = 64        // rechecks with recheckEntries, before one with bypassEntries
	bypassFactor   = 16        // records that bypass the table, per entry of a recheck
)

// AllowBypass lets the table detect that it does not help. The caller must then ask
// [Table.Bypass] before it adds records.
func (t *Table) AllowBypass() { t.bypassAt = bypassEntries }

// startBypass lets the next records bypass the table.
func (t *Table) startBypass() {
	t.bypassLeft = bypassFactor * recheckEntries
	t.bypassAt = recheckEntries
	if t.rechecksLeft--; t.rechecksLeft < 0 {
		t.rechecksLeft = rechecks
	}
	if t.rechecksLeft == 0 {
		t.bypassAt = bypassEntries
	}
}

// Bypass reports whether records with the given keys should bypass the table, and if so,
// counts them. The caller must then pass them to the place where it drains the table.
func (t *Table) Bypass(keys [][]byte) bool {
	if t.bypassLeft <= 0 || t.err != nil {
		return false
	}
	t.bypassLeft -= len(keys)
	t.in.records += int64(len(keys))
	t.drained += int64(len(keys))
	for _, key := range keys {
		t.in.keySum += maphash.Bytes(t.seed, key)
	}
	return true
}

// Hash returns the hash of a key. Stats.KeySum is the sum of the hashes of all records.
func (a *Aggregator) Hash(key []byte) uint64 { return maphash.Bytes(a.seed, key) }
