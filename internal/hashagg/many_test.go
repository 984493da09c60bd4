package hashagg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// Reading ahead must not go beyond the table, even if its last entry has an empty key, which
// needs no words.
func TestGetManyStaysInTable(t *testing.T) {
	a := newTest(t, Options{Memory: 1<<20 + 1<<12, Threads: 1, Words: 1, Merge: sumWords})
	table, err := a.Table()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	add := func(key []byte) {
		if err := table.GetMany([][]byte{key, key}, func(_ int, state []uint64, _ bool) { state[0]++ }); err != nil {
			t.Fatal(err)
		}
	}
	for i := uint64(0); ; i++ {
		left := len(table.words) - table.used - table.size(0)
		if left == 0 {
			break
		}
		words := min(left-table.size(0), table.MaxKey()/8)
		if rest := left - table.size(words*8); rest > 0 && rest <= table.size(8) {
			words -= 4 // leaves room for the next entry
		}
		add(binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{'k'}, 8*words-8), i))
	}
	for range 2 {
		add(nil)
	}
	if table.used != len(table.words) || table.resets > 0 {
		t.Fatalf("%d of %d words are used: the test needs all of them", table.used, len(table.words))
	}
	if state, _, err := table.Get(nil); err != nil || state[0] != 4 {
		t.Errorf("the empty key has %d, %v", state, err)
	}
}

// If most keys are new, most records bypass the table, and are counted. Once keys repeat,
// no records bypass it any more.
func TestBypassOfNewKeys(t *testing.T) {
	a := newTest(t, Options{Memory: 256 << 20, Threads: 1, Words: 1, Merge: sumWords})
	table, err := a.Table()
	if err != nil {
		t.Fatal(err)
	}
	table.AllowBypass()
	sums := map[string]uint64{}
	var hashes uint64
	table.DrainTo(func() error {
		return table.Drain(func(g Group) error {
			sums[string(g.Key)] += g.State[0]
			if g.State[0] != g.Records {
				t.Errorf("%q: %d of %d", g.Key, g.State[0], g.Records)
			}
			return nil
		})
	})
	const records = 3_000_000
	passed := [2]int{}
	var keys [][]byte
	for i := range records {
		half := 2 * i / records
		key := uint64(i)
		if half == 1 {
			key %= 1000
		}
		keys = append(keys, binary.LittleEndian.AppendUint64(nil, key))
		hashes += a.Hash(keys[len(keys)-1])
		if len(keys) < 250 {
			continue
		}
		if table.Bypass(keys) {
			passed[half] += len(keys)
			for _, key := range keys {
				sums[string(key)]++
			}
		} else if err := table.GetMany(keys, func(_ int, state []uint64, _ bool) { state[0]++ }); err != nil {
			t.Fatal(err)
		}
		keys = nil
	}
	if err := errors.Join(table.drain(), table.Close()); err != nil {
		t.Fatal(err)
	}
	if passed[0] < records*3/8 || passed[1] > bypassFactor*recheckEntries {
		t.Errorf("%d records bypassed the table, then %d", passed[0], passed[1])
	}
	if s := a.Stats(); s.Records != records || s.KeySum != hashes {
		t.Errorf("%+v, want %d records and the hash sum %d", s, records, hashes)
	}
	for i := range uint64(records) {
		want := uint64(1)
		if i < 1000 {
			want = 1 + records/2/1000
		}
		if got := sums[string(binary.LittleEndian.AppendUint64(nil, i))]; i < records/2 && got != want {
			t.Fatalf("key %d has %d, want %d", i, got, want)
		}
	}
}
