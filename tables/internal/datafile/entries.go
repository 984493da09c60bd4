package datafile

import (
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// WithRowIDs gives files that are to be added the row ids that the third version
// of Iceberg asks for: those that follow the table's last. Iceberg's library
// takes no files without, and older versions have none.
func WithRowIDs(t *table.Table, files []iceberg.DataFile) ([]iceberg.DataFile, error) {
	meta := t.Metadata()
	if meta.Version() < 3 {
		return files, nil
	}
	numbered := make([]iceberg.DataFile, len(files))
	next := meta.NextRowID()
	for i, f := range files {
		b, err := Rebuild(meta.PartitionSpec(), f, f.FilePath())
		if err != nil {
			return nil, err
		}
		numbered[i] = b.FirstRowID(next).Build()
		next += f.Count()
	}
	return numbered, nil
}

// Rebuild returns what makes a file's entry again, for it to be changed.
func Rebuild(spec iceberg.PartitionSpec, f iceberg.DataFile, path string) (*iceberg.DataFileBuilder, error) {
	b, err := iceberg.NewDataFileBuilder(spec, f.ContentType(), path, f.FileFormat(), f.Partition(), nil, nil, f.Count(), f.FileSizeBytes())
	if err != nil {
		return nil, err
	}
	b.ColumnSizes(f.ColumnSizes()).ValueCounts(f.ValueCounts()).NullValueCounts(f.NullValueCounts()).NaNValueCounts(f.NaNValueCounts()).
		LowerBoundValues(f.LowerBoundValues()).UpperBoundValues(f.UpperBoundValues()).SplitOffsets(f.SplitOffsets())
	if id := f.SortOrderID(); id != nil {
		b.SortOrderID(*id)
	}
	return b, nil
}
