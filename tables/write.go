package tables

import (
	"cmp"
	"context"
	"iter"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/arrowtypes"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// properties of new tables.
func newProperties(sc *arrow.Schema) iceberg.Properties {
	version := "2"
	if hasNanoseconds(sc) {
		version = "3"
	}
	return iceberg.Properties{
		"format-version":                          version,
		table.ManifestMergeEnabledKey:             "true",
		table.ParquetCompressionKey:               "zstd",
		"write.parquet.row-group-size-bytes":      "33554432",
		table.ParquetRowGroupLimitKey:             "131072", // who wants a few rows decodes a whole group
		table.WriteTargetFileSizeBytesKey:         strconv.Itoa(targetSize),
		table.MetadataDeleteAfterCommitEnabledKey: "false",
	}
}

// hasNanoseconds reports whether a schema needs Iceberg's third version.
func hasNanoseconds(s *arrow.Schema) bool {
	var in func(t arrow.DataType) bool
	in = func(t arrow.DataType) bool {
		switch t := t.(type) {
		case *arrow.TimestampType:
			return t.Unit == arrow.Nanosecond
		case arrow.NestedType:
			for _, f := range t.Fields() {
				if in(f.Type) {
					return true
				}
			}
		}
		return false
	}
	for _, f := range s.Fields() {
		if in(f.Type) {
			return true
		}
	}
	return false
}

// shape is the schema that a put gives to a table that it makes or replaces.
type shape struct {
	schema *iceberg.Schema // with ids of its own
	kept   *arrow.Schema
	put    string // the Arrow schema, for the property
	nanos  bool
	lastID int // the last id of a column when the shape was made
}

// newShape returns the shape for a schema that is put. The ids of its columns
// are above lastID.
func newShape(put *arrow.Schema, lastID int) (*shape, error) {
	sh := &shape{lastID: lastID}
	stored, err := storedSchema(put)
	if err != nil {
		return nil, err
	}
	sc, err := table.ArrowSchemaToIcebergWithFreshIDs(stored, false)
	if err != nil {
		return nil, err
	}
	if sc, err = iceberg.AssignFreshSchemaIDs(sc, func() int { lastID++; return lastID }); err != nil {
		return nil, err
	}
	sh.schema, sh.nanos = sc, hasNanoseconds(stored)
	if sh.kept, err = keptSchema(sc); err != nil {
		return nil, err
	}
	sh.put, err = arrowtypes.Encode(put)
	return sh, err
}

// newTable returns the metadata of a new table.
func (s *Store) newTable(sh *shape, o *Settings) (table.Metadata, error) {
	props := newProperties(sh.kept)
	props[arrowProperty(0)] = sh.put
	if s.hooks.fileBytes > 0 {
		props[table.WriteTargetFileSizeBytesKey] = strconv.Itoa(s.hooks.fileBytes)
		props["write.parquet.row-group-size-bytes"] = strconv.Itoa(s.hooks.fileBytes)
	}
	meta, err := table.NewMetadata(sh.schema, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, s.cat.NewLocation(), props)
	if err != nil {
		return nil, err
	}
	return withSettings(meta, o)
}

// reshaped returns metadata with another schema. Older versions keep theirs.
func reshaped(meta table.Metadata, sh *shape) (table.Metadata, error) {
	// The order by columns that go is set anew with the settings.
	ups := append(unsortedUpdates(), table.NewAddSchemaUpdate(sh.schema), table.NewSetCurrentSchemaUpdate(-1))
	if sh.nanos && meta.Version() < 3 {
		ups = append([]table.Update{table.NewUpgradeFormatVersionUpdate(3)}, ups...)
	}
	meta, err := table.UpdateTableMetadata(meta, ups, "")
	if err != nil {
		return nil, err
	}
	property := iceberg.Properties{arrowProperty(meta.CurrentSchema().ID): sh.put}
	return table.UpdateTableMetadata(meta, []table.Update{table.NewSetPropertiesUpdate(property)}, "")
}

// writeFiles writes what r has as data files of a table, through io. With an
// error nothing is left of them.
func writeFiles(ctx context.Context, t *table.Table, io *icecat.FileIO, r batchSource, c *conformer) ([]iceberg.DataFile, error) {
	defer c.check.close()
	files, err := recordFiles(ctx, t, c.kept, conforming(ctx, r, c, nil))
	if err != nil {
		io.RemoveWritten()
	}
	return files, err
}

// conforming yields what r has as the conformer makes it, once it was checked: by the
// rules of the table, and by a check of the caller's, which may be nil.
func conforming(ctx context.Context, r batchSource, c *conformer, check func(arrow.RecordBatch) error) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for r.Next() {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if r.RecordBatch().NumRows() == 0 {
				continue
			}
			batch, err := c.apply(r.RecordBatch())
			if err == nil {
				if err = c.check.add(ctx, batch); err == nil && check != nil {
					err = check(batch)
				}
				if err != nil {
					batch.Release()
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if c.check.violated() { // what else is wrong is to be counted, and nothing written
				batch.Release()
				continue
			}
			if !yield(batch, nil) {
				return
			}
		}
		if err := cmp.Or(r.Err(), c.check.end(ctx)); err != nil {
			yield(nil, err)
		}
	}
}

// recordFiles writes batches as data files of a table.
func recordFiles(ctx context.Context, t *table.Table, kept *arrow.Schema, rows sorted.Batches, options ...table.WriteRecordOption) (files []iceberg.DataFile, err error) {
	var failed error // set by the library's goroutine, which ends before its sequence does
	var batches iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			failed = err
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
	id, err := uuid.NewV7() // one that grows; see inNameOrder
	if err != nil {
		return nil, err
	}
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	for f, e := range table.WriteRecords(ctx, t, kept, batches, append(options, table.WithRecordBatchBufferSize(2), table.WithWriteUUID(id))...) {
		if err = e; err != nil {
			break
		}
		files = append(files, f)
	}
	if failed != nil { // the cause, which the library may have wrapped, or lost
		err = failed
	}
	if io, ok := fs.(*icecat.FileIO); ok && err != nil && io.Failure() != nil {
		err = io.Failure()
	}
	return files, err
}
