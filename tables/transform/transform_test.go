package transform_test

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/tablestest"
)

func newEngine(t testing.TB) *duck.Engine {
	engine, err := duck.New(&duck.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
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
	s := openStore(t, newEngine(t))
	needSQL(t, s)
	return s
}

// withoutSQL returns a store without an engine.
func withoutSQL(t testing.TB) *tables.Store { return openStore(t, nil) }

func openStore(t testing.TB, engine tables.Engine) *tables.Store {
	t.Helper()
	return tablestest.Open(t, &tables.Options{Engine: engine, FoldAge: -1})
}

// seedAndRounds returns the seed and the number of rounds of a random test. PARTD_RESAMPLE_SEED and
// PARTD_RESAMPLE_ROUNDS set them.
func seedAndRounds(t *testing.T) (seed uint64, rounds int) {
	t.Helper()
	seed, rounds = uint64(time.Now().UnixNano()), 1
	if n, err := strconv.ParseUint(os.Getenv("PARTD_RESAMPLE_SEED"), 10, 64); err == nil {
		seed = n
	}
	if n, err := strconv.Atoi(os.Getenv("PARTD_RESAMPLE_ROUNDS")); err == nil {
		rounds = n
	}
	t.Logf("PARTD_RESAMPLE_SEED=%d", seed)
	return seed, rounds
}

func put(t testing.TB, s *tables.Store, name string, m tables.PutMode, batches ...arrow.RecordBatch) {
	t.Helper()
	putWith(t, s, name, m, nil, batches...)
}

// byTime are the options for a put into a table with a time column in its settings.
var byTime = &tables.PutOptions{Settings: &tables.Settings{Time: "t"}}

func putWith(t testing.TB, s *tables.Store, name string, m tables.PutMode, o *tables.PutOptions, batches ...arrow.RecordBatch) {
	t.Helper()
	r, err := array.NewRecordReader(batches[0].Schema(), batches)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if _, err := s.Bucket("").Table(name).Put(t.Context(), r, m, o); err != nil {
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
