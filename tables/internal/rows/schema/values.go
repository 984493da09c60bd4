package schema

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

// CheckArray returns an error if a column has values that its type forbids: strings that are not UTF-8, decimals with
// too many digits, or dates with a time of day.
func CheckArray(a arrow.Array) error {
	t := arrowtype.Of(a.DataType())
	switch {
	case t.Kind == arrowtype.Text:
		if texts, ok := a.(*array.String); ok && validTexts(texts) {
			return nil
		}
		texts := a.(array.StringLike)
		for i := range a.Len() {
			if a.IsValid(i) && !utf8.ValidString(texts.Value(i)) {
				return fmt.Errorf("row %d of a batch: %.60q is not UTF-8", i+1, texts.Value(i))
			}
		}
	case a.DataType().ID() == arrow.DATE64:
		for i, ms := range t.Ordered(a) {
			if a.IsValid(i) && ms%(24*time.Hour).Milliseconds() != 0 {
				return fmt.Errorf("row %d of a batch: %d ms after 1970-01-01 is not a whole number of days", i+1, ms)
			}
		}
	case t.Decimals != nil:
		return checkDigits(a, t.Decimals(a))
	default:
		if values, _ := arrowtype.Values(a); values != a {
			return CheckArray(values)
		}
		var err error
		for _, child := range arrowtype.Children(a) {
			err = errors.Join(err, CheckArray(child))
		}
		return err
	}
	return nil
}

func checkDigits(a arrow.Array, value func(i int) decimal128.Num) error {
	t := a.DataType().(arrow.DecimalType)
	for i := range a.Len() {
		if a.IsNull(i) {
			continue
		}
		// The lowest number has no positive counterpart, so its Abs is negative.
		if v := value(i); v.Abs().Sign() < 0 || !v.FitsInPrecision(t.GetPrecision()) {
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
