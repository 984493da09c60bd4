package tables_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRewriteDuringCommits checks that a rewrite and a commit of another Store both take effect if that commit happens
// after the rewrite has read its files, and before the rewrite commits.
func TestRewriteDuringCommits(t *testing.T) {
	ctx := context.Background()
	deleteRows := func(b *tables.Bucket) error {
		cond, _ := filter.Parse("n = 2 or n = 12")
		_, err := b.Table("t").DeleteRows(ctx, cond)
		return err
	}
	upsert := func(b *tables.Bucket) error {
		_, err := b.Table("t").Upsert(ctx, tabletest.Rows(2, 12), &tables.UpsertOptions{Keys: []string{"n"}})
		return err
	}
	for _, c := range []struct {
		name            string
		rewrite, change func(*tables.Bucket) error
		want            []int64
	}{
		{"concurrent append", deleteRows, func(b *tables.Bucket) error {
			_, err := b.Table("t").Put(ctx, tabletest.Rows(2, 30), tables.PutAppend, nil)
			return err
		}, []int64{1, 2, 3, 11, 13, 30}},
		{"concurrent delete", deleteRows, func(b *tables.Bucket) error {
			cond, _ := filter.Parse("n = 1 or n = 2 or n = 13")
			_, err := b.Table("t").DeleteRows(ctx, cond)
			return err
		}, []int64{3, 11}},
		{"table replaced concurrently", deleteRows, func(b *tables.Bucket) error {
			_, err := b.Table("t").Put(ctx, tabletest.Rows(2, 7), tables.PutReplace, nil)
			return err
		}, []int64{7}},
		{"table compacted concurrently", deleteRows, func(b *tables.Bucket) error { _, err := b.Store().Compact(ctx, nil); return err }, []int64{1, 3, 11, 13}},
		{"concurrent upserts of the same key", upsert, func(b *tables.Bucket) error {
			_, err := b.Table("t").Upsert(ctx, tabletest.Rows(12, 40), &tables.UpsertOptions{Keys: []string{"n"}})
			return err
		}, []int64{1, 2, 3, 11, 12, 13, 40}},
		{"concurrent append of the upserted key", upsert, func(b *tables.Bucket) error {
			_, err := b.Table("t").Put(ctx, tabletest.Rows(12), tables.PutAppend, nil)
			return err
		}, []int64{1, 2, 3, 11, 12, 12, 13}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			otherStore := tabletest.Open(t, dir, &tables.Options{NoTail: true})
			tabletest.Put(t, otherStore.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
			tabletest.Put(t, otherStore.Bucket(""), "t", tables.PutAppend, 11, 12, 13)
			h := tables.Hooks{FS: otherStore.HooksInUse().FS}
			pending := true
			h.OnPrepared = func() {
				if pending {
					pending = false
					if err := c.change(otherStore.Bucket("")); err != nil {
						t.Error(err)
					}
				}
			}
			s, err := tables.OpenHooked(ctx, dir, &tables.Options{NoTail: true}, h)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := c.rewrite(s.Bucket("")); err != nil {
				t.Fatal(err)
			}
			tabletest.WantRows(t, otherStore.Bucket(""), "t", c.want...)
			before := len(parquetFiles(t, dir))
			if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 100}); err != nil {
				t.Fatal(err)
			}
			if after := len(parquetFiles(t, dir)); after != before {
				t.Errorf("failed attempts left %d data files, which Expire removed; want 0", before-after)
			}
		})
	}
	t.Run("every attempt conflicts", func(t *testing.T) {
		dir := t.TempDir()
		otherStore := tabletest.Open(t, dir, &tables.Options{NoTail: true})
		tabletest.Put(t, otherStore.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
		attempts := 0
		s, err := tables.OpenHooked(ctx, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: otherStore.HooksInUse().FS, OnPrepared: func() {
			attempts++
			tabletest.Put(t, otherStore.Bucket(""), "t", tables.PutReplace, 1, 2, 3)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := deleteRows(s.Bucket("")); !errors.Is(err, tables.ErrConflict) || attempts != tables.MaxRewrites {
			t.Errorf("DeleteRows after %d attempts: error = %v, want ErrConflict after %d", attempts, err, tables.MaxRewrites)
		}
		tabletest.WantRows(t, otherStore.Bucket(""), "t", 1, 2, 3)
	})
}

func parquetFiles(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "data", "*", "data", "*.parquet"))
	if err != nil || len(all) == 0 {
		t.Fatalf("Glob = %q, %v; want at least one file", all, err)
	}
	return all
}

// TestRewriteModel compares a table with a map over random corrections, puts, folds and compactions.
func TestRewriteModel(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	s := ticks(arrow.Millisecond, "")
	model := map[int]int64{}
	mustDo := func(result tables.RewriteResult, err error) tables.RewriteResult {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if _, err := b.Table("t").Put(ctx, ticksAt(s, 0), tables.PutAppend, nil); err != nil {
		t.Fatal(err)
	}
	randomHours := func(start, end, maxCount int) (hours []int) {
		for range random.IntN(maxCount + 1) {
			if h := start + random.IntN(end-start); !slices.Contains(hours, h) {
				hours = append(hours, h)
			}
		}
		return hours
	}
	for n := range int64(150) {
		var result tables.RewriteResult
		var deleted, put int
		deleteFromModel := func(isDeleted func(h int, n int64) bool) {
			for h, value := range model {
				if isDeleted(h, value) {
					delete(model, h)
					deleted++
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
			hours := randomHours(0, 500, 30)
			result = mustDo(b.Table("t").Upsert(ctx, ticksAt(s, n, hours...), &tables.UpsertOptions{Keys: []string{"at", "sym"}}))
			deleteFromModel(func(h int, _ int64) bool { return slices.Contains(hours, h) })
			set(hours)
		case 1:
			start := random.IntN(500)
			end := start + 1 + random.IntN(40)
			hours := randomHours(start, end, 10)
			result = mustDo(b.Table("t").ReplaceRange(ctx, hour(start), hour(end), ticksAt(s, n, hours...), nil))
			deleteFromModel(func(h int, _ int64) bool { return h >= start && h < end })
			set(hours)
		case 2:
			before, start := max(0, n-int64(random.IntN(20))), random.IntN(500)
			result = deleteWhere(t, b, "t", fmt.Sprintf("n < %d and at >= '%s'", before, filter.TimeText(hour(start))))
			deleteFromModel(func(h int, value int64) bool { return value < before && h >= start })
		case 3:
			hours := slices.DeleteFunc(randomHours(0, 500, 60), func(h int) bool { _, exists := model[h]; return exists })
			if _, err := b.Table("t").Put(ctx, ticksAt(s, n, hours...), tables.PutAppend, nil); err != nil {
				t.Fatal(err)
			}
			set(hours)
			put = 0
		case 4:
			if _, err := b.Store().Fold(ctx, nil); err != nil {
				t.Fatal(err)
			}
		case 5:
			if _, err := b.Store().Compact(ctx, nil); err != nil {
				t.Fatal(err)
			}
		}
		if int(result.Deleted) != deleted || int(result.Written) != put {
			t.Fatalf("step %d: result %+v, want %d rows deleted and %d written", n, result, deleted, put)
		}
		wantHours(t, b, "t", model)
	}
}
