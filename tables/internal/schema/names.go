package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/nearest"
)

// reservedColumns are the columns that Iceberg itself adds to tables.
var reservedColumns = []string{iceberg.RowIDColumnName, iceberg.LastUpdatedSequenceNumberColumnName}

// CheckNames returns an error if Iceberg's metadata cannot store the name of a column or nested field. The error is an [Error]
// that wraps [RefusedColumns].
func CheckNames(schema *arrow.Schema) error {
	paths, columns := map[string]bool{}, map[string]bool{}
	for _, f := range schema.Fields() {
		reason := checkName("name", f.Name)
		switch {
		case reason == "" && columns[f.Name]:
			reason = "two columns have this name: rename one"
		case slices.Contains(reservedColumns, f.Name):
			reason = "Iceberg reserves this column name: rename the column"
		}
		columns[f.Name] = true
		if reason == "" {
			reason = checkPath(f.Name, f.Type, paths)
		}
		if reason != "" {
			return RefusedColumns{{f.Name, f.Type, reason}}.error()
		}
	}
	return nil
}

// checkName returns why a name is invalid, or "" if it is valid.
func checkName(subject, name string) string {
	switch {
	case name == "":
		return fmt.Sprintf("its %s is empty", subject)
	case !utf8.ValidString(name):
		return fmt.Sprintf("its %s is not valid UTF-8", subject)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Sprintf("its %s contains a zero byte", subject)
	}
	return ""
}

// checkPath returns why Iceberg cannot distinguish two fields of a type, or "" if it can. Iceberg identifies a field by the names
// on its path, joined by dots.
func checkPath(path string, t arrow.DataType, paths map[string]bool) (reason string) {
	if paths[path] {
		return fmt.Sprintf("Iceberg would call two fields %q: rename one", path)
	}
	paths[path] = true
	if extension, ok := t.(arrow.ExtensionType); ok {
		t = extension.StorageType()
	}
	switch t := decodedType(t).(type) {
	case *arrow.MapType:
		if reason = checkPath(path+".key", t.KeyType(), paths); reason == "" {
			reason = checkPath(path+".value", t.ItemType(), paths)
		}
	case *arrow.StructType:
		names := map[string]bool{}
		for _, f := range t.Fields() {
			if reason = checkName("field's name "+strconv.Quote(f.Name), f.Name); reason != "" {
				return reason
			}
			if names[f.Name] {
				return fmt.Sprintf("the column has two fields named %q", f.Name)
			}
			names[f.Name] = true
			if reason = checkPath(path+"."+f.Name, f.Type, paths); reason != "" {
				return reason
			}
		}
	case arrow.ListLikeType:
		return checkPath(path+".element", t.Elem(), paths)
	}
	return reason
}

// Names returns the names of a schema's columns.
func Names(s *arrow.Schema) []string {
	names := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return names
}

// Select returns the schema of the named columns, in the order of s.
func Select(s *arrow.Schema, names []string) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

// ColumnIndex returns a column's index. If there is no such column, the error is an [Error] that lists the columns.
func ColumnIndex(s *arrow.Schema, name string) (int, error) {
	indices := s.FieldIndices(name)
	if len(indices) == 0 {
		return -1, Errorf(name, "the table has no such column%s, only %q", nearest.Hint(name, Names(s)), Names(s))
	}
	return indices[0], nil
}

// Columns returns the named columns of a batch, which must have them.
func Columns(batch arrow.RecordBatch, names []string) []arrow.Array {
	columns := make([]arrow.Array, len(names))
	for i, name := range names {
		columns[i] = batch.Column(batch.Schema().FieldIndices(name)[0])
	}
	return columns
}

// Project returns the batch's columns that the schema to names. The batch must have these columns, with the types in to.
// The caller must release the result.
func Project(batch arrow.RecordBatch, to *arrow.Schema) arrow.RecordBatch {
	if batch.Schema() == to {
		batch.Retain()
		return batch
	}
	return array.NewRecordBatch(to, Columns(batch, Names(to)), batch.NumRows())
}
