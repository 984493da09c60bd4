package shuffle_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

type order struct {
	ID       int
	Customer string
}

type customer struct {
	Name string
	City string
}

func TestJoin(t *testing.T) {
	orders := []order{{1, "ann"}, {2, "bob"}, {3, "ann"}, {4, ""}, {5, "eve"}}
	customers := []customer{{"ann", "Oslo"}, {"bob", ""}, {"cid", "Oslo"}, {"", ""}}
	for kind, want := range map[shuffle.JoinKind][]string{
		shuffle.InnerJoin: {"1 ann", "2 bob", "3 ann", "4 "},
		shuffle.LeftJoin:  {"1 ann", "2 bob", "3 ann", "4 ", "5 -"},
		shuffle.RightJoin: {"- cid", "1 ann", "2 bob", "3 ann", "4 "},
		shuffle.FullJoin:  {"- cid", "1 ann", "2 bob", "3 ann", "4 ", "5 -"},
		shuffle.SemiJoin:  {"1 -", "2 -", "3 -", "4 -"},
		shuffle.AntiJoin:  {"5 -"},
	} {
		var got []string
		for row, err := range shuffle.Join(t.Context(), shuffle.Values(orders...), shuffle.Values(customers...),
			func(o order) string { return o.Customer }, func(c customer) string { return c.Name },
			&shuffle.JoinOptions[order, customer]{Kind: kind}) {
			must.Do(t, err)
			left, right := "-", "-"
			if row.HasLeft {
				left = fmt.Sprint(row.Left.ID)
			}
			if row.HasRight {
				right = row.Right.Name
			}
			if row.HasRight && row.Right.Name == "ann" && row.Right.City != "Oslo" {
				t.Errorf("the right record of ann is %+v, want city Oslo", row.Right)
			}
			got = append(got, left+" "+right)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("join of kind %d yields %q, want %q", kind, got, want)
		}
	}
	// A nil pointer matches no key.
	city := func(c customer) *string {
		if c.City == "" {
			return nil
		}
		return &c.City
	}
	rows, err := shuffle.Collect(shuffle.Join(t.Context(), shuffle.Values(customers...), shuffle.Values(customers...), city, city, nil))
	if err != nil || len(rows) != 4 {
		t.Errorf("the join by a nullable key yields %d rows with error %v, want 4", len(rows), err)
	}
}

func TestJoinErrors(t *testing.T) {
	key := func(i int) int { return i }
	broken := errors.New("the input ends")
	failing := func(yield func(int, error) bool) { _ = yield(1, nil) && yield(0, broken) }
	for name, seq := range map[string]iter.Seq2[shuffle.Joined[int, int], error]{
		"left":  shuffle.Join(t.Context(), failing, shuffle.Values(1), key, key, nil),
		"right": shuffle.Join(t.Context(), shuffle.Values(1), failing, key, key, nil),
	} {
		must.Fail(t, must.Err(shuffle.Collect(seq)), broken, "error of the %s input", name)
	}
	for name, o := range map[string]*shuffle.JoinOptions[int, int]{
		"kind": {Kind: 6}, "memory": {Memory: 1}, "threads": {Threads: -1}, "codec": {Right: encode.ValueCodec[int]{Decode: func([]byte) (int, error) { return 0, nil }}},
	} {
		if _, err := shuffle.NewJoiner(t.Context(), key, key, o); err == nil {
			t.Errorf("NewJoiner() with a wrong %s returned no error", name)
		}
	}
	if _, err := shuffle.NewJoiner(t.Context(), nil, key, &shuffle.JoinOptions[int, int]{}); err == nil {
		t.Error("NewJoiner() without a key function returned no error")
	}
	for range shuffle.Join(t.Context(), shuffle.Values(1, 1), shuffle.Values(1, 1), key, key, nil) {
		break
	}
}

// TestJoinMemory checks the memory of a join of large sides, where half of the records have the same key.
func TestJoinMemory(t *testing.T) {
	const n, memory = 150_000, 8 << 20
	type row struct {
		Key  int64
		Text [100]byte
	}
	key := func(r row) int64 { return r.Key }
	j := must.Get(shuffle.NewJoiner(t.Context(), key, key, &shuffle.JoinOptions[row, row]{Kind: shuffle.SemiJoin, Memory: memory, TempDirs: []string{t.TempDir()}}))(t)
	defer func() { must.Do(t, j.Close()) }()
	must.Concurrently(4, func(worker int) {
		open := j.FeedLeft
		if worker%2 == 1 {
			open = j.FeedRight
		}
		f, err := open()
		if !must.Check(t, err) {
			return
		}
		rnd := rand.New(rand.NewPCG(uint64(worker), 1))
		for i := range n {
			r := row{Key: int64(rnd.IntN(n))}
			if i%2 == 0 {
				r.Key = -1
			}
			must.Check(t, f.Add(r))
		}
		must.Check(t, f.Close())
	})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rows := 0
	for _, err := range j.Rows() {
		must.Do(t, err)
		if rows++; rows == n {
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
	}
	if rows < n {
		t.Errorf("the join yields %d rows, want at least %d", rows, n)
	}
	if growth := int64(after.HeapAlloc) - int64(before.HeapAlloc); growth > memory {
		t.Errorf("the heap grew by %d bytes, want at most %d", growth, memory)
	}
}
