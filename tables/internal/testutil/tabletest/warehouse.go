package tabletest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
)

// Warehouse is a store of tables in a bucket, with its catalog in PostgreSQL.
type Warehouse struct {
	Gateway  *procs.Gateway
	Postgres *procs.Postgres
	URL      string
	Options  tables.Options
}

func StartWarehouse(t testing.TB) *Warehouse {
	t.Helper()
	w := &Warehouse{Gateway: procs.StartGateway(t), Postgres: procs.StartPostgres(t)}
	w.URL = fmt.Sprintf("s3://bucket/house?endpoint=http://%s", w.Gateway.Addr)
	w.Options = tables.Options{Catalog: w.Postgres.URL(), CacheDir: t.TempDir(), OpenBucket: cloud.OpenBucket, FoldAge: -1}
	return w
}

// MemoryWarehouse returns options for tables in a bucket in memory, with a catalog on SQLite.
func MemoryWarehouse(t testing.TB, b objstore.Bucket) *tables.Options {
	t.Helper()
	return &tables.Options{
		Catalog: t.TempDir(), CacheDir: t.TempDir(), FoldAge: -1,
		OpenBucket: func(context.Context, string) (objstore.Bucket, error) { return b, nil },
	}
}

// SchemaOf creates a schema in the database, and returns the URL of a catalog in it.
func (w *Warehouse) SchemaOf(t testing.TB, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.Postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // only cleanup
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return w.Postgres.URL() + "&search_path=" + name
}
