package shuffle_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// TestCallersPanic checks that a panic of the caller's function ends the operation and propagates, and no temporary
// data remains.
func TestCallersPanic(t *testing.T) {
	o := minMemory[rec](t)
	ctx := t.Context()
	in := shuffle.Values(randomRecs(1, manyRecords)...)
	for name, run := range map[string]func(fail func()){
		"key to sort by": func(fail func()) {
			_ = readAll(shuffle.Sort(ctx, in, shuffle.By(shuffle.Asc(func(r rec) string { fail(); return r.Text })), o))
		},
		"key to group by": func(fail func()) {
			_ = readAll(shuffle.GroupBy(ctx, in, func(r rec) string { fail(); return r.Text }, o))
		},
		"key of a partition": func(fail func()) {
			_, _ = shuffle.Partition(ctx, in, 3, func(r rec) string { fail(); return r.Text }, o)
		},
		"accumulator": func(fail func()) {
			count := shuffle.Accumulator[rec, int]{
				Add:   func(total *int, _ rec) { fail(); *total++ },
				Merge: func(total, other *int) { *total += *other },
			}
			_ = readAll(shuffle.Aggregate(ctx, in, rareKey, count, o))
		},
		"key of distinct records": func(fail func()) {
			_ = readAll(shuffle.DistinctBy(ctx, in, func(r rec) string { fail(); return r.Text }, o))
		},
		"input": func(fail func()) {
			_ = readAll(shuffle.TopK(ctx, func(yield func(rec, error) bool) {
				for yield(rec{}, nil) {
					fail()
				}
			}, 10, byTextAndSmall, o))
		},
	} {
		for _, panicCall := range []int{1, manyRecords / 2} {
			remaining := panicCall
			err := func() (err any) {
				defer func() { err = recover() }()
				run(func() {
					if remaining--; remaining == 0 {
						panic(name)
					}
				})
				return nil
			}()
			if err != name {
				t.Errorf("%s, panic in call %d: recovered %v, want %q", name, panicCall, err, name)
			}
			checkEmpty(t, o.TempDirs[0])
		}
	}
}

// TestUseAfterPanic checks that a caller that recovers from a panic and continues gets an error, because records were
// lost.
func TestUseAfterPanic(t *testing.T) {
	adds := 0
	a := must.Get(shuffle.NewAggregator(t.Context(), func(r rec) int { return r.N }, shuffle.Accumulator[rec, int]{
		Add: func(total *int, _ rec) {
			if adds++; adds == 100 {
				panic("once")
			}
			*total++
		},
		Merge: func(total, other *int) { *total += *other },
	}, minMemory[rec](t)))(t)
	f := must.Get(a.Feed())(t)
	var addErr error
	for range 1000 {
		func() {
			defer func() { _ = recover() }()
			addErr = f.Add(rec{})
		}()
	}
	if addErr == nil || f.Close() == nil {
		t.Error("Add or Close returned no error after a panic")
	}
	must.Do(t, a.Close())
}

// breakingCodec returns a codec that encodes goodRecords records, and then fails once.
func breakingCodec(c encode.ValueCodec[rec], goodRecords int) encode.ValueCodec[rec] {
	encode := c.Encode
	c.Encode = func(dst []byte, r rec) ([]byte, error) {
		if goodRecords--; goodRecords == -1 {
			return nil, errCodec
		}
		return encode(dst, r)
	}
	return c
}

// TestRecordsBeforeAFailure checks that a record that cannot be encoded does not affect earlier records.
func TestRecordsBeforeAFailure(t *testing.T) {
	const goodRecords = 100
	codec := must.Get(shuffle.DefaultCodec[rec]())(t)
	for name, start := range map[string]func(ctx context.Context, o *shuffle.Options[rec]) (feeder[rec], iter.Seq2[rec, error], error){
		"sort": func(ctx context.Context, o *shuffle.Options[rec]) (feeder[rec], iter.Seq2[rec, error], error) {
			s, err := shuffle.NewSorter(ctx, byTextAndSmall, o)
			return s, s.Sorted(), err
		},
		"top": func(ctx context.Context, o *shuffle.Options[rec]) (feeder[rec], iter.Seq2[rec, error], error) {
			s, err := shuffle.NewTop(ctx, 1000, byTextAndSmall, o)
			return s, s.Records(), err
		},
	} {
		o := minMemory[rec](t)
		o.Codec = breakingCodec(codec, goodRecords)
		s, out, err := start(t.Context(), o)
		must.Do(t, err)
		f := must.Get(s.Feed())(t)
		for i, r := range randomRecs(1, goodRecords+1) {
			if err := f.Add(r); i < goodRecords && err != nil || i == goodRecords && !errors.Is(err, errCodec) {
				t.Errorf("%s: Add() of record %d: error = %v; want %v only for record %d", name, i, err, errCodec, goodRecords)
			}
		}
		must.Fail(t, f.Close(), errCodec, "%s: Close() of the feed", name)
		if all, err := shuffle.Collect(out); len(all) != goodRecords || err != nil {
			t.Errorf("%s: read %d records with error %v, want %d records", name, len(all), err, goodRecords)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: Close(): %v", name, err)
		}
	}
}
