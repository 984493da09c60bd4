package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/nearest"
)

// lineage contains the columns that Iceberg itself adds to tables.
var lineage = []string{iceberg.RowIDColumnName, iceberg.LastUpdatedSequenceNumberColumnName}

// CheckNames refuses invalid names of columns and nested fields, with which Iceberg's metadata could not be
// written or read back. The error is an [Error] that wraps a [Refused].
func CheckNames(schema *arrow.Schema) error {
	paths, columns := map[string]bool{}, map[string]bool{}
	for _, f := range schema.Fields() {
		why := checkName("name", f.Name)
		switch {
		case why == "" && columns[f.Name]:
			why = "two columns have this name"
		case slices.Contains(lineage, f.Name):
			why = "Iceberg reserves this column name: rename the column"
		}
		columns[f.Name] = true
		if why == "" {
			why = checkPath(f.Name, f.Type, paths)
		}
		if why != "" {
			return Refused{{f.Name, f.Type, why}}.error()
		}
	}
	return nil
}

// checkName returns the reason why a name is invalid, or "".
func checkName(kind, name string) string {
	switch {
	case name == "":
		return fmt.Sprintf("its %s is empty", kind)
	case !utf8.ValidString(name):
		return fmt.Sprintf("its %s is not valid UTF-8", kind)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Sprintf("its %s holds a zero byte", kind)
	}
	return ""
}

// checkPath returns the reason why paths do not identify the fields of a type, or "". Iceberg identifies a
// field by the names on its path, joined by dots.
func checkPath(path string, t arrow.DataType, paths map[string]bool) (why string) {
	if paths[path] {
		return fmt.Sprintf("Iceberg calls two fields %q: rename one", path)
	}
	paths[path] = true
	if extension, ok := t.(arrow.ExtensionType); ok {
		t = extension.StorageType()
	}
	switch t := logical(t).(type) { // without encodings
	case *arrow.MapType:
		if why = checkPath(path+".key", t.KeyType(), paths); why == "" {
			why = checkPath(path+".value", t.ItemType(), paths)
		}
	case *arrow.StructType:
		seen := map[string]bool{}
		for _, f := range t.Fields() {
			if why = checkName("field's name "+strconv.Quote(f.Name), f.Name); why != "" {
				return why
			}
			if seen[f.Name] {
				return fmt.Sprintf("its field %q is there twice", f.Name)
			}
			seen[f.Name] = true
			if why = checkPath(path+"."+f.Name, f.Type, paths); why != "" {
				return why
			}
		}
	case arrow.ListLikeType:
		return checkPath(path+".element", t.Elem(), paths)
	}
	return why
}

// Names returns the names of a schema's columns.
func Names(s *arrow.Schema) []string {
	names := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return names
}

// Select returns a schema with only the named columns, in its order.
func Select(s *arrow.Schema, names []string) *arrow.Schema {
	var fields []arrow.Field
	for _, f := range s.Fields() {
		if slices.Contains(names, f.Name) {
			fields = append(fields, f)
		}
	}
	return arrow.NewSchema(fields, nil)
}

// Place returns the index of a column, or an [Error] that lists the existing columns.
func Place(s *arrow.Schema, name string) (int, error) {
	at := s.FieldIndices(name)
	if len(at) == 0 {
		return -1, Errorf(name, "the table has no such column%s, only %q", nearest.Hint(name, Names(s)), Names(s))
	}
	return at[0], nil
}
