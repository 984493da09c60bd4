package tables

import (
	"context"
	"iter"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/arrowtypes"
	"github.com/go-partd/partd/tables/internal/icecat"
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
func (s *Store) newTable(sh *shape) (table.Metadata, error) {
	props := newProperties(sh.kept)
	props[arrowProperty(0)] = sh.put
	return table.NewMetadata(sh.schema, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, s.cat.NewLocation(), props)
}

// reshaped returns metadata with another schema. Older versions keep theirs.
func reshaped(meta table.Metadata, sh *shape) (table.Metadata, error) {
	ups := []table.Update{table.NewAddSchemaUpdate(sh.schema), table.NewSetCurrentSchemaUpdate(-1)}
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
func writeFiles(ctx context.Context, t *table.Table, io *icecat.FileIO, r batchSource, c *conformer) (files []iceberg.DataFile, err error) {
	defer func() {
		if err != nil {
			io.RemoveWritten()
		}
	}()
	var failed error // set by the library's goroutine, which ends before its sequence does
	var batches iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) {
		for r.Next() {
			if failed = ctx.Err(); failed != nil {
				yield(nil, failed)
				return
			}
			if r.RecordBatch().NumRows() == 0 {
				continue
			}
			batch, err := c.apply(r.RecordBatch())
			if err != nil {
				failed = err
				yield(nil, err)
				return
			}
			if !yield(batch, nil) {
				return
			}
		}
		if failed = r.Err(); failed != nil {
			yield(nil, failed)
		}
	}
	for f, e := range table.WriteRecords(ctx, t, c.kept, batches, table.WithRecordBatchBufferSize(2)) {
		if err = e; err != nil {
			break
		}
		files = append(files, f)
	}
	if failed != nil { // the cause, which the library may have wrapped, or lost
		err = failed
	}
	return files, err
}
