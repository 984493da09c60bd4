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

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestAtTimeOfRowsInTheTail checks that AtTime includes the rows acknowledged by that time, even
// if these rows are folded (moved into data files) later.
func TestAtTimeOfRowsInTheTail(t *testing.T) {
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	start := time.Now()
	pause := func() time.Time { // AtTime's resolution is one millisecond
		now := time.Now()
		time.Sleep(5 * time.Millisecond)
		return now
	}
	wantRowsAt := func(b *tables.Bucket, when time.Time, want ...int64) {
		t.Helper()
		table, err := b.Table("t").At(t.Context(), tables.AtTime(when))
		if err != nil {
			t.Fatal(err)
		}
		ns, err := tabletest.ReadAll(t.Context(), table, nil)
		if err != nil || !slices.Equal(ns, want) {
			t.Fatalf("AtTime read rows %v, error %v; want rows %v", ns, err, want)
		}
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
	if _, err := s.Fold(t.Context(), nil); err != nil { // rows 4 and 5 become one version
		t.Fatal(err)
	}
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
	pinned, err := b.Table("t").At(t.Context(), tables.AtTime(pause()))
	if err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 11)
	if ns, err := tabletest.ReadAll(t.Context(), pinned, nil); err != nil || !slices.Equal(ns, []int64{9, 10}) {
		t.Fatalf("after a later put, AtTime read rows %v, error %v; want [9 10]", ns, err)
	}
	now := pause()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A read-only store cannot fold, and reads the rows from the tail.
	readOnly := tabletest.Open(t, dir, &tables.Options{ReadOnly: true})
	wantRowsAt(readOnly.Bucket(""), now, 9, 10, 11)
	wantRowsAt(readOnly.Bucket(""), afterRow1, 1)
}

// TestManyMoments checks that each of many moments can be read, in any order, until there are more puts in the tail than a
// read of a moment keeps apart; then the moment itself can still be read.
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
			if err != nil {
				t.Fatal(err)
			}
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
				if _, err := b.Table("t").Put(t.Context(), tabletest.Rows(time.Now().UnixMilli()), tables.PutAppend, nil); err != nil {
					t.Error(err)
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
		if err != nil {
			t.Error(err)
		}
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

// slowReader is a reader whose second batch waits for a message on proceed.
type slowReader struct {
	array.RecordReader
	batches int
	reached chan<- struct{}
	proceed <-chan struct{}
}

func (r *slowReader) Next() bool {
	if r.batches++; r.batches == 2 {
		r.reached <- struct{}{}
		<-r.proceed
	}
	return r.RecordReader.Next()
}

// TestAtTimeDuringCorrection checks that Table.At with AtTime and Table.Changes, which must wait for a concurrent
// correction of a table with a rule for duplicates, stop waiting when their context ends. Changes does not wait if the
// tail has no rows.
func TestAtTimeDuringCorrection(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, FoldBytes: 1024}).Bucket("")
	put := func(ts int64, o *tables.PutOptions) {
		t.Helper()
		r := ticksOf([]tick{{ts: ts}}, 1)
		defer r.Release()
		tabletest.PutRows(t, b, "t", r, tables.PutAppend, o)
	}
	put(1, &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast}})
	ticks := make([]tick, 1001)
	for i := range ticks {
		ticks[i].ts = int64(100 + i)
	}
	rows := ticksOf(ticks, 1000)
	defer rows.Release()
	reached, proceed, upsertErr := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		_, err := b.Table("t").Upsert(t.Context(), &slowReader{rows, 0, reached, proceed}, nil)
		upsertErr <- err
	}()
	<-reached
	cause := errors.New("test cause")
	during := func(timeout time.Duration, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, cause)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- f(ctx) }()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("the call did not return when its context ended")
		}
	}
	at := func(ctx context.Context) error {
		_, err := b.Table("t").At(ctx, tables.AtTime(time.Now()))
		return err
	}
	changes := func(ctx context.Context) error {
		r, err := b.Table("t").Changes(ctx, nil, nil)
		if err == nil {
			r.Release()
		}
		return err
	}
	if err := during(5*time.Second, changes); err != nil {
		t.Errorf("Changes without rows in the tail: %v", err)
	}
	put(2, nil)
	for name, f := range map[string]func(context.Context) error{"At": at, "Changes": changes} {
		if err := during(100*time.Millisecond, f); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
			t.Errorf("%s error = %v, want DeadlineExceeded and the test cause", name, err)
		}
	}
	close(proceed)
	if err := <-upsertErr; err != nil {
		t.Fatal(err)
	}
	table, err := b.Table("t").At(t.Context(), tables.AtTime(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ticksFrom(table.Scan(t.Context(), nil)); err != nil || len(got) != 1003 {
		t.Errorf("AtTime after the upsert read %d rows, error %v; want 1003 rows", len(got), err)
	}
}

// TestFoldOfDuplicates checks that rows that are all duplicates are folded only once, although
// this fold adds no rows to data files.
func TestFoldOfDuplicates(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	put := func(r array.RecordReader, o *tables.PutOptions) {
		t.Helper()
		tabletest.PutRows(t, b, "t", r, tables.PutAppend, o)
	}
	put(ticksOf([]tick{{1, "a", 1, 0}}, 1), &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: tables.KeepFirst}})
	fold := func(rows int64) {
		t.Helper()
		if r, err := s.Fold(t.Context(), nil); err != nil || r.Rows != rows {
			t.Fatalf("Fold = %+v, %v; want %d rows", r, err, rows)
		}
	}
	fold(1)
	put(ticksOf([]tick{{1, "a", 2, 0}}, 1), nil)
	fold(1)
	fold(0)
	wantTicks(t, s, "t", []tick{{1, "a", 1, 0}})
	put(ticksOf([]tick{{2, "a", 3, 0}}, 1), nil)
	fold(1)
	wantTicks(t, s, "t", []tick{{1, "a", 1, 0}, {2, "a", 3, 0}})
}

// TestAtTimeBeforeFoldedRow checks that AtTime excludes later rows, although a fold moved them to
// files together with earlier rows.
func TestAtTimeBeforeFoldedRow(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutReplace, 0)
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	time.Sleep(1200 * time.Millisecond)
	between := time.Now()
	time.Sleep(5 * time.Millisecond)
	tabletest.Put(t, b, "t", tables.PutAppend, 2)
	read := func(when time.Time) []int64 {
		t.Helper()
		table, err := b.Table("t").At(t.Context(), tables.AtTime(when))
		if err != nil {
			t.Fatal(err)
		}
		ns, err := tabletest.ReadAll(t.Context(), table, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	before := read(between)
	tabletest.Fold(t, s)
	if after := read(between); !slices.Equal(before, after) || slices.Contains(after, 2) {
		t.Errorf("AtTime before row 2 was put: read %v before the fold, and %v after it; want equal rows without row 2", before, after)
	}
	time.Sleep(2 * time.Millisecond)
	if ns := read(time.Now()); !slices.Equal(ns, []int64{0, 1, 2}) {
		t.Errorf("AtTime(now) read rows %v, want [0 1 2]", ns)
	}
}
