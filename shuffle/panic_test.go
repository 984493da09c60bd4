package shuffle_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/shuffle"
)

// A panic of the caller's function ends the operation and propagates, and no temporary
// data remain.
func TestCallersPanic(t *testing.T) {
	o := minMemory[rec](t)
	ctx := t.Context()
	in := shuffle.Values(randomRecs(1, many)...)
	for name, run := range map[string]func(fail func()){
		"key to sort by": func(fail func()) {
			_ = readAll(shuffle.Sort(ctx, in, shuffle.By(shuffle.Asc(func(r rec) string { fail(); return r.Text })), o))
		},
		"comparison": func(fail func()) {
			_ = readAll(shuffle.SortFunc(ctx, in, func(a, b rec) int { fail(); return compareRecs(a, b) }, o))
		},
		"key to group by": func(fail func()) {
			_ = readAll(shuffle.GroupBy(ctx, in, func(r rec) string { fail(); return r.Text }, o))
		},
		"key of a partition": func(fail func()) {
			_, _ = shuffle.Partition(ctx, in, 3, func(r rec) string { fail(); return r.Text }, o)
		},
		"accumulator": func(fail func()) {
			count := shuffle.Accumulator[rec, int]{
				Add:   func(to *int, _ rec) { fail(); *to++ },
				Merge: func(to, other *int) { *to += *other },
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
		for _, at := range []int{1, many / 2} {
			left := at
			err := func() (err any) {
				defer func() { err = recover() }()
				run(func() {
					if left--; left == 0 {
						panic(name)
					}
				})
				return nil
			}()
			if err != name {
				t.Errorf("%s, %d: the panic was %v", name, at, err)
			}
			checkEmpty(t, o.TempDirs[0])
		}
	}
}

// A caller that recovers and continues gets an error about lost records.
func TestUseAfterPanic(t *testing.T) {
	in := 0
	a, err := shuffle.NewAggregator(t.Context(), func(r rec) int { return r.N }, shuffle.Accumulator[rec, int]{
		Add: func(to *int, _ rec) {
			if in++; in == 100 {
				panic("once")
			}
			*to++
		},
		Merge: func(to, other *int) { *to += *other },
	}, minMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.Feed()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	for range 1000 {
		func() {
			defer func() { _ = recover() }()
			failed = f.Add(rec{})
		}()
	}
	if failed == nil || f.Close() == nil {
		t.Error("no error after a panic")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// breakingCodec returns a codec that fails after left records.
func breakingCodec(c encode.ValueCodec[rec], left int) encode.ValueCodec[rec] {
	encode := c.Encode
	c.Encode = func(dst []byte, r rec) ([]byte, error) {
		if left--; left == 0 {
			return nil, errCodec
		}
		return encode(dst, r)
	}
	return c
}

// A record that cannot be encoded does not harm earlier ones.
func TestRecordsBeforeAFailure(t *testing.T) {
	const good = 100
	codec, err := shuffle.DefaultCodec[rec]()
	if err != nil {
		t.Fatal(err)
	}
	type fed interface {
		Feed() (*shuffle.Feed[rec], error)
		Close() error
	}
	for name, start := range map[string]func(ctx context.Context, o *shuffle.Options[rec]) (fed, iter.Seq2[rec, error], error){
		"sort": func(ctx context.Context, o *shuffle.Options[rec]) (fed, iter.Seq2[rec, error], error) {
			s, err := shuffle.NewSorter(ctx, byTextAndSmall, o)
			return s, s.Sorted(), err
		},
		"sort by function": func(ctx context.Context, o *shuffle.Options[rec]) (fed, iter.Seq2[rec, error], error) {
			s, err := shuffle.NewFuncSorter(ctx, compareRecs, o)
			return s, s.Sorted(), err
		},
		"top": func(ctx context.Context, o *shuffle.Options[rec]) (fed, iter.Seq2[rec, error], error) {
			s, err := shuffle.NewTop(ctx, 1000, byTextAndSmall, o)
			return s, s.Records(), err
		},
	} {
		o := minMemory[rec](t)
		o.Codec = breakingCodec(codec, good+1)
		s, out, err := start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Feed()
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range randomRecs(1, good+1) {
			if err := f.Add(r); i < good && err != nil || i == good && !errors.Is(err, errCodec) {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
		if err := f.Close(); !errors.Is(err, errCodec) {
			t.Errorf("%s: %v", name, err)
		}
		if all, err := shuffle.Collect(out); len(all) != good || err != nil {
			t.Errorf("%s: %d records, %v", name, len(all), err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No group's values, not even the last one's, can be read after the loop.
func TestGroupsAfterTheLoop(t *testing.T) {
	var groups []shuffle.Group[string, rec]
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(randomRecs(1, 1000)...), text, minMemory[rec](t)) {
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	for i, g := range groups {
		if values, err := shuffle.Collect(g.Values); err == nil {
			t.Errorf("group %d of %d: %d values, and no error", i+1, len(groups), len(values))
		}
	}
}
