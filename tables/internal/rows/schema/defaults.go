package schema

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
)

// Defaults has the default values of a table's columns. Each value is an array of length 1, or nil for null.
type Defaults struct {
	Initial []arrow.Array // for files that lack the column
	Write   []arrow.Array // for puts that lack the column
}

// DefaultsOf returns the default values of a table's columns. stored has the columns' types. It returns an error for a
// default value that cannot be represented exactly, or that belongs to a nested field.
func DefaultsOf(s *iceberg.Schema, stored *arrow.Schema) (d Defaults, err error) {
	n := stored.NumFields()
	d = Defaults{make([]arrow.Array, n), make([]arrow.Array, n)}
	for i, f := range s.Fields() {
		if hasNestedDefault(f.Type) {
			return d, Errorf(f.Name, "a nested field of the column has a default value, which is not supported: remove it")
		}
		d.Initial[i], err = defaultValue(f.InitialDefault, stored.Field(i).Type)
		if err == nil {
			d.Write[i], err = defaultValue(f.WriteDefault, stored.Field(i).Type)
		}
		if err != nil {
			return d, &Error{f.Name, err}
		}
	}
	return d, nil
}

func hasNestedDefault(t iceberg.Type) bool {
	nested, ok := t.(iceberg.NestedType)
	if !ok {
		return false
	}
	for _, f := range nested.Fields() {
		if f.InitialDefault != nil || f.WriteDefault != nil || hasNestedDefault(f.Type) {
			return true
		}
	}
	return false
}

// maxExactInteger is the largest integer whose float64 is not also that of another integer: 2^53 and 2^53+1 share one.
const maxExactInteger = 1<<53 - 1

// defaultValue returns v as an array, or nil if v is nil. v is a default value in the JSON form of section "JSON
// single-value serialization" of Iceberg's specification.
func defaultValue(v any, t arrow.DataType) (arrow.Array, error) {
	if v == nil {
		return nil, nil
	}
	invalid := func(reason string) (arrow.Array, error) {
		return nil, fmt.Errorf("its default value, %.100v, is not of type %s: %s", v, t, reason)
	}
	switch value := v.(type) {
	case float64:
		// iceberg-go decodes integers as float64, which rounds larger ones.
		if arrow.IsInteger(t.ID()) && (value > maxExactInteger || value < -maxExactInteger) {
			return invalid("integers of 2^53 and more are not supported as default values")
		}
	case string:
		if arrow.IsBinaryLike(t.ID()) && t.ID() != arrow.STRING || t.ID() == arrow.FIXED_SIZE_BINARY {
			b, err := hex.DecodeString(value)
			if fixed, ok := t.(*arrow.FixedSizeBinaryType); ok && err == nil && len(b) != fixed.ByteWidth {
				err = fmt.Errorf("it has %d bytes", len(b))
			}
			if err != nil {
				return invalid(err.Error())
			}
			v = base64.StdEncoding.EncodeToString(b) // as FromJSON requires
		}
	}
	text, err := json.Marshal([]any{v})
	if err != nil {
		return invalid(err.Error())
	}
	a, _, err := array.FromJSON(allocator, t, bytes.NewReader(text))
	if err == nil && (a.Len() != 1 || a.NullN() > 0) {
		a.Release()
		err = errors.New("it is not a single value")
	}
	if err == nil && arrow.IsDecimal(t.ID()) && !equalNumbers(fmt.Sprint(v), a.ValueStr(0)) {
		a.Release()
		err = errors.New("it has too many digits")
	}
	if err != nil {
		return invalid(err.Error())
	}
	return a, nil
}

func equalNumbers(a, b string) bool {
	x, ok := new(big.Rat).SetString(a)
	y, ok2 := new(big.Rat).SetString(b)
	return ok && ok2 && x.Cmp(y) == 0
}
