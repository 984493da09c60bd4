package transform_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

func newEngine(t testing.TB) *duck.Engine {
	engine, err := duck.New(&duck.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// needSQL skips the test if the program was built without DuckDB.
func needSQL(t testing.TB, s *tables.Store) {
	if _, err := s.Describe(t.Context(), "SELECT 1", nil); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
}

func newStore(t testing.TB) *tables.Store {
	t.Helper()
	engine := newEngine(t)
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: engine, FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	needSQL(t, s)
	return s
}

func put(t testing.TB, s *tables.Store, name string, m tables.PutMode, batches ...arrow.RecordBatch) {
	t.Helper()
	r, err := array.NewRecordReader(batches[0].Schema(), batches)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if _, err := s.Bucket("").Table(name).Put(t.Context(), r, m, nil); err != nil {
		t.Fatal(err)
	}
}

func scan(t testing.TB, s *tables.Store, name string) (*arrow.Schema, []arrow.RecordBatch) {
	t.Helper()
	table := s.Bucket("").Table(name)
	r, err := table.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var batches []arrow.RecordBatch
	for r.Next() {
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r.Schema(), batches
}
