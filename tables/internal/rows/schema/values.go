package schema

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
)

// CheckArray returns an error if a column has values that its type forbids: strings that are not UTF-8, decimals with
// too many digits, or dates with a time of day.
func CheckArray(a arrow.Array) error {
	switch a := a.(type) {
	case array.StringLike:
		if texts, ok := a.(*array.String); ok && validTexts(texts) {
			return nil
		}
		for i := range a.Len() {
			if a.IsValid(i) && !utf8.ValidString(a.Value(i)) {
				return fmt.Errorf("row %d of a batch: %.60q is not UTF-8", i+1, a.Value(i))
			}
		}
	case *array.Date64:
		for i, ms := range a.Date64Values() {
			if a.IsValid(i) && int64(ms)%(24*time.Hour).Milliseconds() != 0 {
				return fmt.Errorf("row %d of a batch: %d ms after 1970-01-01 is not a whole number of days", i+1, ms)
			}
		}
	case *array.Decimal128:
		return checkDigits(a)
	case *array.Decimal64:
		return checkDigits(a)
	case *array.Decimal32:
		return checkDigits(a)
	case *array.Struct:
		var err error
		for i := range a.NumField() {
			err = errors.Join(err, CheckArray(a.Field(i)))
		}
		return err
	case array.ListLike:
		return CheckArray(a.ListValues())
	case *array.Dictionary:
		return CheckArray(a.Dictionary())
	case *array.RunEndEncoded:
		return CheckArray(a.Values())
	case array.ExtensionArray:
		return CheckArray(a.Storage())
	}
	return nil
}

type decimalNumber[T decimal.DecimalTypes] interface {
	decimal.DecimalTypes
	decimal.Num[T]
}

func checkDigits[T decimalNumber[T]](a valueArray[T]) error {
	t := a.DataType().(arrow.DecimalType)
	for i := range a.Len() {
		if a.IsNull(i) {
			continue
		}
		// The lowest number has no positive counterpart, so its Abs is negative.
		if v := a.Value(i); v.Abs().Sign() < 0 || !v.FitsInPrecision(t.GetPrecision()) {
			return fmt.Errorf("row %d of a batch: %s has more than %d digits", i+1, v.ToString(t.GetScale()), t.GetPrecision())
		}
	}
	return nil
}

// validTexts reports whether all strings are valid UTF-8. It checks the strings' concatenation, and that each string
// starts at a character boundary.
func validTexts(a *array.String) bool {
	if a.Len() == 0 {
		return true
	}
	text, offsets := a.ValueBytes(), a.ValueOffsets()
	if !utf8.Valid(text) {
		return false
	}
	for _, start := range offsets {
		start -= offsets[0]
		if int(start) < len(text) && !utf8.RuneStart(text[start]) {
			return false
		}
	}
	return true
}
