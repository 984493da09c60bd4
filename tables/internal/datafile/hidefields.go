package datafile

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go/table"
)

// Hide makes the scan treat the fields with the given IDs as missing from the files.
func (s *Scan) Hide(ids map[int]bool) {
	const absentID = -1
	s.Names[absentID] = nil // no name matches in files without IDs
	hidden := arrow.NewMetadata([]string{IDKey}, []string{"-1"})
	var hide func(arrow.Field) arrow.Field
	hide = func(f arrow.Field) arrow.Field {
		if id, _ := idOf(f); ids[id] {
			f.Metadata = hidden
		}
		switch t := f.Type.(type) {
		case *arrow.StructType:
			fields := slices.Clone(t.Fields())
			for i := range fields {
				fields[i] = hide(fields[i])
			}
			f.Type = arrow.StructOf(fields...)
		case *arrow.ListType:
			f.Type = arrow.ListOfField(hide(t.ElemField()))
		case *arrow.MapType:
			f.Type = arrow.MapOfFields(hide(t.KeyField()), hide(t.ItemField()))
		}
		return f
	}
	for i := range s.Columns {
		s.Columns[i].IDs = hide(s.Columns[i].IDs)
	}
}

// HasFields reports whether a file can have values for fields with some IDs.
func HasFields(ctx context.Context, t *table.Table, task table.FileScanTask, ids map[int]bool) (has bool, err error) {
	var contains func([]pqarrow.SchemaField) bool
	contains = func(fields []pqarrow.SchemaField) bool {
		return slices.ContainsFunc(fields, func(f pqarrow.SchemaField) bool {
			id, hasID := idOf(*f.Field)
			return ids[id] || !hasID && f.IsLeaf() || contains(f.Children) // without IDs, names can match
		})
	}
	err = withFile(ctx, t, task, func(f *file) { has = contains(f.reader.Manifest.Fields) })
	return has, err
}
