package hashagg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestGetManyStaysInTable checks that GetMany does not read beyond the table, even if the last entry has an empty
// key, which needs no words.
func TestGetManyStaysInTable(t *testing.T) {
	a := newTestAggregator(t, Options{Memory: 1<<20 + 1<<12, Threads: 1, Words: 1, Merge: sumWords})
	table := must.Get(a.Table())(t)
	defer table.Close()
	add := func(key []byte) {
		must.Do(t, table.GetMany([][]byte{key, key}, func(_ int, state []uint64, _ bool) { state[0]++ }))
	}
	for i := uint64(0); ; i++ {
		free := len(table.words) - table.usedWords - table.entryWords(0)
		if free == 0 {
			break
		}
		words := min(free-table.entryWords(0), table.MaxKey()/8)
		if rest := free - table.entryWords(words*8); rest > 0 && rest <= table.entryWords(8) {
			words -= 4 // leaves room for the next entry
		}
		add(binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{'k'}, 8*words-8), i))
	}
	for range 2 {
		add(nil)
	}
	if table.usedWords != len(table.words) || table.resets > 0 {
		t.Fatalf("only %d of %d words are used, but the test needs a full table", table.usedWords, len(table.words))
	}
	if state, _, err := table.Get(nil); err != nil || state[0] != 4 {
		t.Errorf("the state of the empty key is %d, %v, want 4", state, err)
	}
}

// TestBypassOfNewKeys checks that while most keys are new, most records bypass the table, but are counted. When keys
// repeat, records no longer bypass the table.
func TestBypassOfNewKeys(t *testing.T) {
	a := newTestAggregator(t, Options{Memory: 256 << 20, Threads: 1, Words: 1, Merge: sumWords})
	table := must.Get(a.Table())(t)
	table.AllowBypass()
	const records = 3_000_000
	var sums [records / 2]uint64 // by key
	var hashes uint64
	table.DrainTo(func() error {
		return table.Drain(func(g Group) error {
			sums[binary.LittleEndian.Uint64(g.Key)] += g.State[0]
			if g.State[0] != g.Records {
				t.Errorf("group %q has the state %d, want its record count %d", g.Key, g.State[0], g.Records)
			}
			return nil
		})
	})
	bypassed := [2]int{} // number of bypassing records in each half of the input
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
			bypassed[half] += len(keys)
			for _, key := range keys {
				sums[binary.LittleEndian.Uint64(key)]++
			}
		} else if err := table.GetMany(keys, func(_ int, state []uint64, _ bool) { state[0]++ }); err != nil {
			t.Fatal(err)
		}
		keys = nil
	}
	must.Do(t, errors.Join(table.drain(), table.Close()))
	if bypassed[0] < records*3/8 || bypassed[1] > bypassFactor*recheckEntries {
		t.Errorf("%d records with new keys bypassed the table, want most; and %d with repeated keys, want few", bypassed[0], bypassed[1])
	}
	if s := a.Stats(); s.Records != records || s.KeySum != hashes {
		t.Errorf("Stats = %+v, want %d records and the hash sum %d", s, records, hashes)
	}
	for i, got := range sums {
		want := uint64(1)
		if i < 1000 {
			want = 1 + records/2/1000
		}
		if got != want {
			t.Fatalf("key %d has the sum %d, want %d", i, got, want)
		}
	}
}

// TestGetStates checks that GetStates passes on each key's state once and in order, also if a new key empties the
// table, and that earlier states are then complete.
func TestGetStates(t *testing.T) {
	a := newTestAggregator(t, Options{Memory: MinMemory, Threads: 1, Words: 1, Merge: sumWords})
	table := must.Get(a.Table())(t)
	sums, want := map[string]uint64{}, map[string]uint64{}
	drains := 0
	table.DrainTo(func() error {
		drains++
		return table.Drain(func(g Group) error {
			if g.State[0] != g.Records {
				t.Errorf("group %q has the state %d, want its record count %d", g.Key, g.State[0], g.Records)
			}
			sums[string(g.Key)] += g.State[0]
			return nil
		})
	})
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		keys := make([][]byte, r.IntN(200))
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "key%d", r.IntN(20_000)>>r.IntN(12))
			want[string(keys[i])]++
		}
		next := 0
		err := table.GetStates(keys, func(first int, states [][]uint64) {
			if first != next {
				t.Errorf("the states begin at key %d, want %d", first, next)
			}
			next += len(states)
			for _, state := range states {
				state[0]++
			}
		})
		if err != nil || next != len(keys) {
			t.Fatalf("GetStates passed on %d of %d states: %v", next, len(keys), err)
		}
	}
	if err := errors.Join(table.drain(), table.Close()); err != nil || drains < 5 || !maps.Equal(sums, want) {
		t.Errorf("after %d drains, the sums of %d keys differ from those of %d keys: %v", drains, len(sums), len(want), err)
	}
	if err := table.Discard(); err != nil || slices.ContainsFunc(table.stateBatch[:], func(state []uint64) bool { return state != nil }) {
		t.Errorf("Discard returned %v, or the table still refers to its memory", err)
	}
}

// TestReadsAreLarge checks that many threads with little memory spill often, and each time write little of each
// partition. The merge must still read these files in large pieces, because disks are slow with small reads.
func TestReadsAreLarge(t *testing.T) {
	const threads, records = 8, 200_000
	var reads atomic.Int64
	fsys := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, _ string) error {
		if op == vfstest.OpRead {
			reads.Add(1)
		}
		return nil
	})
	temp := must.Get(tempdir.New([]string{t.TempDir()}, fsys))(t)
	defer temp.Close()
	a := must.Get(New(t.Context(), Options{Memory: 40 << 20, Threads: threads, Temp: temp, Words: 5, Merge: sumWords}))(t)
	defer a.Close()
	var tables []*Table
	for range threads {
		table := must.Get(a.Table())(t)
		tables = append(tables, table)
	}
	for i := range uint64(threads * records) {
		state, _, err := tables[i%threads].Get(binary.LittleEndian.AppendUint64(nil, i*0x9e3779b97f4a7c15))
		must.Do(t, err)
		state[0]++
	}
	errs := make([]error, 0, threads)
	for _, table := range tables {
		errs = append(errs, table.Close())
	}
	must.Do(t, errors.Join(errs...))
	groups := 0
	for _, err := range a.Groups() {
		must.Do(t, err)
		groups++
	}
	if groups != threads*records {
		t.Errorf("Groups yields %d groups, want %d", groups, threads*records)
	}
	if mean := a.Stats().Written / max(reads.Load(), 1); a.Stats().Spills == 0 || mean < 64<<10 {
		t.Errorf("%d bytes were read in %d reads of %d bytes, want at least 64 KiB per read", a.Stats().Written, reads.Load(), mean)
	}
}
