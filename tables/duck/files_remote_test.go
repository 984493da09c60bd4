//go:build cgo

package duck

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestBucketFiles checks that DuckDB reads local copies of a bucket's files. The copies must remain while DuckDB reads
// them, although the cache is too small for any of them.
func TestBucketFiles(t *testing.T) {
	engine := must.Get(New(nil))(t)
	defer func() { must.Do(t, engine.Close()) }()
	bucket := objstore.NewCounter(new(objstore.Memory))
	ctx := t.Context()
	s := must.Get(tables.Open(ctx, "s3://memory/house", &tables.Options{
		Engine: engine, Catalog: t.TempDir(), CacheDir: t.TempDir(), CacheSize: 1,
		OpenBucket: func(context.Context, string) (objstore.Bucket, error) { return bucket, nil },
	}))(t)
	defer func() { must.Do(t, s.Close()) }()
	schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}}, nil)
	for n := range 10 {
		putBatch(t, s.Bucket("").Table("t"), tabletest.ParseRows(t, schema, fmt.Sprintf(`[{"k":%d}]`, n)))
	}
	before := bucket.Requests()
	r := must.Get(s.Query(ctx, "SELECT count(*) AS n, sum(a.k)::BIGINT AS k FROM t AS a, t AS b", nil))(t)
	defer r.Release()
	if !r.Next() {
		t.Fatalf("the query returned no rows; error: %v", r.Err())
	}
	if b := r.RecordBatch(); b.Column(0).(*array.Int64).Value(0) != 100 || b.Column(1).(*array.Int64).Value(0) != 450 {
		t.Errorf("the query returned %v, want 100 and 450", b)
	}
	// The query reads a manifest list, ten manifests and ten files, each once for both references to the table. Because
	// the cache is so small, a copy can be evicted before it is opened, and must then be read again.
	if n := bucket.Requests().Get - before.Get; n > 1+10+10+5 {
		t.Errorf("the query made %d GET requests, want at most 26", n)
	}
}
