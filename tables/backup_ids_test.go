package tables_test

import (
	"context"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRestoreIDs checks that a store that was restored or copied knows the IDs of exactly the puts and statements that
// it contains: a repetition of a put changes nothing, and a put that the restore discarded is stored.
func TestRestoreIDs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	put := func(s *tables.Store, id string, n int64) {
		t.Helper()
		tabletest.PutRows(t, s.Bucket(""), "t", tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id})
	}
	e := &rowsEngine{query: func(context.Context) []int64 { return []int64{2, 3} }}
	open := func() *tables.Store {
		return tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, FoldAge: -1})
	}
	// fill puts the rows that backups contain. The last ID is in the tail when the copy begins.
	fill := func(s *tables.Store) {
		put(s, "a", 1)
		if r, err := s.Exec(ctx, "INSERT INTO t SELECT n FROM u", &tables.ExecOptions{ID: "b"}); err != nil || r.Rows != 2 {
			t.Errorf("INSERT changed %d rows, %v; want 2", r.Rows, err)
		}
		put(s, "c", 4)
	}
	for name, copied := range map[string]func(s *tables.Store) *tables.Store{
		"backup, restored elsewhere": func(s *tables.Store) *tables.Store {
			b, to := open(), open()
			for _, name := range []string{"first", "second"} { // the first has other IDs
				_, err := s.Backup(ctx, b, name)
				tabletest.Succeed(t, err)
				put(s, "later", 9)
			}
			tabletest.Succeed(t, s.Bucket("").Delete(ctx, "t"))
			tabletest.Put(t, s.Bucket(""), "other", tables.PutAppend, 1)
			_, err := s.Backup(ctx, b, "third") // deletes the table
			tabletest.Succeed(t, err)
			_, err = to.RestoreFrom(ctx, b, "first")
			tabletest.Succeed(t, err)
			return to
		},
		"backup, restored in place": func(s *tables.Store) *tables.Store {
			b := open()
			_, err := s.Backup(ctx, b, "monday")
			tabletest.Succeed(t, err)
			put(s, "later", 9)
			_, err = s.RestoreFrom(ctx, b, "monday")
			tabletest.Succeed(t, err)
			return s
		},
		"unchanged since the backup": func(s *tables.Store) *tables.Store {
			b := open()
			_, err := s.Backup(ctx, b, "monday")
			tabletest.Succeed(t, err)
			_, err = s.RestoreFrom(ctx, b, "monday")
			tabletest.Succeed(t, err)
			return s
		},
		"copy": func(s *tables.Store) *tables.Store {
			to := open()
			_, err := s.CopyTo(ctx, to)
			tabletest.Succeed(t, err)
			return to
		},
		"snapshot of a deleted table": func(s *tables.Store) *tables.Store {
			tabletest.Snapshot(t, s.Bucket(""), "before")
			put(s, "later", 9)
			tabletest.Fold(t, s)
			tabletest.Succeed(t, s.Bucket("").Delete(ctx, "t"))
			put(s, "later", 9)
			tabletest.Succeed(t, s.Bucket("").Restore(ctx, "before"))
			return s
		},
		"snapshots in place": func(s *tables.Store) *tables.Store {
			tabletest.Snapshot(t, s.Bucket(""), "before")
			put(s, "later", 9)
			tabletest.Snapshot(t, s.Bucket(""), "after")
			tabletest.Succeed(t, s.Bucket("").Restore(ctx, "before"))
			put(s, "lost", 8)
			tabletest.Succeed(t, s.Bucket("").Restore(ctx, "after"))
			put(s, "later", 9)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 9)
			put(s, "lost", 8)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 8, 9)
			tabletest.Succeed(t, s.Bucket("").Restore(ctx, "before"))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			fill(s)
			s = copied(s)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4)
			fill(s)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4)
			put(s, "later", 5)
			tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3, 4, 5)
		})
	}
}
