package datafile

import (
	"io"
	"path"

	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// FieldNames returns the names of the fields in a Parquet file's schema, by ID. It omits fields without an ID. If the file
// is not a valid Parquet file, FieldNames returns no names.
func FieldNames(fileIO *icecat.FileIO, name string) (names map[int]string, err error) {
	f := &file{scan: &Scan{Footers: fileIO.Footers()}, name: path.Base(name)}
	defer f.close()
	defer f.recoverPanic(&err)
	opened, err := fileIO.Open(name)
	if err != nil {
		return nil, err
	}
	f.opened = opened
	f.parsed, f.footer, err = f.scan.parse(name, opened)
	if err != nil {
		_, readErr := opened.ReadAt(make([]byte, 1), 0) // fails if the storage does, not if the file is invalid
		if readErr == io.EOF {
			readErr = nil
		}
		return nil, readErr
	}
	names = map[int]string{}
	addFieldNames(f.parsed.MetaData().Schema.Root(), names)
	return names, nil
}

func addFieldNames(group *pqschema.GroupNode, names map[int]string) {
	for i := range group.NumFields() {
		field := group.Field(i)
		if field.FieldID() >= 0 {
			names[int(field.FieldID())] = field.Name()
		}
		if nested, ok := field.(*pqschema.GroupNode); ok {
			addFieldNames(nested, names)
		}
	}
}
