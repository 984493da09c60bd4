package schema

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// CheckTexts returns an error if a text of a column is not UTF-8: no SQL and no other
// reader would read the table.
func CheckTexts(a arrow.Array) error {
	switch a := a.(type) {
	case array.StringLike:
		for i := range a.Len() {
			if a.IsValid(i) && !utf8.ValidString(a.Value(i)) {
				return fmt.Errorf("row %d of a batch: %.60q is not UTF-8", i+1, a.Value(i))
			}
		}
	case *array.Struct:
		var all error
		for i := range a.NumField() {
			all = errors.Join(all, CheckTexts(a.Field(i)))
		}
		return all
	case array.ListLike:
		return CheckTexts(a.ListValues())
	case *array.Dictionary:
		return CheckTexts(a.Dictionary())
	case *array.RunEndEncoded:
		return CheckTexts(a.Values())
	case array.ExtensionArray:
		return CheckTexts(a.Storage())
	}
	return nil
}
