package tables_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// rowsEngine answers each query with the rows that query returns.
type rowsEngine struct {
	positionEngine
	query func(ctx context.Context) []int64
}

func (e *rowsEngine) Query(ctx context.Context, _ *tables.Store, _ string, _ *tables.QueryOptions) (array.RecordReader, error) {
	return tabletest.Rows(e.query(ctx)...), nil
}

func (e *rowsEngine) Describe(context.Context, *tables.Store, string, *tables.QueryOptions) (*tables.QueryDescription, error) {
	return &tables.QueryDescription{Result: tabletest.Numbers}, nil
}

// foldObserver calls the function after each fold.
type foldObserver func()

func (f foldObserver) Begin(ctx context.Context, o tables.Operation) (context.Context, func(tables.Outcome)) {
	return ctx, func(tables.Outcome) {
		if o.Name == "fold" {
			f()
		}
	}
}

// TestReplaceDuringAppend checks that CREATE OR REPLACE TABLE t AS SELECT … FROM t keeps rows that are appended after
// the query has read the table: before the commit, or between its fold and the change itself.
func TestReplaceDuringAppend(t *testing.T) {
	for name, o := range map[string]tables.Options{"files": {NoTail: true}, "tail": {FoldAge: -1}, "tail after the fold": {FoldAge: -1}} {
		t.Run(name, func(t *testing.T) {
			e := &rowsEngine{}
			var armed atomic.Bool
			var b *tables.Bucket
			if o.Engine = e; name == "tail after the fold" {
				o.Observer = foldObserver(func() {
					if armed.Swap(false) {
						tabletest.Put(t, b, "t", tables.PutAppend, 4)
					}
				})
			}
			s := tabletest.Open(t, t.TempDir(), &o)
			b = s.Bucket("")
			tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
			queries := 0
			e.query = func(ctx context.Context) []int64 {
				ns, _, err := tabletest.Read(ctx, b, "t")
				if err != nil {
					t.Fatal(err)
				}
				if queries++; queries == 1 && o.Observer != nil {
					armed.Store(true)
				} else if queries == 1 {
					tabletest.Put(t, b, "t", tables.PutAppend, 4)
				}
				return ns
			}
			if r, err := s.Exec(t.Context(), "CREATE OR REPLACE TABLE t AS SELECT * FROM t", nil); err != nil || r.Rows != 4 || queries != 2 {
				t.Errorf("Exec = %d rows, error %v, after %d queries; want 4 rows after 2 queries", r.Rows, err, queries)
			}
			tabletest.WantRows(t, b, "t", 1, 2, 3, 4)
		})
	}
}

// TestExecSameIDConcurrently runs a statement, and during its query another statement with the same ID.
func TestExecSameIDConcurrently(t *testing.T) {
	for _, sql := range []string{"INSERT INTO t SELECT n FROM u", "CREATE TABLE v AS SELECT n FROM u", "CREATE OR REPLACE TABLE t AS SELECT n FROM u"} {
		for _, other := range []string{sql, strings.Replace(sql, "FROM u", "FROM w", 1)} {
			e := &rowsEngine{}
			s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e})
			tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1)
			queries := 0
			e.query = func(ctx context.Context) []int64 {
				if queries++; queries > 1 {
					return []int64{5, 6}
				}
				if r, err := s.Exec(ctx, other, &tables.ExecOptions{ID: "same"}); err != nil || r.Rows != 2 {
					t.Errorf("%s = %d rows, error %v; want 2 rows", other, r.Rows, err)
				}
				return []int64{2, 3, 4}
			}
			r, err := s.Exec(t.Context(), sql, &tables.ExecOptions{ID: "same"})
			if sql == other && (err != nil || r.Rows != 2) {
				t.Errorf("%s = %d rows, error %v; want the 2 rows of the statement that came first", sql, r.Rows, err)
			}
			if sql != other && !errors.As(err, new(*tables.ArgumentError)) {
				t.Errorf("%s after %s = %d rows, error %v; want an ArgumentError", sql, other, r.Rows, err)
			}
		}
	}
}

// slotEngine is a positionEngine with a limited number of concurrent queries.
type slotEngine struct {
	positionEngine
	slots chan struct{}
}

func (e *slotEngine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	if err := canceled.Send(ctx, e.slots, struct{}{}); err != nil {
		return nil, err
	}
	defer func() { <-e.slots }()
	if o == nil || o.Target == nil {
		return tabletest.Rows(1), nil
	}
	return e.positionEngine.Query(ctx, s, sql, o)
}

// TestExecWaits checks that changes waiting for a running change of their table do not take the slots of queries, and
// that they can be canceled. A change that waits for another operation of the table can be canceled too.
func TestExecWaits(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	e := &slotEngine{slots: make(chan struct{}, 2)}
	e.concurrently = func() {
		started <- struct{}{}
		<-finish
	}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, NoTail: true})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
	exec := func(ctx context.Context, sql string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Exec(ctx, sql, nil)
			done <- err
		}()
		return done
	}
	wait := func(what string, done <-chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(5 * time.Second):
			t.Fatalf("%s does not end", what)
			return nil
		}
	}
	merge := exec(t.Context(), "MERGE INTO t USING (SELECT 1) AS u(i) ON n = i WHEN MATCHED THEN DELETE")
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	first, second := exec(ctx, "DELETE FROM t WHERE n = 1"), exec(ctx, "DELETE FROM t WHERE n = 2")
	time.Sleep(50 * time.Millisecond)
	selected := make(chan error, 1)
	go func() {
		r, err := s.Query(t.Context(), "SELECT 1", nil)
		if err == nil {
			r.Release()
		}
		selected <- err
	}()
	if err := wait("the SELECT", selected); err != nil {
		t.Error(err)
	}
	cancel()
	for _, done := range []chan error{first, second} {
		if err := wait("the canceled DELETE", done); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}
	close(finish)
	if err := wait("the MERGE", merge); err != nil {
		t.Error(err)
	}
	entry, release, err := s.Bucket("").Table("t").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	entry.Commits.Lock()
	defer entry.Commits.Unlock()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := wait("the DELETE", exec(ctx, "DELETE FROM t WHERE n = 1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want context.DeadlineExceeded", err)
	}
}

// TestExecEachDuringAppends checks that a DELETE for two rows of parameters blocks no append, although it runs twice.
func TestExecEachDuringAppends(t *testing.T) {
	e := &positionEngine{row: 1}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
	calls := int64(0)
	e.concurrently = func() {
		calls++
		done := make(chan error, 1)
		go func(n int64) {
			_, err := b.Table("t").Put(t.Context(), tabletest.Rows(n, n), tables.PutAppend, nil)
			done <- err
		}(calls)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("an append waits for statement %d", calls)
		}
	}
	r, err := s.Exec(t.Context(), "DELETE FROM t WHERE n = $1", &tables.ExecOptions{Parameters: twoParameters(t)})
	if err != nil || r.Rows != 2 || calls != 2 {
		t.Errorf("DELETE = %d rows, error %v, after %d queries; want 2 rows after 2 queries", r.Rows, err, calls)
	}
}

func twoParameters(t *testing.T) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{2, 3}, nil)
	batch := b.NewRecordBatch()
	t.Cleanup(batch.Release)
	return batch
}
