package rest

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
)

// engineSnapshot describes an engine's snapshot with one manifest and one file.
type engineSnapshot struct {
	list, manifest string // file names
	spec           iceberg.PartitionSpec
	schema         *iceberg.Schema // the manifest's schema
	format         iceberg.FileFormat
	content        iceberg.ManifestEntryContent
	partition      map[int]any
	equality       []int
	sequence       int64 // sequence number of the manifest's entry
	// inList, if not nil, returns the manifest's entry in the manifest list.
	inList func(m iceberg.ManifestFile, b *iceberg.ManifestBuilder) iceberg.ManifestFile
}

// writeSnapshot writes the files of a snapshot into a table's directory.
func (c *catalog) writeSnapshot(base *table.Table, b engineSnapshot) *table.Snapshot {
	c.Helper()
	location, snapshot, sequence := base.Location(), int64(77), int64(1)
	data := location + "/data/x.parquet"
	d := must.Get(iceberg.NewDataFileBuilder(b.spec, b.content, data, b.format, b.partition, nil, nil, 1, 100))(c)
	if b.equality != nil {
		d.EqualityFieldIDs(b.equality)
	}
	e := iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &snapshot, &b.sequence, &b.sequence, d.Build())
	var manifest, list bytes.Buffer
	content := iceberg.ManifestContentData
	if b.content != iceberg.EntryContentData {
		content = iceberg.ManifestContentDeletes
	}
	w, err := iceberg.NewManifestWriter(2, &manifest, b.spec, b.schema, snapshot, iceberg.WithManifestWriterContent(content))
	if err == nil {
		err = w.Add(e)
	}
	if err == nil {
		err = w.Close()
	}
	m := iceberg.NewManifestFile(2, location+"/metadata/"+b.manifest, int64(manifest.Len()), int32(b.spec.ID()), snapshot).
		SequenceNum(1, 1).Content(content).AddedFiles(1).AddedRows(1)
	entry := m.Build()
	if b.inList != nil {
		entry = b.inList(entry, m)
	}
	if err == nil {
		err = iceberg.WriteManifestList(2, &list, snapshot, nil, &sequence, 0, []iceberg.ManifestFile{entry})
	}
	must.Do(c, err)
	c.write(data, parquetFile(c, 1))
	c.write(location+"/metadata/"+b.manifest, manifest.Bytes())
	c.write(location+"/metadata/"+b.list, list.Bytes())
	return &table.Snapshot{
		SnapshotID: snapshot, SequenceNumber: sequence, TimestampMs: base.Metadata().LastUpdatedMillis() + 1, ManifestList: location + "/metadata/" + b.list,
		SchemaID: new(int), Summary: &table.Summary{Operation: table.OpAppend},
	}
}

func (c *catalog) write(location string, content []byte) {
	c.Helper()
	path := fileAt(location)
	must.Do(c, os.MkdirAll(path[:strings.LastIndex(path, "/")], 0o777))
	must.Do(c, os.WriteFile(path, content, 0o666))
}

// manifestWithoutDataFile returns a manifest whose entries have only a status.
func manifestWithoutDataFile(t *testing.T) []byte {
	t.Helper()
	schema := must.Get(avro.Parse(`{"type": "record", "name": "manifest_entry", "fields": [{"name": "status", "type": "int", "field-id": 0}]}`))(t)
	var b bytes.Buffer
	w, err := ocf.NewWriter(&b, schema, ocf.WithMetadata(map[string][]byte{"format-version": []byte("2"), "content": []byte("data"), "schema": []byte("{}"), "partition-spec": []byte("[]"), "partition-spec-id": []byte("0")}))
	if err == nil {
		err = w.Encode(map[string]any{"status": int32(1)})
	}
	if err == nil {
		err = w.Close()
	}
	must.Do(t, err)
	return b.Bytes()
}

// TestFalseManifests checks that a commit is refused, with the reason, if its manifests would make scans fail or
// allocate excessive memory.
func TestFalseManifests(t *testing.T) {
	c := serveTables(t, "t")
	c.send("POST", "namespaces/ns/tables", `{"name": "parts", "schema": `+schemaN+`, "partition-spec": {"spec-id": 0, "fields": [{"source-id": 1, "field-id": 1000, "name": "n", "transform": "identity"}]}}`, 200)
	plain, parts := c.load("ns", "t"), c.load("ns", "parts")
	valid := engineSnapshot{list: "l.avro", manifest: "m.avro", spec: *iceberg.UnpartitionedSpec, schema: plain.Schema(), format: iceberg.ParquetFile, sequence: 1}
	checkRefused := func(reason string, base *table.Table, b engineSnapshot) {
		t.Helper()
		s := c.writeSnapshot(base, b)
		c.send("POST", "namespaces/ns/tables/"+base.Identifier()[1], commitOf(base, s), 400, "ValidationException", reason)
	}
	withListEntry := func(change func(*iceberg.ManifestBuilder)) engineSnapshot {
		b := valid
		b.inList = func(_ iceberg.ManifestFile, m *iceberg.ManifestBuilder) iceberg.ManifestFile {
			change(m)
			return m.Build()
		}
		return b
	}
	for _, n := range []int32{1, 7, -1, math.MaxInt32} {
		checkRefused("existing files, but the manifest contains 0", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.ExistingFiles(n) }))
		checkRefused("deleted files, but the manifest contains 0", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.DeletedFiles(n) }))
		checkRefused("deleted rows, but the manifest contains 0", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.DeletedRows(int64(n)) }))
	}
	checkRefused("says 2 added files, but the manifest contains 1", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.AddedFiles(2) }))
	checkRefused("says 0 added rows, but the manifest contains 1", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.AddedRows(0) }))
	checkRefused("sequence numbers", plain, withListEntry(func(m *iceberg.ManifestBuilder) { m.SequenceNum(9, 1) }))
	for _, spec := range []int32{99, -1} {
		b := valid
		b.inList = func(iceberg.ManifestFile, *iceberg.ManifestBuilder) iceberg.ManifestFile {
			return iceberg.NewManifestFile(2, plain.Location()+"/metadata/m.avro", 1000, spec, 77).SequenceNum(1, 1).AddedFiles(1).AddedRows(1).Build()
		}
		checkRefused("no partition spec", plain, b)
	}
	modified := func(change func(*engineSnapshot)) engineSnapshot { b := valid; change(&b); return b }
	checkRefused("does not end in .avro", plain, modified(func(b *engineSnapshot) { b.manifest = "m.bin" }))
	checkRefused("does not end in .avro", plain, modified(func(b *engineSnapshot) { b.list = "l" }))
	checkRefused("its format is ORC", plain, modified(func(b *engineSnapshot) { b.format = iceberg.OrcFile }))
	checkRefused("its format is AVRO", plain, modified(func(b *engineSnapshot) { b.format = iceberg.AvroFile }))
	checkRefused("its sequence number", plain, modified(func(b *engineSnapshot) { b.sequence = 1 << 62 }))
	checkRefused("its equality deletes name no column", plain, modified(func(b *engineSnapshot) { b.content = iceberg.EntryContentEqDeletes }))
	checkRefused("column with ID 999", plain, modified(func(b *engineSnapshot) { b.content, b.equality = iceberg.EntryContentEqDeletes, []int{999} }))

	spec := parts.Spec()
	text := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.String})
	checkRefused("is of type string, not long", parts, modified(func(b *engineSnapshot) { b.spec, b.schema, b.partition = spec, text, map[int]any{1000: "x"} }))
	checkRefused("no value for the partition field with ID 1000", parts, valid)

	s := c.writeSnapshot(plain, valid)
	c.write(plain.Location()+"/metadata/m.avro", manifestWithoutDataFile(t))
	c.send("POST", "namespaces/ns/tables/t", commitOf(plain, s), 400, "ValidationException", "lack the field data_file")

	c.send("POST", "namespaces/ns/tables/t", commitOf(plain, c.writeSnapshot(plain, valid)), 200)
	s = c.writeSnapshot(parts, modified(func(b *engineSnapshot) { b.spec, b.partition = spec, map[int]any{1000: int64(5)} }))
	c.send("POST", "namespaces/ns/tables/parts", commitOf(parts, s), 200)
}

// TestFalseKnownManifest checks that a manifest list is refused if its counts for a manifest of the table's last
// snapshot are wrong.
func TestFalseKnownManifest(t *testing.T) {
	c := serve(t, t.TempDir(), flightd.Options{}, Options{})
	c.put("ns", "t", nil, 1, 2)
	c.send("GET", "namespaces/ns/tables/t", nil, 200)
	base := c.load("ns", "t")
	manifests := must.Get(base.CurrentSnapshot().Manifests(firstOf(base.FS(t.Context()))))(t)
	commit := func(id int64, claimed int32, code int) {
		t.Helper()
		sequence := base.Metadata().LastSequenceNumber() + 1
		entry := iceberg.NewManifestFile(2, manifests[0].FilePath(), manifests[0].Length(), 0, manifests[0].SnapshotID()).SequenceNum(manifests[0].SequenceNum(), manifests[0].MinSequenceNum()).
			AddedFiles(manifests[0].AddedDataFiles()).AddedRows(manifests[0].AddedRows()).ExistingFiles(claimed).Build()
		var list bytes.Buffer
		must.Do(t, iceberg.WriteManifestList(2, &list, id, nil, &sequence, 0, slices.Repeat([]iceberg.ManifestFile{entry}, 1)))
		location := base.Location() + "/metadata/list.avro"
		c.write(location, list.Bytes())
		s := &table.Snapshot{SnapshotID: id, SequenceNumber: sequence, TimestampMs: base.Metadata().LastUpdatedMillis() + 1, ManifestList: location, SchemaID: new(int), Summary: &table.Summary{Operation: table.OpAppend}}
		c.send("POST", "namespaces/ns/tables/t", commitOf(base, s), code)
	}
	commit(77, math.MaxInt32, 400)
	commit(78, 0, 200)
	c.wantRows("ns", "t", 1, 2)
}

// TestManifestChangedAfterCommit checks that scans fail if a manifest list or a manifest has changed since its commit,
// and do not allocate as much memory as the changed file claims.
func TestManifestChangedAfterCommit(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *catalog, *table.Table, engineSnapshot){
		"a list": func(_ *testing.T, c *catalog, base *table.Table, b engineSnapshot) {
			b.inList = func(_ iceberg.ManifestFile, m *iceberg.ManifestBuilder) iceberg.ManifestFile {
				return m.ExistingFiles(math.MaxInt32).Build()
			}
			c.writeSnapshot(base, b)
		},
		"a manifest": func(t *testing.T, c *catalog, base *table.Table, b engineSnapshot) {
			c.write(base.Location()+"/metadata/"+b.manifest, manifestWithoutDataFile(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveTables(t, "t")
			base := c.load("ns", "t")
			b := engineSnapshot{list: "l.avro", manifest: "m.avro", spec: *iceberg.UnpartitionedSpec, schema: base.Schema(), format: iceberg.ParquetFile, sequence: 1}
			c.send("POST", "namespaces/ns/tables/t", commitOf(base, c.writeSnapshot(base, b)), 200)
			change(t, c, base, b)
			r, err := c.store.Bucket("ns").Table("t").Scan(t.Context(), nil)
			if err == nil {
				for r.Next() {
				}
				err = r.Err()
				r.Release()
			}
			if err == nil || !strings.Contains(err.Error(), "2147483648 files") && !strings.Contains(err.Error(), "data_file") {
				t.Errorf("scan: got error %v, want an error about the number of files or data_file", err)
			}
		})
	}
}
