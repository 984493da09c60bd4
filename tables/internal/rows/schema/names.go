package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
)

// reservedColumns are the columns that Iceberg itself adds to tables.
var reservedColumns = []string{iceberg.RowIDColumnName, iceberg.LastUpdatedSequenceNumberColumnName}

// CheckNames returns an error if Iceberg's metadata cannot store the name of a column or nested field. The error is an
// [Error] that wraps [RefusedColumns].
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

// checkPath returns why Iceberg cannot distinguish two fields of a type, or "" if it can. Iceberg identifies a field by
// the names on its path, joined by dots.
func checkPath(path string, t arrow.DataType, paths map[string]bool) (reason string) {
	if paths[path] {
		return fmt.Sprintf("Iceberg would call two fields %q: rename one", path)
	}
	paths[path] = true
	if extension, ok := t.(arrow.ExtensionType); ok {
		t = extension.StorageType()
	}
	switch t := DecodedType(t).(type) {
	case *arrow.MapType:
		reason = checkPath(path+".key", t.KeyType(), paths)
		if reason == "" {
			reason = checkPath(path+".value", t.ItemType(), paths)
		}
	case *arrow.StructType:
		names := map[string]bool{}
		for _, f := range t.Fields() {
			reason = checkName("field's name "+strconv.Quote(f.Name), f.Name)
			if reason != "" {
				return reason
			}
			if names[f.Name] {
				return fmt.Sprintf("the column has two fields named %q", f.Name)
			}
			names[f.Name] = true
			reason = checkPath(path+"."+f.Name, f.Type, paths)
			if reason != "" {
				return reason
			}
		}
	case arrow.ListLikeType:
		return checkPath(path+".element", t.Elem(), paths)
	}
	return reason
}
