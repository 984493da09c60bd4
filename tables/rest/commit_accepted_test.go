package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
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
		loaded := must.Get(partdiceberg.Load(t.Context(), c.store.Bucket("ns").Table("t"), nil))(t)
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
	must.Fail(t, err, "Iceberg allows ids from 1 to 2147483447", "a column after the highest id")
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

// fileAt returns the file path of a location, which is a file URL.
func fileAt(location string) string { return strings.TrimPrefix(location, "file://") }

// forge writes the files of an engine's snapshot, with one manifest and one data file, at the given locations.
func (c *catalog) forge(base *table.Table, list, manifest, data string, status iceberg.ManifestEntryStatus) *table.Snapshot {
	c.Helper()
	const id = 77
	meta := base.Metadata()
	b := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, data, iceberg.ParquetFile, nil, nil, nil, 1, 100))(c)
	snapshot, sequence := int64(id), int64(1)
	var manifestData, listData bytes.Buffer
	m, err := iceberg.WriteManifest(manifest, &manifestData, 2, *iceberg.UnpartitionedSpec, meta.CurrentSchema(), id, []iceberg.ManifestEntry{
		iceberg.NewManifestEntry(status, &snapshot, &sequence, &sequence, b.Build()),
	})
	if err == nil {
		err = iceberg.WriteManifestList(2, &listData, id, nil, &sequence, 0, []iceberg.ManifestFile{m})
	}
	must.Do(c, err)
	for location, content := range map[string]*bytes.Buffer{manifest: &manifestData, list: &listData} {
		if strings.HasPrefix(location, "file://"+c.dir) || strings.HasPrefix(location, "/") {
			_ = os.MkdirAll(filepath.Dir(fileAt(location)), 0o777)
			must.Do(c, os.WriteFile(fileAt(location), content.Bytes(), 0o666))
		}
	}
	return &table.Snapshot{SnapshotID: id, SequenceNumber: 1, TimestampMs: meta.LastUpdatedMillis() + 1, ManifestList: list, SchemaID: new(int), Summary: &table.Summary{Operation: table.OpAppend}}
}

// TestLocationOutsideTable checks that no location in a commit or in registered metadata can lead outside its table: to
// another directory, table or scheme, or through a symbolic link.
func TestLocationOutsideTable(t *testing.T) {
	c := serveTables(t, "t", "victim")
	base, victim := c.load("ns", "t"), c.load("ns", "victim")
	outsideDir := t.TempDir()
	secret := filepath.Join(outsideDir, "secret.parquet")
	must.Do(t, os.WriteFile(secret, []byte("secret"), 0o600))
	tableLocation := base.Location()
	good := fileAt(tableLocation) + "/data/good.parquet"
	must.Do(t, os.MkdirAll(filepath.Dir(good), 0o777))
	must.Do(t, os.WriteFile(good, parquetFile(t, 1), 0o600))
	for name, target := range map[string]string{"link.parquet": secret, "dir": outsideDir} {
		must.Do(t, os.Symlink(target, fileAt(tableLocation)+"/data/"+name))
	}
	up := strings.Repeat("../", 30)
	outside := []string{
		secret, "file://" + secret, "file:" + secret, tableLocation + "/../x.avro", tableLocation + "/data/" + up + secret[1:], tableLocation + "/%2e%2e/%2e%2e/%2e%2e/catalog.db", tableLocation + "/./x",
		tableLocation, tableLocation + "/", "s3://bucket/x", "http://localhost/x", "", "x", "/etc/passwd", "file:///etc/passwd", tableLocation + "x/y", tableLocation + "//data/good.parquet",
		victim.Location() + "/metadata/x.avro", victim.MetadataLocation(), tableLocation + "/data/link.parquet", tableLocation + "/data/dir/secret.parquet", tableLocation + "/data/none\x00.parquet",
	}
	n := 0
	path := func() string { n++; return fmt.Sprintf("%s/metadata/%d.avro", tableLocation, n) }
	commit := func(s *table.Snapshot, code int, texts ...string) {
		t.Helper()
		c.send("POST", "namespaces/ns/tables/t", commitOf(base, s), code, texts...)
	}
	valid := c.forge(base, path(), path(), tableLocation+"/data/good.parquet", iceberg.EntryStatusADDED)
	for _, location := range outside {
		bad := *valid
		bad.ManifestList = location
		if location != "" { // the library itself refuses a snapshot without a list
			commit(&bad, 400, "ValidationException")
		}
		if !strings.Contains(location, "\x00") && location != "" {
			s := c.forge(base, path(), path(), location, iceberg.EntryStatusADDED)
			commit(s, 400, "ValidationException")
			s = c.forge(base, path(), path(), location, iceberg.EntryStatusDELETED)
			commit(s, 400, "ValidationException")
		}
	}
	s := c.forge(base, path(), "file://"+outsideDir+"/m.avro", tableLocation+"/data/good.parquet", iceberg.EntryStatusADDED)
	commit(s, 400, "outside")
	commit(c.forge(base, path(), path(), tableLocation+"/data/none.parquet", iceberg.EntryStatusADDED), 400, "does not exist")
	for _, props := range []string{
		`"write.data.path": "/tmp"`, `"write.data.path": "file:///tmp"`, `"write.metadata.path": "s3://b/x"`, `"write.object-storage.path": "` + victim.Location() + `"`,
		`"write.folder-storage.path": "` + tableLocation + `/../x"`, `"write.location-provider.impl": "evil.Class"`, `"partd.rules": "[]"`, `"partd.settings": "{}"`, `"partd.tail.x": "9"`,
	} {
		c.send("POST", "namespaces/ns/tables/t", `{"requirements": [], "updates": [{"action": "set-properties", "updates": {`+props+`}}]}`, 400, "ValidationException")
		c.send("POST", "namespaces/ns/tables", `{"name": "u", "schema": `+schemaN+`, "properties": {`+props+`}}`, 400, "ValidationException")
	}
	c.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": []any{object{"action": "set-properties", "updates": object{"write.data.path": tableLocation + "/data"}}}}, 200)
	for _, up := range []object{
		{"action": "set-location", "location": victim.Location()},
		{"action": "set-location", "location": "file:///tmp"},
		{"action": "assign-uuid", "uuid": victim.Metadata().TableUUID()},
		{"action": "set-statistics", "statistics": object{"snapshot-id": 1, "statistics-path": "file:///etc/passwd", "file-size-in-bytes": 1, "file-footer-size-in-bytes": 1, "blob-metadata": []any{}}},
	} {
		c.send("POST", "namespaces/ns/tables/t", object{"requirements": []any{}, "updates": []any{up}}, 400)
	}
	c.checkRegister(t, outside, victim)
	if c.load("ns", "t").CurrentSnapshot() != nil {
		t.Error("a forged snapshot was committed")
	}
	base = c.load("ns", "t")
	commit(valid, 200)
}

// checkRegister checks that metadata whose locations lead outside the table cannot be registered.
func (c *catalog) checkRegister(t *testing.T, outside []string, victim *table.Table) {
	t.Helper()
	register := func(location string, code int, texts ...string) {
		t.Helper()
		c.send("POST", "namespaces/ns/register", object{"name": "r", "metadata-location": location}, code, texts...)
	}
	for _, location := range outside {
		if location == victim.MetadataLocation() {
			register(location, 409) // the metadata belongs to a table
			continue
		}
		register(location, 400, "ValidationException")
	}
	text := must.Get(os.ReadFile(fileAt(victim.MetadataLocation())))(t)
	var doc object
	must.Do(t, json.Unmarshal(text, &doc))
	root := strings.TrimSuffix(victim.Location(), filepath.Base(victim.Location()))
	dir := root + "mine"
	write := func(name string, change func(object)) string {
		t.Helper()
		metadata := object{}
		for k, v := range doc {
			metadata[k] = v
		}
		metadata["location"], metadata["table-uuid"] = dir, "11111111-2222-3333-4444-555555555555"
		change(metadata)
		b := must.Get(json.Marshal(metadata))(t)
		file := fileAt(dir) + "/metadata/" + name
		must.Do(t, os.MkdirAll(filepath.Dir(file), 0o777))
		must.Do(t, os.WriteFile(file, b, 0o666))
		return dir + "/metadata/" + name
	}
	register(write("a.json", func(o object) { o["location"] = victim.Location() }), 400)
	register(write("b.json", func(o object) { o["location"] = "file:///" }), 400)
	register(write("c.json", func(o object) { o["table-uuid"] = victim.Metadata().TableUUID() }), 409)
	register(write("d.json", func(o object) { o["properties"] = object{"write.data.path": "/tmp"} }), 400)
	register(write("e.json", func(o object) {
		o["current-snapshot-id"], o["last-sequence-number"] = 5, 1
		o["refs"] = object{"main": object{"snapshot-id": 5, "type": "branch"}}
		o["snapshots"] = []any{object{"snapshot-id": 5, "sequence-number": 1, "timestamp-ms": o["last-updated-ms"], "manifest-list": "file:///etc/passwd", "summary": object{"operation": "append"}, "schema-id": 0}}
	}), 400)
	register(write("f.json", func(o object) { o["schemas"] = "nonsense" }), 400)
	must.Do(t, os.Symlink(fileAt(victim.MetadataLocation()), fileAt(dir)+"/metadata/g.json"))
	register(dir+"/metadata/g.json", 400)
	must.Do(t, os.Symlink(fileAt(victim.Location()), fileAt(root)+"linked"))
	register(root+"linked/metadata/"+filepath.Base(victim.MetadataLocation()), 400)
	register(write("ok.json", func(object) {}), 200)
}

// TestManifestLimits checks that manifest lists and manifests with too many entries or decompressed bytes are refused.
func TestManifestLimits(t *testing.T) {
	c := serveTables(t, "t")
	base := c.load("ns", "t")
	tableLocation := base.Location()
	meta, snapshot, sequence := base.Metadata(), int64(77), int64(1)
	write := func(location string, content *bytes.Buffer, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(fileAt(location), content.Bytes(), 0o666)
		}
		must.Do(t, err)
	}
	manifest, list := tableLocation+"/metadata/m.avro", tableLocation+"/metadata/l.avro"
	s := c.forge(base, list, manifest, tableLocation+"/data/x.parquet", iceberg.EntryStatusADDED)
	checkRefused := func() {
		t.Helper()
		c.send("POST", "namespaces/ns/tables/t", commitOf(base, s), 400, "ValidationException", "exceed the limit")
	}
	m := iceberg.NewManifestFile(2, manifest, 1<<30, 0, snapshot).SequenceNum(1, 1)
	writeList := func(m iceberg.ManifestFile, n int) {
		t.Helper()
		var b bytes.Buffer
		err := iceberg.WriteManifestList(2, &b, snapshot, nil, &sequence, 0, slices.Repeat([]iceberg.ManifestFile{m}, n))
		write(list, &b, err)
	}
	writeList(m.Build(), 10_001)
	checkRefused()
	writeList(m.KeyMetadata(make([]byte, 1<<20)).Build(), 65)
	checkRefused()

	d := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, tableLocation+"/data/x.parquet", iceberg.ParquetFile, nil, nil, nil, 1, 100))(t)
	e := iceberg.NewManifestEntry(iceberg.EntryStatusDELETED, &snapshot, &sequence, &sequence, d.KeyMetadata(make([]byte, 8<<20)).Build())
	var b bytes.Buffer
	manifestFile, err := iceberg.WriteManifest(manifest, &b, 2, *iceberg.UnpartitionedSpec, meta.CurrentSchema(), snapshot, slices.Repeat([]iceberg.ManifestEntry{e}, 129))
	write(manifest, &b, err)
	writeList(manifestFile, 1)
	checkRefused()
}
