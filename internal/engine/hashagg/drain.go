package hashagg

import "hash/maphash"

// DrainTo sets a function to call when the table is full, instead of writing the table to a file.
// The function must empty the table with [Table.Drain]. The caller must merge each key's drained
// states itself and must not use Groups.
func (t *Table) DrainTo(empty func() error) { t.drain = empty }

// Drain calls handle for each key in the table and removes all keys.
func (t *Table) Drain(handle func(Group) error) error {
	for pos := 0; pos < t.usedWords; {
		key := t.key(pos)
		if err := handle(Group{key, t.count(pos), t.state(pos), t.states}); err != nil {
			return t.fail(err)
		}
		pos += t.entryWords(len(key))
	}
	t.reset()
	t.recordsOut = t.inputTotals.Records
	return nil
}

// If most keys are unique, a table combines hardly any records, so most records bypass it. A recheck
// fills the table again to find out whether most keys are still unique.
const (
	bypassEntries  = 256 << 10 // number of entries from which bypassing can start
	recheckEntries = 16 << 10  // number of entries in a recheck
	smallRechecks  = 64        // number of short rechecks before a long one of bypassEntries entries
	bypassFactor   = 16        // number of records that bypass the table for each entry of a recheck
)

// AllowBypass lets records bypass the table while most keys are unique. The caller must then call
// [Table.Bypass] before it adds records.
func (t *Table) AllowBypass() { t.bypassAt = bypassEntries }

func (t *Table) startBypass() {
	t.bypassLeft = bypassFactor * recheckEntries
	t.bypassAt = recheckEntries
	t.shortRechecksLeft--
	if t.shortRechecksLeft < 0 {
		t.shortRechecksLeft = smallRechecks
	}
	if t.shortRechecksLeft == 0 {
		t.bypassAt = bypassEntries
	}
}

// Bypass reports whether records with the given keys bypass the table. If it returns true, it has
// counted the records, and the caller must merge them in the same way as the drained states.
func (t *Table) Bypass(keys [][]byte) bool {
	if t.bypassLeft <= 0 || t.err != nil {
		return false
	}
	t.bypassLeft -= len(keys)
	t.inputTotals.Records += int64(len(keys))
	t.recordsOut += int64(len(keys))
	for _, key := range keys {
		t.inputTotals.KeySum += maphash.Bytes(t.seed, key)
	}
	return true
}

// Hash returns the hash of a key, as used in Stats.KeySum.
func (a *Aggregator) Hash(key []byte) uint64 { return maphash.Bytes(a.seed, key) }
