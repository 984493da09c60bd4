package pickle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

var le = binary.LittleEndian

// Append appends a pickle of a value to dst, in protocol 5. It accepts plain values, and
// all values that pyvalue.Canon accepts.
//
// The pickle has neither frames nor a memo, which are optional. A shared container is
// written once for each reference.
func Append(dst []byte, v any) ([]byte, error) {
	w := writer{append(dst, opProto, 5), 0}
	if err := w.writeValue(v, false); err != nil {
		return dst, fmt.Errorf("pickle: %w", err)
	}
	return append(w.buf, opStop), nil
}

type writer struct {
	buf   []byte
	depth int
}

// writeValue appends one value. If asKey is true, the value must be hashable.
func (w *writer) writeValue(v any, asKey bool) error {
	switch v := v.(type) {
	case nil:
		w.buf = append(w.buf, opNone)
	case bool:
		if v {
			w.buf = append(w.buf, opNewTrue)
		} else {
			w.buf = append(w.buf, opNewFalse)
		}
	case int64:
		w.writeInteger(v)
	case int:
		w.writeInteger(int64(v))
	case *big.Int:
		if v == nil {
			w.buf = append(w.buf, opNone)
		} else if v.IsInt64() {
			w.writeInteger(v.Int64())
		} else {
			return w.writeLong(twosComplement(v))
		}
	case float64:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, opBinFloat), math.Float64bits(v))
	case string:
		if !pyvalue.ValidText(v) {
			return fmt.Errorf("the string %.40q is not valid UTF-8, so it cannot become a Python str: use []byte", v)
		}
		w.writeHead(opShortBinUnicode, opBinUnicode, opBinUnicode8, len(v))
		w.buf = append(w.buf, v...)
	case []byte:
		w.writeHead(opShortBinBytes, opBinBytes, opBinBytes8, len(v))
		w.buf = append(w.buf, v...)
	case Global:
		if err := errors.Join(w.writeValue(v.Module, false), w.writeValue(v.Name, false)); err != nil {
			return err
		}
		w.buf = append(w.buf, opStackGlobal)
	default:
		return w.writeContainer(v, asKey)
	}
	return nil
}

func (w *writer) writeContainer(v any, asKey bool) error {
	switch v.(type) {
	case []any, pyvalue.Tuple, pyvalue.Dict, pyvalue.Set, pyvalue.FrozenSet, pyvalue.ByteArray, *Object:
	default:
		c, err := pyvalue.Canon(v)
		if err != nil {
			return err
		}
		return w.writeValue(c, asKey)
	}
	w.depth++
	if w.depth > pyvalue.MaxDepth {
		return fmt.Errorf("nested more than %d levels deep, or a value that contains itself", pyvalue.MaxDepth)
	}
	defer func() { w.depth-- }()
	if asKey {
		switch v.(type) {
		case []any, pyvalue.Dict, pyvalue.Set, pyvalue.ByteArray:
			return fmt.Errorf("a %s cannot be a key or an element of a set", pyvalue.Name(v))
		}
	}
	switch v := v.(type) {
	case []any:
		return w.writeElements(opEmptyList, opAppends, v, false)
	case pyvalue.Set:
		return w.writeElements(opEmptySet, opAddItems, v, true)
	case pyvalue.FrozenSet:
		return w.writeMarked(opFrozenSet, v, true)
	case pyvalue.Tuple:
		return w.writeTuple(v, asKey)
	case pyvalue.Dict:
		return w.writeDict(v)
	case *Object:
		return w.writeObject(v)
	case pyvalue.ByteArray:
		w.buf = le.AppendUint64(append(w.buf, opByteArray8), uint64(len(v)))
		w.buf = append(w.buf, v...)
	}
	return nil
}

func (w *writer) writeElements(empty, add byte, elements []any, asKeys bool) error {
	w.buf = append(w.buf, empty)
	if len(elements) == 0 {
		return nil
	}
	return w.writeMarked(add, elements, asKeys)
}

// writeMarked appends a mark, elements, and the instruction that collects them.
func (w *writer) writeMarked(op byte, elements []any, asKeys bool) error {
	w.buf = append(w.buf, opMark)
	for _, e := range elements {
		if err := w.writeValue(e, asKeys); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, op)
	return nil
}

func (w *writer) writeTuple(t pyvalue.Tuple, asKey bool) error {
	if len(t) == 0 {
		w.buf = append(w.buf, opEmptyTuple)
		return nil
	}
	if len(t) > 3 {
		return w.writeMarked(opTuple, t, asKey)
	}
	for _, e := range t {
		if err := w.writeValue(e, asKey); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, opTuple1+byte(len(t)-1))
	return nil
}

func (w *writer) writeDict(d pyvalue.Dict) error {
	w.buf = append(w.buf, opEmptyDict)
	if len(d) == 0 {
		return nil
	}
	w.buf = append(w.buf, opMark)
	for i := range d {
		if err := w.writeValue(d[i].Key, true); err != nil {
			return err
		}
		if err := w.writeValue(d[i].Value, false); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, opSetItems)
	return nil
}

// writeHead appends an instruction and the length n, which takes 1, 4 or 8 bytes depending on the
// instruction.
func (w *writer) writeHead(op1, op4, op8 byte, n int) {
	switch {
	case n <= math.MaxUint8:
		w.buf = append(w.buf, op1, byte(n))
	case n <= math.MaxUint32:
		w.buf = le.AppendUint32(append(w.buf, op4), uint32(n))
	default:
		w.buf = le.AppendUint64(append(w.buf, op8), uint64(n))
	}
}

func (w *writer) writeInteger(n int64) {
	switch {
	case n >= 0 && n <= math.MaxUint8:
		w.buf = append(w.buf, opBinInt1, byte(n))
	case n >= 0 && n <= math.MaxUint16:
		w.buf = le.AppendUint16(append(w.buf, opBinInt2), uint16(n))
	case n >= math.MinInt32 && n <= math.MaxInt32:
		w.buf = le.AppendUint32(append(w.buf, opBinInt), uint32(n))
	default:
		w.buf = le.AppendUint64(append(w.buf, opLong1, 8), uint64(n))
	}
}

func (w *writer) writeLong(b []byte) error {
	switch {
	case len(b) <= math.MaxUint8:
		w.buf = append(w.buf, opLong1, byte(len(b)))
	case len(b) <= math.MaxInt32:
		w.buf = le.AppendUint32(append(w.buf, opLong4), uint32(len(b)))
	default:
		return fmt.Errorf("an integer of %d bytes is longer than a pickle can hold", len(b))
	}
	w.buf = append(w.buf, b...)
	return nil
}

func twosComplement(n *big.Int) []byte {
	b := make([]byte, n.BitLen()/8+1)
	if n.Sign() >= 0 {
		n.FillBytes(b)
	} else {
		// In two's complement, a negative n is the complement of |n| - 1.
		new(big.Int).Not(n).FillBytes(b)
		for i := range b {
			b[i] = ^b[i]
		}
	}
	slices.Reverse(b)
	return b
}
