package tables

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/filter"
)

// TestRewriteBesideCommits has another process commit after a rewrite has read its files, and
// before it commits.
func TestRewriteBesideCommits(t *testing.T) {
	ctx := context.Background()
	del := func(b *Bucket) error {
		cond, _ := filter.Parse("n = 2 or n = 12")
		_, err := b.DeleteRows(ctx, "t", cond)
		return err
	}
	upsert := func(b *Bucket) error {
		_, err := b.Upsert(ctx, "t", rowsOf(2, 12), &UpsertOptions{Keys: []string{"n"}})
		return err
	}
	for _, c := range []struct {
		name         string
		ours, theirs func(*Bucket) error
		want         []int64
	}{
		{"an append stays", del, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(2, 30), PutAppend, nil); return err }, []int64{1, 2, 3, 11, 13, 30}},
		{"rows that others deleted do not come back", del, func(b *Bucket) error {
			cond, _ := filter.Parse("n = 1 or n = 2 or n = 13")
			_, err := b.DeleteRows(ctx, "t", cond)
			return err
		}, []int64{3, 11}},
		{"a replaced table", del, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(2, 7), PutReplace, nil); return err }, []int64{7}},
		{"a compacted table", del, func(b *Bucket) error { _, err := b.s.Compact(ctx, nil); return err }, []int64{1, 3, 11, 13}},
		{"two upserts of the same key", upsert, func(b *Bucket) error {
			_, err := b.Upsert(ctx, "t", rowsOf(12, 40), &UpsertOptions{Keys: []string{"n"}})
			return err
		}, []int64{1, 2, 3, 11, 12, 13, 40}},
		{"an append of an upsert's key", upsert, func(b *Bucket) error { _, err := b.Put(ctx, "t", rowsOf(12), PutAppend, nil); return err }, []int64{1, 2, 3, 11, 12, 13}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			other := mustOpen(t, dir, &Options{NoTail: true})
			mustPut(t, other.Bucket(""), "t", PutAppend, 1, 2, 3)
			mustPut(t, other.Bucket(""), "t", PutAppend, 11, 12, 13)
			h := hooks{fs: other.hooks.fs}
			once := true
			h.prepared = func() {
				if once {
					once = false
					if err := c.theirs(other.Bucket("")); err != nil {
						t.Error(err)
					}
				}
			}
			s, err := open(ctx, dir, &Options{NoTail: true}, h)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := c.ours(s.Bucket("")); err != nil {
				t.Fatal(err)
			}
			wantRows(t, other.Bucket(""), "t", c.want...)
			before := len(parquetFiles(t, dir))
			if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1, Keep: 100}); err != nil {
				t.Fatal(err)
			}
			if after := len(parquetFiles(t, dir)); after != before {
				t.Errorf("%d data files were left of attempts", before-after)
			}
		})
	}
	t.Run("again and again", func(t *testing.T) {
		dir := t.TempDir()
		other := mustOpen(t, dir, &Options{NoTail: true})
		mustPut(t, other.Bucket(""), "t", PutAppend, 1, 2, 3)
		attempts := 0
		s, err := open(ctx, dir, &Options{NoTail: true}, hooks{fs: other.hooks.fs, prepared: func() {
			attempts++
			mustPut(t, other.Bucket(""), "t", PutReplace, 1, 2, 3)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := del(s.Bucket("")); !errors.Is(err, ErrConflict) || attempts != maxRewrites {
			t.Errorf("after %d attempts: %v", attempts, err)
		}
		wantRows(t, other.Bucket(""), "t", 1, 2, 3)
	})
}

func parquetFiles(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "data", "*", "data", "*.parquet"))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return all
}

func TestRewriteModel(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	b := mustOpen(t, t.TempDir(), nil).Bucket("")
	s := ticks(arrow.Millisecond, "")
	model := map[int]int64{}
	mustDo := func(done RewriteResult, err error) RewriteResult {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if _, err := b.Put(ctx, "t", ticksAt(s, 0), PutAppend, nil); err != nil {
		t.Fatal(err)
	}
	fresh := func(from, to, most int) (hours []int) {
		for range random.IntN(most + 1) {
			if h := from + random.IntN(to-from); !slices.Contains(hours, h) {
				hours = append(hours, h)
			}
		}
		return hours
	}
	for n := range int64(150) {
		var done RewriteResult
		var gone, put int
		lose := func(goes func(h int, n int64) bool) {
			for h, was := range model {
				if goes(h, was) {
					delete(model, h)
					gone++
				}
			}
		}
		set := func(hours []int) {
			for _, h := range hours {
				model[h] = n
			}
			put = len(hours)
		}
		switch random.IntN(6) {
		case 0:
			hours := fresh(0, 500, 30)
			done = mustDo(b.Upsert(ctx, "t", ticksAt(s, n, hours...), &UpsertOptions{Keys: []string{"at", "sym"}}))
			lose(func(h int, _ int64) bool { return slices.Contains(hours, h) })
			set(hours)
		case 1:
			from := random.IntN(500)
			to := from + 1 + random.IntN(40)
			hours := fresh(from, to, 10)
			done = mustDo(b.ReplaceRange(ctx, "t", hour(from), hour(to), ticksAt(s, n, hours...), nil))
			lose(func(h int, _ int64) bool { return h >= from && h < to })
			set(hours)
		case 2:
			before, from := max(0, n-int64(random.IntN(20))), random.IntN(500)
			done = deleteWhere(t, b, "t", fmt.Sprintf("n < %d and at >= '%s'", before, filter.TimeText(hour(from))))
			lose(func(h int, was int64) bool { return was < before && h >= from })
		case 3:
			hours := slices.DeleteFunc(fresh(0, 500, 60), func(h int) bool { _, there := model[h]; return there })
			if _, err := b.Put(ctx, "t", ticksAt(s, n, hours...), PutAppend, nil); err != nil {
				t.Fatal(err)
			}
			set(hours)
			put = 0
		case 4:
			if _, err := b.s.Fold(ctx, nil); err != nil {
				t.Fatal(err)
			}
		case 5:
			if _, err := b.s.Compact(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
		if int(done.Deleted) != gone || int(done.Written) != put {
			t.Fatalf("step %d: %+v, want %d deleted, %d written", n, done, gone, put)
		}
		wantHours(t, b, "t", model)
	}
}
