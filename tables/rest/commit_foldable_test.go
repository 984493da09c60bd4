package rest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
)

// try sends a commit to a table, and reports whether the server accepted it.
func (c *catalog) try(name string, updates ...any) bool {
	c.Helper()
	code := c.statusOf("POST", "namespaces/ns/tables/"+name, object{"requirements": []any{}, "updates": updates})
	if code == 0 || code >= 500 {
		c.Errorf("commit %v: status %d", updates, code)
	}
	return code == 200
}

// putEmpty appends a row of zero values to a table, and reports whether the store accepted it.
func (c *catalog) putEmpty(name string) bool {
	c.Helper()
	table := c.store.Bucket("ns").Table(name)
	scan, err := table.Scan(c.Context(), nil)
	if err != nil {
		return false
	}
	columns := scan.Schema()
	scan.Release()
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	for _, f := range b.Fields() {
		f.AppendEmptyValue()
	}
	rows := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{b.NewRecordBatch()}))(c)
	_, err = table.Put(c.Context(), rows, tables.PutAppend, nil)
	return err == nil
}

// TestAcceptedCommitsFold checks that rows of a table can be folded after any commits that the server accepts, and
// after a new column.
func TestAcceptedCommitsFold(t *testing.T) {
	c := serveTables(t)
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	ids := []int{-1, 0, 1, 2, 3, 1000, math.MaxInt32 - 201, math.MaxInt32 - 200, math.MaxInt32 - 199, math.MaxInt32, math.MaxInt32 + 1, 1 << 40}
	id := func() int { return ids[r.IntN(len(ids))] }
	properties := []string{
		"write.parquet.compression-codec", "write.parquet.compression-level", "write.parquet.row-group-limit", "write.parquet.row-group-size-bytes",
		"write.parquet.page-size-bytes", "write.parquet.page-row-limit", "write.parquet.dict-size-bytes", "write.parquet.page-version", "write.target-file-size-bytes",
		"write.metadata.compression-codec", "write.metadata.metrics.default", "write.metadata.metrics.column.n", "write.metadata.metrics.max-inferred-column-defaults",
		"write.object-storage.enabled", "write.object-storage.partitioned-paths", "write.format.default", "write.delete.mode", "write.parquet.bloom-filter-enabled.column.n",
		"write.parquet.bloom-filter-fpp.column.n", "write.parquet.bloom-filter-max-bytes", "commit.manifest-merge.enabled", "commit.manifest.min-count-to-merge",
		"commit.manifest.target-size-bytes", "write.metadata.previous-versions-max", "history.expire.max-snapshot-age-ms", "format-version",
	}
	values := []string{"", "0", "-1", "x", "1e999", "lzo", "none", "true", "9223372036854775807", "truncate(0)", "truncate(-1)", "orc"}
	accepted := 0
	for i := range 80 {
		name := fmt.Sprint("t", i)
		c.create("ns", name)
		update := object{"action": "set-properties", "updates": object{properties[r.IntN(len(properties))]: values[r.IntN(len(values))]}}
		updates := []any{update}
		switch r.IntN(4) {
		case 0:
			fields := []any{object{"id": 1, "name": "n", "required": false, "type": "long"}, object{"id": id(), "name": "m", "required": false, "type": "long"}}
			if r.IntN(2) == 0 {
				fields[1] = object{"id": 2, "name": "m", "required": false, "type": object{"type": "list", "element-id": id(), "element": "long", "element-required": false}}
			}
			updates = []any{
				object{"action": "add-schema", "last-column-id": id(), "schema": object{"type": "struct", "schema-id": id(), "fields": fields}},
				object{"action": "set-current-schema", "schema-id": -1},
			}
		case 1:
			updates = []any{
				object{"action": "add-spec", "spec": object{"spec-id": id(), "fields": []any{object{"source-id": 1, "field-id": id(), "name": "p", "transform": []string{"bucket[4]", "identity", "void", "truncate[3]", "bucket[0]", "truncate[0]"}[r.IntN(6)]}}}},
				object{"action": "set-default-spec", "spec-id": -1},
			}
		case 2:
			updates = []any{
				object{"action": "add-sort-order", "sort-order": object{"order-id": id(), "fields": []any{object{"source-id": 1, "transform": []string{"identity", "bucket[3]"}[r.IntN(2)], "direction": "asc", "null-order": "nulls-first"}}}},
				object{"action": "set-default-sort-order", "sort-order-id": -1},
			}
		}
		if !c.try(name, updates...) {
			continue
		}
		accepted++
		table := c.store.Bucket("ns").Table(name)
		for range 2 {
			if !c.putEmpty(name) {
				break
			}
			if _, err := c.store.Fold(t.Context(), nil); err != nil {
				t.Errorf("seed %d: after the commit %v, a put was acknowledged, but the fold failed: %v", seed, updates, err)
				_ = table.Delete(t.Context())
				break
			}
			// It may be refused: then the columns stay as they are.
			_ = c.try(name, object{"action": "add-schema", "schema": object{"type": "struct", "fields": []any{object{"id": 1, "name": "n", "required": false, "type": "long"}, object{"id": math.MaxInt32 - 200, "name": "q", "required": false, "type": "long"}}}},
				object{"action": "set-current-schema", "schema-id": -1})
		}
	}
	if accepted < 10 {
		t.Errorf("the server accepted %d commits, want at least 10", accepted)
	}
}

// TestMetadataCodec checks that any codec of metadata is accepted, and that the name of the metadata's file, which is
// never compressed, says so: other programs decide by the name.
func TestMetadataCodec(t *testing.T) {
	c := serveTables(t, "t")
	for _, codec := range []string{"gzip", "GZIP", "none", "zstd", "x"} {
		if !c.try("t", object{"action": "set-properties", "updates": object{"write.metadata.compression-codec": codec}}) || !c.putEmpty("t") {
			t.Errorf("a commit of the codec %q, or the next put, failed", codec)
		}
		loaded := must.Get(iceberg.Load(t.Context(), c.store.Bucket("ns").Table("t"), nil))(t)
		if name := loaded.MetadataLocation(); strings.Count(path.Base(name), ".") != 2 {
			t.Errorf("with the codec %q, the metadata is in %s, want no suffix of a codec", codec, name)
		}
	}
}

// TestFieldIDs checks that columns have ids that Iceberg allows, and that no new column exceeds them.
func TestFieldIDs(t *testing.T) {
	c := serveTables(t)
	for id, want := range map[int]bool{-1: false, 0: false, 2: true, math.MaxInt32 - 200: true, math.MaxInt32 - 199: false, math.MaxInt32: false} {
		name := strings.ReplaceAll(fmt.Sprint("t", id), "-", "m")
		c.create("ns", name)
		fields := []any{object{"id": 1, "name": "n", "required": false, "type": "long"}, object{"id": id, "name": "m", "required": false, "type": "long"}}
		if got := c.try(name, object{"action": "add-schema", "schema": object{"type": "struct", "fields": fields}}, object{"action": "set-current-schema", "schema-id": -1}); got != want {
			t.Errorf("a commit of a column with the id %d was accepted: %t, want %t", id, got, want)
		}
	}
	err := c.store.Bucket("ns").Table(fmt.Sprint("t", math.MaxInt32-200)).Evolve(t.Context(), tables.ColumnChange{Op: "add", Column: "q", Type: "int64"})
	if err == nil || !strings.Contains(err.Error(), "Iceberg allows ids from 1 to 2147483447") {
		t.Errorf("a column after the highest id: error %v, want one about ids", err)
	}
}

// TestReaderSettings checks that a table's properties cannot configure the engines that read the table.
func TestReaderSettings(t *testing.T) {
	c := serveTables(t, "t")
	for property, want := range map[string]bool{
		"io-impl": false, "py-io-impl": false, "s3.endpoint": false, "S3.Endpoint": false, "s3.signer.uri": false, "gcs.oauth2.token": false, "adls.account-key": false,
		"client.factory": false, "token": false, "uri": false, "credential": false, "encryption.kms-impl": false, "write.py-location-provider.impl": false, "metrics-reporter-impl": false,
		"fs.s3a.endpoint": false, "comment": true, "owner": true, "client": true, "write.parquet.compression-codec": true, "read.split.target-size": true, "s3table": true,
	} {
		if got := c.try("t", object{"action": "set-properties", "updates": object{property: "zstd"}}); got != want {
			t.Errorf("a commit of the property %q was accepted: %t, want %t", property, got, want)
		}
		create := object{"name": "u", "schema": object{"type": "struct", "fields": []any{}}, "properties": object{property: "zstd"}}
		if !want {
			c.send("POST", "namespaces/ns/tables", create, 400, property)
		}
	}
}
