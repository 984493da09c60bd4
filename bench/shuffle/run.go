package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"

	"github.com/go-partd/partd/shuffle"
)

type record struct{ Key, Value uint64 }

// keys is the number of distinct keys, except for the operation sort.
const keys = 1_000_000

// randomRecords returns pseudorandom records, which are the same in each run. For the operation
// sort, all keys are different.
func randomRecords(f flags) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		x := uint64(88172645463325252)
		for i := range f.records {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			r := record{x, uint64(i)}
			if f.op != "sort" {
				r.Key = x % keys
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func runOne(f flags) error {
	if f.impl == "memory" {
		return inMemory(f)
	}
	// A program that must fit in a fixed amount of memory would set Go's memory limit too.
	debug.SetMemoryLimit(f.memory/4 + 20<<20)
	ctx := context.Background()
	o := &shuffle.Options[record]{Memory: f.memory}
	if f.temp != "" {
		o.TempDirs = []string{f.temp}
	}
	n := 0
	var previous uint64
	key := func(r record) uint64 { return r.Key }
	switch f.op {
	case "sort":
		for r, err := range shuffle.Sort(ctx, randomRecords(f), shuffle.By(shuffle.Asc(key)), o) {
			if err != nil {
				return err
			}
			if r.Key < previous {
				return errors.New("the output is not sorted")
			}
			previous = r.Key
			n++
		}
	case "group":
		for g, err := range shuffle.GroupBy(ctx, randomRecords(f), key, o) {
			if err != nil {
				return err
			}
			for _, err := range g.Values {
				if err != nil {
					return err
				}
				n++
			}
		}
	case "aggregate":
		for r, err := range shuffle.Aggregate(ctx, randomRecords(f), key, sums, o) {
			if err != nil {
				return err
			}
			n += int(r.Value.Count)
		}
	case "distinct":
		for _, err := range shuffle.DistinctBy(ctx, randomRecords(f), key, o) {
			if err != nil {
				return err
			}
			n++
		}
		f.records = n
	default:
		return fmt.Errorf("unknown operation %q", f.op)
	}
	return checkCount(n, f.records)
}

type sum struct{ Count, Sum uint64 }

var sums = shuffle.Accumulator[record, sum]{
	Add:   func(s *sum, r record) { s.Count++; s.Sum += r.Value },
	Merge: func(s, o *sum) { s.Count += o.Count; s.Sum += o.Sum },
}

func checkCount(n, want int) error {
	if n != want {
		return fmt.Errorf("got %d records, want %d", n, want)
	}
	return nil
}

func inMemory(f flags) error {
	n := 0
	switch f.op {
	case "sort":
		var records []record
		for r := range randomRecords(f) {
			records = append(records, r)
		}
		slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.Key, b.Key) })
		n = len(records)
	case "group":
		groups := make(map[uint64][]record)
		for r := range randomRecords(f) {
			groups[r.Key] = append(groups[r.Key], r)
		}
		for _, g := range groups {
			n += len(g)
		}
	case "aggregate":
		groups := make(map[uint64]sum)
		for r := range randomRecords(f) {
			s := groups[r.Key]
			groups[r.Key] = sum{s.Count + 1, s.Sum + r.Value}
		}
		for _, s := range groups {
			n += int(s.Count)
		}
	case "distinct":
		first := make(map[uint64]record)
		for r := range randomRecords(f) {
			if _, ok := first[r.Key]; !ok {
				first[r.Key] = r
			}
		}
		n, f.records = len(first), len(first)
	default:
		return fmt.Errorf("unknown operation %q", f.op)
	}
	return checkCount(n, f.records)
}
