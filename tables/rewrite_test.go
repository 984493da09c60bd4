package tables_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
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
		return must.Err(b.Table("t").DeleteRows(ctx, cond))
	}
	upsert := func(b *tables.Bucket) error {
		return must.Err(b.Table("t").Upsert(ctx, tabletest.Rows(2, 12), &tables.UpsertOptions{Keys: []string{"n"}}))
	}
	for _, c := range []struct {
		name            string
		rewrite, change func(*tables.Bucket) error
		want            []int64
	}{
		{"concurrent append", deleteRows, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Put(ctx, tabletest.Rows(2, 30), tables.PutAppend, nil))
		}, []int64{1, 2, 3, 11, 13, 30}},
		{"concurrent delete", deleteRows, func(b *tables.Bucket) error {
			cond, _ := filter.Parse("n = 1 or n = 2 or n = 13")
			return must.Err(b.Table("t").DeleteRows(ctx, cond))
		}, []int64{3, 11}},
		{"table replaced concurrently", deleteRows, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Put(ctx, tabletest.Rows(2, 7), tables.PutReplace, nil))
		}, []int64{7}},
		{"table compacted concurrently", deleteRows, func(b *tables.Bucket) error { _, err := b.Store().Compact(ctx, nil); return err }, []int64{1, 3, 11, 13}},
		{"concurrent upserts of the same key", upsert, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Upsert(ctx, tabletest.Rows(12, 40), &tables.UpsertOptions{Keys: []string{"n"}}))
		}, []int64{1, 2, 3, 11, 12, 13, 40}},
		{"concurrent append of the upserted key", upsert, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Put(ctx, tabletest.Rows(12), tables.PutAppend, nil))
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
					must.Check(t, c.change(otherStore.Bucket("")))
				}
			}
			s := openHooked(t, dir, &tables.Options{NoTail: true}, h)
			must.Do(t, c.rewrite(s.Bucket("")))
			tabletest.WantRows(t, otherStore.Bucket(""), "t", c.want...)
			before := len(parquetFiles(t, dir))
			must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 100}))(t)
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
		s := openHooked(t, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: otherStore.HooksInUse().FS, OnPrepared: func() {
			attempts++
			tabletest.Put(t, otherStore.Bucket(""), "t", tables.PutReplace, 1, 2, 3)
		}})
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

// correction is a change to a table of rows {n, x}, which TestConcurrentCorrections makes in a Store and in a model.
type correction struct {
	op    string  // append, upsert, delete or range
	x     int32   // x of each new row
	ns    []int64 // n of each new row
	first int64   // delete and range remove the rows with first ≤ n < last
	last  int64
}

type correctedRow struct {
	n int64
	x int32
}

func (c correction) onModel(rows []correctedRow) []correctedRow {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r correctedRow) bool {
		return c.op == "upsert" && slices.Contains(c.ns, r.n) || (c.op == "delete" || c.op == "range") && c.first <= r.n && r.n < c.last
	})
	for _, n := range c.ns {
		rows = append(rows, correctedRow{n, c.x})
	}
	return rows
}

func (c correction) rows() array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, lineageFields)
	var batches []arrow.RecordBatch
	for _, n := range c.ns { // a batch for each row, so that most are read only while a file is written
		b.Field(0).(*array.Int64Builder).Append(n)
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(day0.Add(time.Duration(n) * time.Minute).UnixNano()))
		b.Field(2).(*array.Int32Builder).Append(c.x)
		b.Field(3).AppendNull()
		batches = append(batches, b.NewRecordBatch())
	}
	return array.ReaderFromIter(lineageFields, func(yield func(arrow.RecordBatch, error) bool) {
		for _, b := range batches {
			if !yield(b, nil) {
				return
			}
		}
	})
}

func (c correction) onTable(t *testing.T, b *tables.Bucket) error {
	var err error
	switch c.op {
	case "append":
		_, err = b.Table("t").Put(t.Context(), c.rows(), tables.PutAppend, nil)
	case "upsert":
		_, err = b.Table("t").Upsert(t.Context(), c.rows(), &tables.UpsertOptions{Keys: []string{"n"}})
	case "delete":
		_, err = b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, fmt.Sprintf("n >= %d and n < %d", c.first, c.last)))
	case "range":
		minute := func(n int64) time.Time { return day0.Add(time.Duration(n) * time.Minute) }
		_, err = b.Table("t").ReplaceRange(t.Context(), minute(c.first), minute(c.last), c.rows(), nil)
	}
	if err != nil {
		err = fmt.Errorf("%+v: %w", c, err)
	}
	return err
}

// serialResults returns, for each order of the changes, the sorted rows after all changes.
func serialResults(rows []correctedRow, changes []correction) (results [][]correctedRow) {
	if len(changes) == 0 {
		return [][]correctedRow{sortedRows(rows)}
	}
	for i, c := range changes {
		rest := slices.Delete(slices.Clone(changes), i, i+1)
		results = append(results, serialResults(c.onModel(rows), rest)...)
	}
	return results
}

func sortedRows(rows []correctedRow) []correctedRow {
	return slices.SortedFunc(slices.Values(rows), func(a, b correctedRow) int {
		return int(a.n-b.n)*1000 + int(a.x-b.x)
	})
}

func correctedRows(t *testing.T, b *tables.Bucket) (rows []correctedRow) {
	t.Helper()
	for batch, err := range b.Table("t").Batches(t.Context(), nil) {
		must.Do(t, err)
		for i := range int(batch.NumRows()) {
			rows = append(rows, correctedRow{batch.Column(0).(*array.Int64).Value(i), batch.Column(2).(*array.Int32).Value(i)})
		}
	}
	return sortedRows(rows)
}

// TestConcurrentCorrections makes random concurrent changes to a table, in two Stores on the same directory. The result
// must be the same as if the changes were made one after another, in some order.
func TestConcurrentCorrections(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range tabletest.Rounds(t, "PARTD_CORRECTIONS", 20) {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: 1, FoldAge: time.Millisecond})
		other := tabletest.Open(t, s.Dir(), &tables.Options{FoldBytes: 1, NoTail: true})
		var rows []correctedRow
		put := correction{op: "append", ns: []int64{0, 1, 2, 3}}
		rows = put.onModel(rows)
		must.Do(t, put.onTable(t, s.Bucket("")))
		tabletest.Fold(t, s)
		var changes []correction
		for i := range 4 {
			c := correction{op: []string{"append", "upsert", "upsert", "delete", "range"}[rng.IntN(5)], x: int32(i + 1)}
			c.first = rng.Int64N(8)
			c.last = c.first + 1 + rng.Int64N(3)
			if c.op != "delete" {
				for n := c.first; n < c.last; n++ {
					if rng.IntN(4) > 0 || n == c.first {
						c.ns = append(c.ns, n)
					}
				}
			}
			changes = append(changes, c)
		}
		var running sync.WaitGroup
		for i, c := range changes {
			b := s.Bucket("")
			if i == 3 {
				b = other.Bucket("")
			}
			running.Go(func() {
				must.Check(t, c.onTable(t, b))
			})
		}
		running.Wait()
		got := correctedRows(t, s.Bucket(""))
		if !slices.ContainsFunc(serialResults(rows, changes), func(r []correctedRow) bool { return slices.Equal(r, got) }) {
			t.Fatalf("round %d: after %+v, the table has the rows %v, which no order of the changes explains", round, changes, got)
		}
	}
}

// TestAppendDuringUpsert makes a change while an upsert writes its files. The change must not wait for the upsert. An
// append must not make the upsert read the table again. A second upsert with the same new key must not add a second
// row.
func TestAppendDuringUpsert(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change correction
		want   []correctedRow
	}{
		"append":                     {correction{op: "append", x: 2, ns: []int64{1, 5}}, []correctedRow{{0, 0}, {1, 1}, {1, 2}, {5, 1}, {5, 2}}},
		"upsert":                     {correction{op: "upsert", x: 2, ns: []int64{5, 6}}, []correctedRow{{0, 0}, {1, 1}, {5, 1}, {6, 2}}},
		"range without rows":         {correction{op: "range", x: 2, ns: []int64{5, 6}, first: 4, last: 9}, []correctedRow{{0, 0}, {1, 1}, {5, 1}, {6, 2}}},
		"delete of a replaced row":   {correction{op: "delete", first: 1, last: 2}, []correctedRow{{0, 0}, {1, 1}, {5, 1}}},
		"delete of a row that stays": {correction{op: "delete", first: 0, last: 1}, []correctedRow{{1, 1}, {5, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, FoldBytes: 1}).Bucket("")
			must.Do(t, (correction{op: "append", ns: []int64{0, 1}}).onTable(t, b))
			rows := correction{op: "upsert", x: 1, ns: []int64{1, 5}}.rows()
			changed := false
			interrupted := array.ReaderFromIter(lineageFields, func(yield func(arrow.RecordBatch, error) bool) {
				for rows.Next() {
					rows.RecordBatch().Retain()
					if rows.RecordBatch().Column(0).(*array.Int64).Value(0) == 5 { // Gather has ended, so the upsert is writing
						must.Check(t, c.change.onTable(t, b))
						changed = true
					}
					if !yield(rows.RecordBatch(), nil) {
						return
					}
				}
			})
			done := make(chan error, 1)
			go func() {
				done <- must.Err(b.Table("t").Upsert(context.WithoutCancel(t.Context()), interrupted, &tables.UpsertOptions{Keys: []string{"n"}}))
			}()
			select {
			case err := <-done:
				if err != nil || !changed {
					t.Fatalf("Upsert error = %v; the change was made: %v", err, changed)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the change waits for the upsert")
			}
			if got := correctedRows(t, b); !slices.Equal(got, c.want) {
				t.Errorf("the table has the rows %v, want %v", got, c.want)
			}
		})
	}
}

// TestUpsertOfNewKeyIsHarmless makes an upsert that only adds a row before the commit of a change that allows appends.
// The change must succeed at its first attempt and keep the new row. A change of columns must also keep it if files are
// merged at the same time.
func TestUpsertOfNewKeyIsHarmless(t *testing.T) {
	evolve := func(b *tables.Bucket) error {
		return b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: tables.WidenColumn, Column: "n", Type: "float64"})
	}
	for name, change := range map[string]func(*tables.Bucket) error{
		"compact":               func(b *tables.Bucket) error { _, err := b.Store().Compact(t.Context(), nil); return err },
		"evolve":                evolve,
		"evolve during a merge": evolve,
		"replace a version": func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Put(t.Context(), tabletest.Rows(11, 12), tables.PutReplace, &tables.PutOptions{Over: new(tables.Version(2))}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.BucketWithoutTail(t)
			tabletest.Put(t, b, "t", tables.PutAppend, 1)
			tabletest.Put(t, b, "t", tables.PutAppend, 2)
			changing, attempts := countingAttempts(t, b, func() error {
				_, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(3), &tables.UpsertOptions{Keys: []string{"n"}})
				if name == "evolve during a merge" {
					tabletest.Compact(t, b.Store())
				}
				return err
			})
			if err := change(changing); err != nil || *attempts != 1 && name != "evolve during a merge" {
				t.Errorf("%d attempts, error %v; want 1 attempt", *attempts, err)
			}
			info, err := b.Table("t").Info(t.Context())
			if err != nil || info.Rows != 3 {
				t.Errorf("the table has %d rows, error %v; want 3", info.Rows, err)
			}
		})
	}
}

// TestAppendDuringDelete appends a row while DeleteRows rewrites a file. Rows with the same time must stay in the order
// of their arrival. DeleteRows starts again only if the times overlap.
func TestAppendDuringDelete(t *testing.T) {
	for ts, wantAttempts := range map[int64]int{1: 2, 9: 1} {
		b := tabletest.BucketWithoutTail(t)
		put := func(rows ...tick) error {
			return must.Err(b.Table("t").Put(t.Context(), ticksOf(rows, len(rows)), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}))
		}
		must.Do(t, put(tick{ts: 1, v: 1}, tick{ts: 2, v: 2}))
		deleting, attempts := countingAttempts(t, b, func() error { return put(tick{ts: ts, v: 3}) })
		tabletest.DeleteRows(t, deleting, "t", "v = 2")
		wantValues(t, b, "t", 1, 3)
		if *attempts != wantAttempts {
			t.Errorf("append at time %d: DeleteRows made %d attempts, want %d", ts, *attempts, wantAttempts)
		}
		tabletest.Compact(t, b.Store())
		wantValues(t, b, "t", 1, 3)
	}
}
