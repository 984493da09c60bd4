package schema

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal"
	"github.com/apache/arrow-go/v18/arrow/float16"
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

// ToFloat16 returns the nearest float16. Arrow's own conversion truncates digits, and turns the smallest numbers into
// zero.
func ToFloat16(f float64) float16.Num {
	const minExponent = -14 // exponent of the smallest normal numbers; all smaller numbers have the same spacing
	a := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return float16.New(float32(math.NaN()))
	case a == 0 || math.IsInf(f, 0):
		return float16.New(float32(f))
	}
	spacing := math.Ldexp(1, max(math.Ilogb(a), minExponent)-10)
	a = math.RoundToEven(a/spacing) * spacing
	if a >= math.Ldexp(1, minExponent) {
		return float16.New(float32(math.Copysign(a, f)))
	}
	bits := uint16(a / spacing)
	if math.Signbit(f) {
		bits |= 1 << 15
	}
	return float16.FromBits(bits)
}

// FromFloat16 returns a float16 as a float32.
func FromFloat16(n float16.Num) float32 {
	const exponent, fraction, sign = 0x7c00, 0x3ff, 0x8000
	bits := n.Uint16()
	if bits&exponent != 0 {
		return n.Float32()
	}
	f := float64(bits&fraction) / (1 << 24)
	if bits&sign != 0 {
		f = math.Copysign(f, -1)
	}
	return float32(f)
}
