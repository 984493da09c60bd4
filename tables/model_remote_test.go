package tables_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// TestModelOnPostgresAndS3 runs TestModel's operations on a bucket with the catalog in PostgreSQL. PARTD_REMOTE_STEPS sets
// how many operations.
func TestModelOnPostgresAndS3(t *testing.T) {
	w := tabletest.StartWarehouse(t)
	for seed := range uint64(2) {
		name := fmt.Sprint("model", seed)
		o := w.Options
		o.Catalog, o.FoldBytes = w.SchemaOf(t, name), 3000
		o.CacheSize = 100_000 // far less than the data
		url := fmt.Sprintf("s3://bucket/%s?endpoint=http://%s", name, w.Gateway.Addr)
		if seed == 0 {
			o.TailDir = t.TempDir() + "/tail"
		}
		(&model{dir: url, opts: o}).run(t, seed, tabletest.Rounds(t, "PARTD_REMOTE_STEPS", 50))
		s := tabletest.Open(t, url, &o)
		if findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 || r.Files == 0 {
			t.Errorf("Verify reported %+v with result %+v, want no findings and Files above 0", findings, r)
		}
	}
}

// TestModelOnPostgres runs TestModel's operations on a directory whose catalog is in PostgreSQL.
func TestModelOnPostgres(t *testing.T) {
	s := procs.StartPostgres(t)
	dir := t.TempDir()
	(&model{dir: dir, opts: tables.Options{Catalog: s.URL(), FoldBytes: 3000, FoldAge: -1}}).run(t, 3, tabletest.Rounds(t, "PARTD_REMOTE_STEPS", 75))
	o := &tables.Options{Catalog: s.URL()}
	if other, err := tables.Open(t.Context(), t.TempDir(), o); err == nil {
		other.Close()
		t.Error("Open of a second directory with the same catalog database succeeded, want an error")
	}
	o.Catalog = (&tabletest.Warehouse{Postgres: s}).SchemaOf(t, "empty")
	if other, err := tables.Open(t.Context(), dir, o); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "the catalog is new") {
		other.Close()
		t.Errorf("Open with an empty database = %v, want ErrDamaged", err)
	}
}
