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
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// positionEngine answers the query of a change with one row.
type positionEngine struct {
	file         uint64
	row          int64
	action       int32
	concurrently func() // called after the query has read the table's state
}

func (e *positionEngine) Query(ctx context.Context, _ *tables.Store, _ string, o *tables.QueryOptions) (array.RecordReader, error) {
	p, err := o.Target.Plan(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if e.concurrently != nil {
		e.concurrently()
	}
	s := arrow.NewSchema([]arrow.Field{{Name: "file", Type: arrow.PrimitiveTypes.Uint64}, {Name: "row", Type: arrow.PrimitiveTypes.Int64}, {Name: "action", Type: arrow.PrimitiveTypes.Int32}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	b.Field(0).(*array.Uint64Builder).Append(e.file)
	b.Field(1).(*array.Int64Builder).Append(e.row)
	b.Field(2).(*array.Int32Builder).Append(e.action)
	batch := b.NewRecordBatch()
	defer batch.Release()
	return array.NewRecordReader(s, []arrow.RecordBatch{batch})
}

func (*positionEngine) Describe(context.Context, *tables.Store, string, *tables.QueryOptions) (*tables.QueryDescription, error) {
	panic("not used")
}

func (*positionEngine) ColumnTypes(logical, _ *arrow.Schema) []string {
	return make([]string, logical.NumFields())
}

// TestExecWrongPositions checks that Exec fails if the query returns a row or an action that does not exist.
func TestExecWrongPositions(t *testing.T) {
	for _, e := range []positionEngine{{file: 1}, {file: 1 << 63}, {row: 3}, {row: -1}, {action: 1}, {action: -1}} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: &e})
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
		must.Fail(t, must.Err(s.Exec(t.Context(), "DELETE FROM t WHERE n = 1", nil)), "does not exist", "with %+v", e)
		tabletest.WantRows(t, s.Bucket(""), "t", 1, 2, 3)
	}
}

// TestExecDamaged checks that DROP TABLE works on a damaged table. Other statements report the damage.
func TestExecDamaged(t *testing.T) {
	s, _, _ := tabletest.CorruptedStore(t, "metadata", tabletest.Corruptions["truncated"])
	s.Opts().Engine = &rowsEngine{query: func(context.Context) []int64 { return []int64{1} }}
	for _, sql := range []string{"TRUNCATE bad", "DELETE FROM bad WHERE n = 1", "INSERT INTO bad VALUES (1)", "INSERT INTO bad SELECT 1", "CREATE OR REPLACE TABLE bad AS SELECT 1", "ALTER TABLE bad DROP s"} {
		must.Fail(t, must.Err(s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "one"})), tables.ErrDamaged, "%s", sql)
	}
	must.Get(s.Exec(t.Context(), "DROP TABLE bad", &tables.ExecOptions{Bucket: "one"}))(t)
	must.Fail(t, must.Err(s.Bucket("one").Table("bad").Info(t.Context())), tables.ErrNotFound, "after DROP TABLE")
}

// TestExecFailedCount checks that a failed statement reports no rows, and that the limit on the length of an ID
// includes the numbers of the parameters' rows.
func TestExecFailedCount(t *testing.T) {
	e := &rowsEngine{}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e})
	e.query = func(context.Context) []int64 {
		tabletest.Put(t, s.Bucket(""), "t", tables.PutError, 9)
		return []int64{1, 2, 3}
	}
	if r, err := s.Exec(t.Context(), "CREATE TABLE t AS SELECT n FROM u", nil); !errors.Is(err, tables.ErrExists) || r.Rows != 0 {
		t.Errorf("CREATE TABLE = %d rows, error %v; want 0 rows and ErrExists", r.Rows, err)
	}
	for length, isValid := range map[int]bool{tables.MaxName - 2: true, tables.MaxName - 1: false} {
		o := &tables.ExecOptions{ID: strings.Repeat("x", length), Parameters: twoParameters(t)}
		_, err := s.Exec(t.Context(), "TRUNCATE missing", o)
		if errors.As(err, new(*tables.ArgumentError)) == isValid {
			t.Errorf("with an ID of %d bytes: error %v, want valid: %v", length, err, isValid)
		}
	}
}

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
				must.Do(t, err)
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
		go func() { done <- must.Err(s.Exec(ctx, sql, nil)) }()
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
	must.Do(t, wait("the SELECT", selected))
	cancel()
	for _, done := range []chan error{first, second} {
		must.Fail(t, wait("the canceled DELETE", done), context.Canceled, "the canceled DELETE")
	}
	close(finish)
	must.Do(t, wait("the MERGE", merge))
	entry, release, err := s.Bucket("").Table("t").Acquire(t.Context())
	must.Do(t, err)
	defer release()
	entry.Commits.Lock()
	defer entry.Commits.Unlock()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	must.Fail(t, wait("the DELETE", exec(ctx, "DELETE FROM t WHERE n = 1")), context.DeadlineExceeded, "a DELETE beyond its deadline")
}

// TestExecDuringAppends checks that a DELETE blocks no append that writes files, even if it runs twice, for two rows of
// parameters. The appended rows stay, and do not make the DELETE start again.
func TestExecDuringAppends(t *testing.T) {
	b := execDuringAppends(t, "DELETE FROM t WHERE n = 2", nil, 1)
	tabletest.WantRows(t, b, "t", 1, 1, 1, 3)
	execDuringAppends(t, "DELETE FROM t WHERE n = $1", &tables.ExecOptions{Parameters: twoParameters(t)}, 2)
}

// execDuringAppends appends two rows during each of the statements of a DELETE.
func execDuringAppends(t *testing.T, sql string, o *tables.ExecOptions, statements int64) *tables.Bucket {
	t.Helper()
	e := &positionEngine{row: 1}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Engine: e, NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
	calls := int64(0)
	e.concurrently = func() {
		calls++
		done := make(chan error, 1)
		go func(n int64) {
			done <- must.Err(b.Table("t").Put(t.Context(), tabletest.Rows(n, n), tables.PutAppend, nil))
		}(calls)
		select {
		case err := <-done:
			must.Check(t, err)
		case <-time.After(5 * time.Second):
			t.Errorf("an append waits for statement %d", calls)
		}
	}
	r, err := s.Exec(t.Context(), sql, o)
	if err != nil || r.Rows != statements || calls != statements {
		t.Errorf("DELETE = %d rows, error %v, after %d queries; want %d rows after as many queries", r.Rows, err, calls, statements)
	}
	return b
}

func twoParameters(t *testing.T) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{2, 3}, nil)
	batch := b.NewRecordBatch()
	t.Cleanup(batch.Release)
	return batch
}
