package hashjoin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/testutil/must"
)

const threads = 4

type pair struct{ key, record string }

// someRecords returns n records. Many have the same key or an empty key.
func someRecords(n int) (all []pair) {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		key := fmt.Sprint("key", rnd.IntN(1+n/2), strings.Repeat("k", rnd.IntN(3)*rnd.IntN(200)))
		switch i % 10 {
		case 0:
			key = "hot"
		case 1:
			key = ""
		}
		all = append(all, pair{key, fmt.Sprint(i, strings.Repeat("r", rnd.IntN(3)*rnd.IntN(200)))})
	}
	return all
}

// filledTable fills a table from several goroutines, and also returns the records that fit in it.
func filledTable(t *testing.T, memory int64, all []pair) (table *Table, in []pair) {
	t.Helper()
	table = New(memory, threads)
	t.Cleanup(func() { _ = table.Close() })
	added := make([][]pair, threads)
	must.Concurrently(threads, func(worker int) {
		for i := worker; i < len(all); i += threads {
			fits, err := table.Add(worker, []byte(all[i].key), []byte(all[i].record))
			must.Check(t, err)
			if fits {
				added[worker] = append(added[worker], all[i])
			}
		}
	})
	return table, slices.Concat(added...)
}

func indexedTable(t *testing.T, all []pair) *Table {
	t.Helper()
	table, in := filledTable(t, 64<<20, all)
	if len(in) != len(all) {
		t.Fatalf("only %d of %d records fit in the table", len(in), len(all))
	}
	must.Do(t, table.Index())
	return table
}

// TestFind checks that Find returns the records of a key, and the table knows which keys were marked as matched.
func TestFind(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 50_000} {
		all := someRecords(n)
		want := map[string][]string{}
		for _, p := range all {
			want[p.key] = append(want[p.key], p.record)
		}
		table := indexedTable(t, all)
		var keys [][]byte
		for key := range want {
			if key != "hot" {
				keys = append(keys, []byte(key), []byte(key+" is missing"))
			}
		}
		must.Concurrently(threads, func(int) {
			f := Finder{Table: table}
			for batch := range slices.Chunk(keys, BatchSize) {
				for i, position := range f.Find(batch) {
					if position == 0 {
						if want[string(batch[i])] != nil {
							t.Errorf("Find does not find %.20q", batch[i])
						}
						continue
					}
					var got []string
					err := table.Each(position, func(record []byte) error {
						got = append(got, string(record))
						return nil
					})
					if err != nil || table.MarkMatched(position) != len(got) {
						t.Errorf("key %.20q: Each yields %d records, but MarkMatched returns %d: %v", batch[i], len(got), table.MarkMatched(position), err)
					}
					wanted := slices.Sorted(slices.Values(want[string(batch[i])]))
					if slices.Sort(got); !slices.Equal(got, wanted) {
						t.Errorf("Each yields %d records of %.20q, want the %d records that were added", len(got), batch[i], len(wanted))
					}
				}
			}
		})
		var out ledger.Count
		unmatched := 0
		for part := range 3 {
			count, err := table.EachInPart(part, 3, func(_ []byte, matched bool) error {
				if !matched {
					unmatched++
				}
				return nil
			})
			must.Check(t, err)
			out.Add(count)
		}
		if err := table.Added().Compare(out); err != nil || unmatched != len(want["hot"]) {
			t.Errorf("%d records: %v; %d are unmatched, want %d", n, err, unmatched, len(want["hot"]))
		}
	}
}

// TestTableMemory checks that a table rejects records that do not fit, and that MoveTo returns the records that did
// fit.
func TestTableMemory(t *testing.T) {
	const memory = 4 << 20
	all := someRecords(100_000)
	table, in := filledTable(t, memory, all)
	if n := table.bytes + indexBytes(len(in)); n > memory || n < memory/2 || len(in) == len(all) {
		t.Errorf("%d of %d records fit, in %d bytes, want only a part of the records, in %d to %d bytes", len(in), len(all), n, memory/2, memory)
	}
	if fits, err := table.Add(0, nil, make([]byte, memory)); fits || err != nil {
		t.Errorf("Add of a record as large as the table = %v, %v, want false", fits, err)
	}
	var out []pair
	err := table.MoveTo(func(key, record []byte) error {
		out = append(out, pair{string(key), string(record)})
		return nil
	})
	compareRecords := func(a, b pair) int { return strings.Compare(a.record, b.record) }
	slices.SortFunc(in, compareRecords)
	if slices.SortFunc(out, compareRecords); err != nil || !slices.Equal(in, out) {
		t.Errorf("MoveTo yields %d records, want %d: %v", len(out), len(in), err)
	}
	if slices.ContainsFunc(table.pieces, func(p *piece) bool { return p.mem != nil }) {
		t.Error("MoveTo did not free the memory")
	}
}

// TestLossIsDetected checks that a table detects lost and changed records.
func TestLossIsDetected(t *testing.T) {
	all := someRecords(1000)
	hot := []byte("hot")
	var eachErr error // the error of Each for a list that lacks a record
	for name, damage := range map[string]func(*Table, int){
		"a key is missing from the index": func(t *Table, _ int) {
			for i, slot := range t.index {
				if slot != 0 {
					t.index[i] = 0
					return
				}
			}
		},
		"a record is missing from its list": func(t *Table, first int) {
			head := headOf(t.entryAt(first))
			*head = *head>>32<<32 | uint64(uint32(*headOf(t.entryAt(int(uint32(*head))))))
			eachErr = t.Each(first, func([]byte) error { return nil })
		},
		"a byte is changed": func(t *Table, first int) {
			_, record, _ := splitEntry(t.entryAt(first))
			record[0]++
		},
	} {
		table := indexedTable(t, all)
		f := Finder{Table: table}
		damage(table, f.Find([][]byte{hot})[0])
		out, err := table.EachInPart(0, 1, func([]byte, bool) error { return nil })
		if err == nil {
			err = table.Added().Compare(out)
		}
		must.Fail(t, err, ledger.ErrNotVerified, "%s: reading the table", name)
	}
	if !errors.Is(eachErr, ledger.ErrNotVerified) {
		t.Errorf("Each for a list that lacks a record = %v, want %v", eachErr, ledger.ErrNotVerified)
	}
	table, _ := filledTable(t, 64<<20, all)
	table.pieces = table.pieces[1:]
	if err := table.MoveTo(func(_, _ []byte) error { return nil }); !errors.Is(err, ledger.ErrNotVerified) {
		t.Errorf("MoveTo without some of the pieces = %v, want %v", err, ledger.ErrNotVerified)
	}
}

// TestKeysIndexedAtOnce indexes many small tables in which each worker has records of the same keys. If two workers
// insert a key at the same time, its records must be in one list.
func TestKeysIndexedAtOnce(t *testing.T) {
	for round := range 400 {
		table := New(64<<20, threads)
		key := []byte{byte(round), 0}
		const keys = 100
		for worker := range threads {
			for i := range keys {
				key[1] = byte(i)
				if fits, err := table.Add(worker, key, []byte{byte(worker)}); err != nil || !fits {
					t.Fatal(fits, err)
				}
			}
		}
		must.Do(t, table.Index())
		f := Finder{Table: table}
		for i := range keys {
			key[1] = byte(i)
			position, sum := f.Find([][]byte{key})[0], 0
			if err := table.Each(position, func(record []byte) error { sum += 1 << record[0]; return nil }); err != nil || sum != 1<<threads-1 {
				t.Fatalf("round %d: the records of key %d are of the workers %b, %v, want all %d workers", round, i, sum, err, threads)
			}
		}
		must.Do(t, table.Close())
	}
}
