package rest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/twmb/avro/ocf"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// recordedTables serves a copy of a warehouse in which DuckDB 1.5.5, pyiceberg 0.12 and Spark 4.1 have changed tables.
// For each engine and format version, there is one table; its rows were the numbers from 0 to 9 before.
func recordedTables(t testing.TB) *catalog {
	t.Helper()
	dir := t.TempDir()
	f := must.Get(os.Open("testdata/engines.tar.gz"))(t)
	defer f.Close()
	z := must.Get(gzip.NewReader(f))(t)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return serve(t, dir, flightd.Options{}, Options{})
		}
		path := filepath.Join(dir, h.Name)
		b, readErr := io.ReadAll(r)
		if err = errors.Join(err, readErr); err == nil && h.Typeflag == tar.TypeReg {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, b, 0o666))
		}
		must.Do(t, err)
	}
}

// recordedRows are the rows that the engines themselves saw.
var recordedRows = map[string][]int64{
	"duckdb_v2":    {0, 1, 2, 7, 8, 9, 21, 30, 60},
	"duckdb_v3":    {0, 1, 2, 7, 8, 9, 21, 30, 60},
	"pyiceberg_v2": {0, 1, 2, 4, 5, 6, 7, 8, 9, 20},
	"spark_v2":     {0, 1, 2, 4, 6, 7, 8, 9},
}

func (c *catalog) tryRows(name string) (ns []int64, err error) {
	r, err := c.store.Bucket("").Table(name).Scan(c.Context(), &tables.ScanOptions{Columns: []string{"n"}})
	if err != nil {
		return nil, err
	}
	defer r.Release()
	for r.Next() {
		ns = append(ns, r.RecordBatch().Column(0).(interface{ Int64Values() []int64 }).Int64Values()...)
	}
	slices.Sort(ns)
	return ns, r.Err()
}

// readAll reads a table in each way, and returns an error if one of them fails or returns other rows than the scan. If
// intact is true, Verify must find no damage.
func (c *catalog) readAll(name string, intact bool) error {
	ctx, b := c.Context(), c.store.Bucket("")
	ns, err := c.tryRows(name)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	changes, err := b.Table(name).Changes(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("changes: %w", err)
	}
	count, err := tabletest.CountRows(changes)
	if err != nil || count != int64(len(ns)) {
		return fmt.Errorf("changes: %d rows, error %w; the scan has %d", count, err, len(ns))
	}
	only := &tables.MaintainOptions{Buckets: tables.Buckets{""}, Tables: []string{name}}
	var damaged []tables.Finding
	_, err = c.store.Verify(ctx, &tables.VerifyOptions{Buckets: only.Buckets, Tables: only.Tables, Report: func(f tables.Finding) {
		if f.State == tables.Damaged {
			damaged = append(damaged, f)
		}
	}})
	if err != nil || len(damaged) > 0 && intact {
		return fmt.Errorf("verify: damaged %+v, error %w", damaged, err)
	}
	if _, err := b.Snapshot(ctx, ""); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if _, err := c.store.Fold(ctx, only); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	if _, err := c.store.Compact(ctx, only); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if compacted, err := c.tryRows(name); err != nil || !slices.Equal(compacted, ns) {
		return fmt.Errorf("after compact: rows %v, error %w; before: %v", compacted, err, ns)
	}
	return nil
}

// TestRecordedEngines checks that all readers agree about the tables that other engines have changed.
func TestRecordedEngines(t *testing.T) {
	c := recordedTables(t)
	for name, want := range recordedRows {
		if got, err := c.tryRows(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got rows %v, error %v, want %v", name, got, err, want)
		} else if err := c.readAll(name, true); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFalseBounds checks that conditions find a time in nanoseconds that DuckDB's bounds of the file exclude.
func TestFalseBounds(t *testing.T) {
	c := recordedTables(t)
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	inserted := must.Get(c.store.Bucket("").Table("duckdb_v3").At(t.Context(), tables.AtVersion(3)))(t)
	for _, o := range []*tables.ScanOptions{{Filter: filter.Eq("ts", at)}, {TimeColumn: "ts", From: at, To: at.Add(1)}} {
		r := must.Get(inserted.Scan(t.Context(), o))(t)
		if count, err := tabletest.CountRows(r); err != nil || count != 1 {
			t.Errorf("%+v: %d rows, error %v, want 1 row", o, count, err)
		}
	}
}

// TestMutatedManifests changes fields of the engines' manifests. A commit with such a manifest must be refused, or all
// readers must be able to read the table afterwards. PARTD_MUTATIONS is the number of changes.
func TestMutatedManifests(t *testing.T) {
	seed := uint64(os.Getpid())
	if text := os.Getenv("PARTD_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	count, _ := strconv.Atoi(cmp.Or(os.Getenv("PARTD_MUTATIONS"), "40"))
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
	names, fields := slices.Sorted(maps.Keys(recordedRows)), slices.Sorted(maps.Keys(mutations))
	accepted := 0
	var c *catalog
	var manifests map[string][]iceberg.ManifestFile
	for n := 0; n < count; n++ {
		if n%20 == 0 || t.Failed() { // fewer versions are faster to verify
			c, manifests = recordedTables(t), map[string][]iceberg.ManifestFile{}
			for _, name := range names {
				base := c.load("", name)
				manifests[name] = must.Get(base.CurrentSnapshot().Manifests(firstOf(base.FS(t.Context()))))(t)
			}
		}
		name := names[random.IntN(len(names))]
		i, field := random.IntN(len(manifests[name])), fields[random.IntN(len(fields))]
		value := mutations[field][random.IntN(len(mutations[field]))]
		description := fmt.Sprintf("PARTD_SEED=%d, %s, manifest %d, %s = %v", seed, name, i, field, value)
		base := c.load("", name)
		before := must.Get(c.tryRows(name))(t)
		s, changed := c.mutatedSnapshot(base, manifests[name], i, field, value)
		if !changed {
			continue
		}
		switch code := c.statusOf("POST", "namespaces/default/tables/"+name, commitOf(base, s)); {
		case code >= 500 || code < 200:
			t.Errorf("%s: status %d", description, code)
		case code >= 400:
			if after, err := c.tryRows(name); err != nil || !slices.Equal(after, before) {
				t.Errorf("%s: the refused commit changed the rows %v to %v, error %v", description, before, after, err)
			}
		default:
			accepted++
			if err := c.readAll(name, false); err != nil {
				t.Errorf("%s: the commit was accepted, but %v", description, err)
			}
		}
	}
	if t.Logf("%d of %d commits were accepted", accepted, count); accepted == 0 || accepted == count {
		t.Error("all or none of the commits were accepted")
	}
}

// mutations are values for the fields of an entry of a manifest.
var mutations = map[string][]any{
	"file_format":           {"parquet", "PARQUET", "Parquet", "puffin", "PUFFIN", "Puffin", "orc", "avro", ""},
	"content":               {int32(0), int32(1), int32(2), int32(3), int32(-1)},
	"referenced_data_file":  {nil, "", "x", "another"},
	"content_offset":        {nil, int64(0), int64(-1), int64(5), int64(math.MaxInt64)},
	"content_size_in_bytes": {nil, int64(0), int64(-1), int64(5), int64(math.MaxInt64)},
	"record_count":          {int64(-1)},
	"file_size_in_bytes":    {int64(-1), int64(0), int64(1)},
	"equality_ids":          {nil, []any{}, []any{int32(1)}, []any{int32(99)}},
	"split_offsets":         {nil, []any{}, []any{int64(-1)}},
	"sort_order_id":         {nil, int32(0), int32(7)},
	"lower_bounds":          {nil, []any{map[string]any{"key": int32(1), "value": []byte("x")}}},
	"status":                {int32(0), int32(1), int32(2), int32(3), int32(-1)},
	"sequence_number":       {nil, int64(0), int64(-1), int64(math.MaxInt64)},
	"file_sequence_number":  {nil, int64(0), int64(-1), int64(math.MaxInt64)},
	"snapshot_id":           {nil, int64(-1)},
}

// mutatedSnapshot writes a snapshot with the given manifests, except that a field of the first entry of manifest i has
// another value. It returns false if the manifest lacks the field.
func (c *catalog) mutatedSnapshot(base *table.Table, manifests []iceberg.ManifestFile, i int, field string, value any) (*table.Snapshot, bool) {
	c.Helper()
	local := func(location string) string {
		return filepath.Join(c.dir, location[strings.Index(location, "/data/"):]) // Spark writes file:/ with one slash
	}
	m := manifests[i]
	r := must.Get(ocf.NewReader(bytes.NewReader(must.Get(os.ReadFile(local(m.FilePath())))(c))))(c)
	defer r.Close()
	metadata := r.Metadata()
	delete(metadata, "avro.schema")
	delete(metadata, "avro.codec")
	var mutated bytes.Buffer
	w := must.Get(ocf.NewWriter(&mutated, r.Schema(), ocf.WithMetadata(metadata)))(c)
	for first := true; ; first = false {
		var entry map[string]any
		if err := r.Decode(&entry); err == io.EOF {
			break
		} else if err != nil {
			c.Fatal(err)
		}
		file := entry["data_file"].(map[string]any)
		if first {
			part := entry
			if _, exists := entry[field]; !exists {
				part = file
			}
			if _, exists := part[field]; !exists {
				return nil, false
			}
			part[field] = value
		}
		if err := w.Encode(entry); err != nil {
			return nil, false // the engine's schema does not permit the value
		}
	}
	must.Do(c, w.Close())
	meta := base.Metadata()
	sequence, id := meta.LastSequenceNumber()+1, meta.LastUpdatedMillis()*1000+int64(i)
	path := fmt.Sprintf("%s/metadata/mutated-%d-m0.avro", base.Location(), sequence)
	files := slices.Clone(manifests)
	files[i] = iceberg.NewManifestFile(meta.Version(), path, int64(mutated.Len()), m.PartitionSpecID(), m.SnapshotID()).SequenceNum(m.SequenceNum(), m.MinSequenceNum()).
		Content(m.ManifestContent()).AddedFiles(m.AddedDataFiles()).AddedRows(m.AddedRows()).ExistingFiles(m.ExistingDataFiles()).ExistingRows(m.ExistingRows()).
		DeletedFiles(m.DeletedDataFiles()).DeletedRows(m.DeletedRows()).Build()
	s := &table.Snapshot{
		SnapshotID: id, SequenceNumber: sequence, TimestampMs: meta.LastUpdatedMillis() + 1, ManifestList: fmt.Sprintf("%s/metadata/mutated-%d.avro", base.Location(), sequence),
		SchemaID: new(int), Summary: &table.Summary{Operation: table.OpOverwrite},
	}
	var list bytes.Buffer
	first := int64(0)
	if meta.Version() > 2 {
		first = meta.NextRowID()
		s.FirstRowID, s.AddedRows = &first, new(int64(100))
	}
	must.Do(c, iceberg.WriteManifestList(meta.Version(), &list, id, nil, &sequence, first, files))
	for location, b := range map[string][]byte{path: mutated.Bytes(), s.ManifestList: list.Bytes()} {
		must.Do(c, os.WriteFile(local(location), b, 0o666))
	}
	return s, true
}

// TestUnreadableTable checks that a table whose delete file cannot be read does not stop maintenance, verification,
// snapshots and backups of the other tables, and that the errors name the table.
func TestUnreadableTable(t *testing.T) {
	c := recordedTables(t)
	ctx := t.Context()
	vectors, err := filepath.Glob(filepath.Join(c.dir, "data/*/data/*.puffin"))
	if err != nil || len(vectors) == 0 {
		t.Fatalf("deletion vectors: %v, %v", vectors, err)
	}
	for _, path := range vectors {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, bytes.Repeat([]byte("x"), len(b)), 0o666)
		}
		must.Do(t, err)
	}
	wantError := func(op string, err error) {
		t.Helper()
		must.Fail(t, err, "duckdb_v3", "%s", op)
	}
	_, err = c.tryRows("duckdb_v3")
	wantError("scan", err)
	if r, err := c.store.Fold(ctx, nil); err != nil {
		t.Errorf("Fold = %+v, %v", r, err)
	}
	dest := must.Get(tables.Open(ctx, t.TempDir(), nil))(t)
	t.Cleanup(func() { _ = dest.Close() })
	copied, err := c.store.Backup(ctx, dest, "before")
	wantError("backup", err)
	if !slices.ContainsFunc(copied, func(d tables.CopiedTable) bool { return d.Name == "pyiceberg_v2" && d.Rows == 10 }) {
		t.Errorf("Backup copied %+v, want also pyiceberg_v2", copied)
	}
	r, err := c.store.Compact(ctx, nil)
	wantError("compact", err)
	if r.Tables < 2 {
		t.Errorf("Compact = %+v, want Tables at least 2", r)
	}
	if r, err := c.store.Expire(ctx, nil); err != nil || r.Tables < 4 {
		t.Errorf("Expire = %+v, %v, want Tables at least 4", r, err)
	}
	var unreadable []string
	v, err := c.store.Verify(ctx, &tables.VerifyOptions{Report: func(f tables.Finding) {
		if f.State == tables.Damaged {
			unreadable = append(unreadable, f.Table+" "+f.File)
		}
	}})
	isVector := func(file string) bool {
		return strings.HasPrefix(file, "duckdb_v3 ") && strings.HasSuffix(file, ".puffin")
	}
	if err != nil || v.Tables < 6 || !slices.ContainsFunc(unreadable, isVector) || slices.ContainsFunc(unreadable, func(f string) bool { return !isVector(f) }) {
		t.Errorf("Verify = %+v, %v, damaged %q, want only deletion vectors of duckdb_v3", v, err, unreadable)
	}
	must.Get(c.store.Bucket("").Snapshot(ctx, "s"))(t)
	for name, want := range recordedRows {
		if got, err := c.tryRows(name); name != "duckdb_v3" && (err != nil || !slices.Equal(got, want)) {
			t.Errorf("%s: got rows %v, error %v, want %v", name, got, err, want)
		}
	}
}

// TestRefsOfVersion3 checks that snapshots=refs has the next row ID, which engines need for the rows that they add.
func TestRefsOfVersion3(t *testing.T) {
	c := recordedTables(t)
	want := c.load("", "duckdb_v3").Metadata().NextRowID()
	c.send("GET", "namespaces/default/tables/duckdb_v3?snapshots=refs", nil, 200, fmt.Sprintf(`"next-row-id":%d`, want))
}
