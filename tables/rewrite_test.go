package tables_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

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
