package tables

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// warehouse is a store of tables in a bucket, with its catalog in PostgreSQL.
type warehouse struct {
	gateway  *procs.Gateway
	postgres *procs.Postgres
	url      string
	options  Options
}

func startWarehouse(t testing.TB) *warehouse {
	t.Helper()
	w := &warehouse{gateway: procs.StartGateway(t), postgres: procs.StartPostgres(t)}
	w.url = fmt.Sprintf("s3://bucket/house?endpoint=http://%s", w.gateway.Addr)
	w.options = Options{Catalog: w.postgres.URL(), CacheDir: t.TempDir(), OpenBucket: cloud.OpenBucket, FoldAge: -1}
	return w
}

// memoryWarehouse returns options for tables in a bucket in memory, with a catalog on SQLite.
func memoryWarehouse(t testing.TB, b objstore.Bucket) *Options {
	t.Helper()
	return &Options{
		Catalog: t.TempDir(), CacheDir: t.TempDir(), FoldAge: -1,
		OpenBucket: func(context.Context, string) (objstore.Bucket, error) { return b, nil },
	}
}

// schemaOf creates a schema in the database, and returns the URL of a catalog in it.
func (w *warehouse) schemaOf(t testing.TB, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // only cleanup
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return w.postgres.URL() + "&search_path=" + name
}

// TestModelOnPostgresAndS3 runs TestModel's operations on a bucket with the catalog in PostgreSQL.
func TestModelOnPostgresAndS3(t *testing.T) {
	w := startWarehouse(t)
	for seed := range uint64(2) {
		name := fmt.Sprint("model", seed)
		o := w.options
		o.Catalog, o.FoldBytes = w.schemaOf(t, name), 3000
		o.CacheSize = 100_000 // far less than the data
		url := fmt.Sprintf("s3://bucket/%s?endpoint=http://%s", name, w.gateway.Addr)
		if seed == 0 {
			o.TailDir = t.TempDir() + "/tail"
		}
		runModel(t, url, o, seed, 60)
		s := mustOpen(t, url, &o)
		if findings, r := verifyAll(t, s, VerifyOptions{}); len(findings) > 0 || r.Files == 0 {
			t.Errorf("Verify reported %+v with result %+v, want no findings and Files above 0", findings, r)
		}
	}
}

// TestModelOnPostgres runs TestModel's operations on a directory whose catalog is in PostgreSQL.
func TestModelOnPostgres(t *testing.T) {
	s := procs.StartPostgres(t)
	dir := t.TempDir()
	runModel(t, dir, Options{Catalog: s.URL(), FoldBytes: 3000, FoldAge: -1}, 3, 100)
	o := &Options{Catalog: s.URL()}
	if other, err := Open(t.Context(), t.TempDir(), o); err == nil {
		other.Close()
		t.Error("Open of a second directory with the same catalog database succeeded, want an error")
	}
}
