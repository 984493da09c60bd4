package msgpack

import (
	"fmt"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/go-partd/partd/internal/pyvalue"
)

// MaxGrowth is how many times the length of the input a value may take in
// memory, beside some kilobytes.
const MaxGrowth = 128

// Error says where in the input something is wrong.
type Error struct {
	Offset int // in bytes
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("msgpack, byte %d: %v", e.Offset, e.Err) }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Decode returns the plain value that data is. Nothing of data is kept. Its
// error is an *Error.
func Decode(data []byte) (any, error) {
	r := reader{rest: data, owed: 1, unique: pyvalue.NewUnique(len(data)), texts: pyvalue.NewTexts(len(data))}
	v, err := r.value(pyvalue.MaxDepth)
	if err == nil && len(r.rest) > 0 {
		err = fmt.Errorf("%d bytes follow the end", len(r.rest))
	}
	if err != nil {
		return nil, &Error{len(data) - len(r.rest), err}
	}
	return v, nil
}

// Check tells whether data is one value, of any type that MessagePack has, with
// as much data for every length in it as it says, and not nested too deep. It
// takes no memory. A decoder that believes lengths is safe afterwards.
func Check(data []byte) error {
	r := reader{rest: data, owed: 1}
	err := r.skip(pyvalue.MaxDepth)
	if err == nil && len(r.rest) > 0 {
		err = fmt.Errorf("%d bytes follow the end", len(r.rest))
	}
	if err != nil {
		return &Error{len(data) - len(r.rest), err}
	}
	return nil
}

type reader struct {
	rest []byte
	// owed is the number of values that headers announced and that were not read
	// yet. Each takes a byte at least: an array of more than there are bytes left
	// is an error before memory is taken, also where arrays are nested.
	owed   uint64
	unique *pyvalue.Unique
	texts  pyvalue.Texts
}

func (r *reader) value(depth int) (v any, err error) {
	if len(r.rest) == 0 {
		return nil, msgp.ErrShortBytes
	}
	if depth < 0 {
		return nil, fmt.Errorf("nested more than %d deep", pyvalue.MaxDepth)
	}
	r.owed--
	rest := r.rest
	switch kind := msgp.NextType(r.rest); kind {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(rest)
	case msgp.BoolType:
		v, rest, err = msgp.ReadBoolBytes(rest)
	case msgp.IntType:
		v, rest, err = msgp.ReadInt64Bytes(rest)
	case msgp.UintType:
		var n uint64
		n, rest, err = msgp.ReadUint64Bytes(rest)
		v = pyvalue.Unsigned(n)
	case msgp.Float32Type:
		var f float32
		f, rest, err = msgp.ReadFloat32Bytes(rest)
		v = float64(f)
	case msgp.Float64Type:
		v, rest, err = msgp.ReadFloat64Bytes(rest)
	case msgp.StrType:
		var b []byte
		if b, rest, err = msgp.ReadStringZC(rest); err != nil {
			return nil, err
		}
		isNew := false
		if v, isNew = r.texts.Of(b); isNew && !utf8.Valid(b) {
			return nil, fmt.Errorf("a str that is not UTF-8: %.40q", b)
		}
	case msgp.BinType:
		v, rest, err = msgp.ReadBytesBytes(rest, []byte{})
	case msgp.ArrayType:
		return r.array(depth)
	case msgp.MapType:
		return r.dict(depth)
	default:
		err = fmt.Errorf("%s is no plain value", kind)
	}
	if err != nil {
		return nil, err
	}
	r.rest = rest
	return v, nil
}

// announce notes that n values follow.
func (r *reader) announce(n uint64, rest []byte) error {
	if r.owed += n; r.owed > uint64(len(rest)) {
		return fmt.Errorf("%d values are announced, and %d bytes are left: %w", r.owed, len(rest), msgp.ErrShortBytes)
	}
	r.rest = rest
	return nil
}

func (r *reader) array(depth int) (any, error) {
	n, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if err != nil {
		return nil, err
	}
	if err := r.announce(uint64(n), rest); err != nil {
		return nil, err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = r.value(depth - 1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *reader) dict(depth int) (any, error) {
	n, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	if err != nil {
		return nil, err
	}
	if err := r.announce(2*uint64(n), rest); err != nil {
		return nil, err
	}
	items := make([]pyvalue.Item, n)
	for i := range items {
		if items[i].Key, err = r.value(depth - 1); err != nil {
			return nil, err
		}
		if items[i].Value, err = r.value(depth - 1); err != nil {
			return nil, err
		}
	}
	return r.unique.Dict(items)
}

// skip goes past a value.
func (r *reader) skip(depth int) error {
	if len(r.rest) == 0 {
		return msgp.ErrShortBytes
	}
	if depth < 0 {
		return fmt.Errorf("nested more than %d deep", pyvalue.MaxDepth)
	}
	r.owed--
	var n uint64
	switch msgp.NextType(r.rest) {
	case msgp.ArrayType:
		size, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
		if err != nil {
			return err
		}
		n, r.rest = uint64(size), rest
	case msgp.MapType:
		size, rest, err := msgp.ReadMapHeaderBytes(r.rest)
		if err != nil {
			return err
		}
		n, r.rest = 2*uint64(size), rest
	default:
		rest, err := msgp.Skip(r.rest)
		if err == nil {
			r.rest = rest
		}
		return err
	}
	if err := r.announce(n, r.rest); err != nil {
		return err
	}
	for ; n > 0; n-- {
		if err := r.skip(depth - 1); err != nil {
			return err
		}
	}
	return nil
}
