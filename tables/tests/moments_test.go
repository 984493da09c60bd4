package tables_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestAtTimeOfRowsInTheTail checks that AtTime includes the rows acknowledged by that time, even
// if these rows are folded (moved into data files) later.
func TestAtTimeOfRowsInTheTail(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	start := time.Now()
	pause := func() time.Time { // AtTime's resolution is one millisecond
		now := time.Now()
		time.Sleep(5 * time.Millisecond)
		return now
	}
	wantRowsAt := func(b *tables.Bucket, when time.Time, want ...int64) {
		t.Helper()
		tabletest.WantRowsAt(t, b, "t", tables.AtTime(when), want...)
	}
	before := start.Add(-time.Second)
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	afterRow1 := pause()
	wantRowsAt(b, afterRow1, 1)
	tabletest.Put(t, b, "t", tables.PutAppend, 2)
	afterRow2 := pause()
	tabletest.Put(t, b, "t", tables.PutAppend, 3)
	pause()
	afterRow3 := time.Now()
	wantRowsAt(b, afterRow3, 1, 2, 3) // folds all rows; earlier moments stay exact
	wantRowsAt(b, afterRow1, 1)
	wantRowsAt(b, afterRow2, 1, 2)
	tabletest.Put(t, b, "t", tables.PutAppend, 4)
	afterRow4 := pause()
	tabletest.Put(t, b, "t", tables.PutAppend, 5)
	pause()
	must.Get(s.Fold(t.Context(), nil))(t) // rows 4 and 5 become one version
	_, err := b.Table("t").At(t.Context(), tables.AtTime(afterRow4))
	var moment *tables.MomentError
	if !errors.As(err, &moment) || !errors.Is(err, tables.ErrNotFound) {
		t.Fatalf("At a moment between two folded rows: error %v, want a MomentError", err)
	}
	wantRowsAt(b, moment.Before, 1, 2, 3)
	wantRowsAt(b, moment.After, 1, 2, 3, 4, 5)
	tabletest.Put(t, b, "t", tables.PutReplace, 9)
	pause()
	wantRowsAt(b, time.Now(), 9)
	wantRowsAt(b, afterRow1, 1)
	_, err = b.Table("t").At(t.Context(), tables.AtTime(before))
	if !errors.As(err, &moment) || !moment.Before.IsZero() {
		t.Fatalf("At before the first row: error %v, want a MomentError without an earlier moment", err)
	}
	wantRowsAt(b, moment.After, 1)
	_, err = b.Table("t").At(t.Context(), tables.AtTime(time.Now().Add(time.Minute)))
	if !errors.As(err, &moment) || moment.Before.IsZero() || !moment.After.IsZero() {
		t.Fatalf("At a future time: error %v, want a MomentError without a later moment", err)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 10)
	pinned := must.Get(b.Table("t").At(t.Context(), tables.AtTime(pause())))(t)
	tabletest.Put(t, b, "t", tables.PutAppend, 11)
	if ns, err := tabletest.ReadAll(t.Context(), pinned, nil); err != nil || !slices.Equal(ns, []int64{9, 10}) {
		t.Fatalf("after a later put, AtTime read rows %v, error %v; want [9 10]", ns, err)
	}
	now := pause()
	must.Do(t, s.Close())
	// A read-only store cannot fold, and reads the rows from the tail.
	readOnly := tabletest.Open(t, s.Dir(), &tables.Options{ReadOnly: true})
	wantRowsAt(readOnly.Bucket(""), now, 9, 10, 11)
	wantRowsAt(readOnly.Bucket(""), afterRow1, 1)
}

// TestManyMoments checks that each of many moments can be read, in any order, until there are more puts in the tail
// than a read of a moment keeps apart; then the moment itself can still be read.
func TestManyMoments(t *testing.T) {
	for puts, isExact := range map[int]bool{50: true, 60: false} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1}).Bucket("")
		var moments []time.Time
		for i := range puts {
			tabletest.Put(t, b, "t", tables.PutAppend, int64(i))
			moments = append(moments, time.Now())
			time.Sleep(2 * time.Millisecond)
		}
		exact := 0
		for _, i := range append([]int{30}, rand.Perm(puts)...) {
			table, err := b.Table("t").At(t.Context(), tables.AtTime(moments[i]))
			if errors.As(err, new(*tables.MomentError)) {
				continue
			}
			must.Do(t, err)
			if ns, err := tabletest.ReadAll(t.Context(), table, nil); err != nil || len(ns) != i+1 {
				t.Fatalf("after put %d of %d: %d rows, error %v", i, puts, len(ns), err)
			}
			exact++
		}
		if isExact != (exact == puts+1) || exact < 3 {
			t.Errorf("%d of the moments after %d puts can be read", exact-1, puts)
		}
	}
}

// TestAtTimeDuringPuts checks, while rows are put, that AtTime excludes later rows and always yields the same rows.
func TestAtTimeDuringPuts(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: 3 * time.Millisecond}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutReplace, 0) // a version older than all times below
	time.Sleep(2 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var put atomic.Int64
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for ctx.Err() == nil {
				if !must.Check(t, must.Err(b.Table("t").Put(t.Context(), tabletest.Rows(time.Now().UnixMilli()), tables.PutAppend, nil))) {
					return
				}
				put.Add(1)
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	readAtTime := func(when time.Time) []int64 {
		table, err := b.Table("t").At(t.Context(), tables.AtTime(when))
		if errors.As(err, new(*tables.MomentError)) { // a background fold has moved earlier and later rows
			return nil
		}
		if err != nil {
			t.Error(err)
			return nil
		}
		ns, err := tabletest.ReadAll(t.Context(), table, nil)
		must.Check(t, err)
		return ns
	}
	var times []time.Time
	var read [][]int64
	for range 15 {
		now := time.Now()
		time.Sleep(2 * time.Millisecond)
		times, read = append(times, now), append(read, readAtTime(now))
	}
	cancel()
	writers.Wait()
	for i, when := range times {
		if len(read[i]) > 0 && slices.Max(read[i]) > when.UnixMilli() {
			t.Fatalf("AtTime(%d) read rows %v, want none that is later", when.UnixMilli(), read[i])
		}
		if repeated := readAtTime(when); !slices.Equal(repeated, read[i]) {
			t.Fatalf("AtTime read %d rows, but %d rows when repeated", len(read[i]), len(repeated))
		}
	}
	if last := readAtTime(time.Now()); int64(len(last)) != put.Load()+1 {
		t.Fatalf("read %d rows at the end, want %d", len(last), put.Load()+1)
	}
}

// TestReturnedVersions checks that the version that each put returns contains the put's rows.
func TestReturnedVersions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	append1 := func(n int64) tables.Version {
		t.Helper()
		return must.Get(table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil))(t)
	}
	read := func(v tables.Version, want ...int64) {
		t.Helper()
		tabletest.WantRowsAt(t, table.Bucket(), "t", tables.AtVersion(v), want...)
	}
	listed := func(want ...tables.Version) {
		t.Helper()
		versions := must.Get(table.Versions(t.Context()))(t)
		var got []tables.Version
		for _, i := range versions {
			got = append(got, i.Version)
			old := must.Get(table.At(t.Context(), tables.AtVersion(i.Version)))(t)
			if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(ns)) != i.Rows {
				t.Errorf("version %d has rows %v, error %v; Versions says %d rows", i.Version, ns, err, i.Rows)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("Versions lists %v, want %v", got, want)
		}
	}
	if a, b, c := append1(1), append1(2), append1(3); a != 1 || b != 1 || c != 1 {
		t.Fatalf("three appends return versions %d, %d and %d, want 1", a, b, c)
	}
	listed(1)
	v := append1(4)
	if info, err := table.Info(t.Context()); err != nil || info.Version != v || info.Rows != 4 {
		t.Errorf("Info = %+v, error %v; want version %d with 4 rows", info, err, v)
	}
	read(v, 1, 2, 3, 4)
	read(1, 1, 2, 3)
	v = append1(5)
	replaced := must.Get(table.Put(t.Context(), tabletest.Rows(9), tables.PutReplace, nil))(t)
	read(v, 1, 2, 3, 4, 5)
	read(replaced, 9)
	listed(1, 2, 3, 4)
	v = append1(10)
	over := must.Get(table.Put(t.Context(), tabletest.Rows(11), tables.PutReplace, &tables.PutOptions{Over: &v}))(t)
	read(v, 9, 10)
	read(over, 11)
	v = append1(12)
	widen := tables.ColumnChange{Op: tables.AddColumn, Column: "w", Type: "int64"}
	must.Do(t, table.Evolve(t.Context(), widen))
	read(v, 11, 12)
	v = append1(13)
	must.Do(t, table.Evolve(t.Context(), tables.ColumnChange{Op: tables.WidenColumn, Column: "w", Type: "float64"})) // rewrites the files
	read(v, 11, 12, 13)
	if _, err := table.At(t.Context(), tables.AtVersion(over+1)); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("At of a version that does not exist: error %v, want ErrNotFound", err)
	}
}

// TestReturnedVersionsConcurrent checks that the version that each put returns contains the put's rows, although folds,
// reads of earlier moments, deletes and large puts commit at the same time.
func TestReturnedVersionsConcurrent(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	table := s.Bucket("").Table("t")
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 0)
	var mu sync.Mutex
	returned := map[tables.Version][]int64{}
	stop := time.Now().Add(time.Second)
	var writers sync.WaitGroup
	for w := range int64(3) {
		writers.Go(func() {
			for n := (w + 1) * 1_000_000; time.Now().Before(stop); n++ {
				v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil)
				if !must.Check(t, err) {
					return
				}
				mu.Lock()
				returned[v] = append(returned[v], n)
				mu.Unlock()
			}
		})
	}
	for _, commit := range []func() error{
		func() error { _, err := s.Fold(t.Context(), nil); return err },
		func() error {
			return must.Err(table.At(t.Context(), tables.AtTime(time.Now().Add(-20*time.Millisecond))))
		},
		func() error { _, err := table.DeleteRows(t.Context(), filter.Eq("n", int64(0))); return err },
		func() error {
			rows := tabletest.Rows(tabletest.Sequence(-20_000, 20_000)...)
			return must.Err(table.Put(t.Context(), rows, tables.PutAppend, nil))
		},
	} {
		writers.Go(func() {
			for time.Now().Before(stop) {
				if err := commit(); err != nil && !errors.As(err, new(*tables.MomentError)) {
					t.Error(err)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	writers.Wait()
	for v, puts := range returned {
		old := must.Get(table.At(t.Context(), tables.AtVersion(v)))(t)
		rows := must.Get(tabletest.ReadAll(t.Context(), old, nil))(t)
		slices.Sort(rows)
		for _, n := range puts {
			if _, ok := slices.BinarySearch(rows, n); !ok {
				t.Fatalf("version %d lacks row %d, whose put returned it", v, n)
			}
		}
	}
	if len(returned) < 3 {
		t.Errorf("the puts returned only %d versions", len(returned))
	}
}
