package msgpack

import (
	"fmt"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/go-partd/partd/internal/pyvalue"
)

// MaxGrowth is the maximum memory of a decoded value, as a multiple of the input's length, apart
// from a few kilobytes.
const MaxGrowth = 128

// Error is an error at an offset in the input.
type Error struct {
	Offset int // in bytes
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("msgpack, byte %d: %v", e.Offset, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Decode returns the plain value that data encodes. It does not retain data. Its error
// is an *Error.
func Decode(data []byte) (v any, err error) {
	r := reader{remaining: data, missing: 1, unique: pyvalue.NewUnique(len(data)), texts: pyvalue.NewTexts(len(data))}
	v, err = r.value(pyvalue.MaxDepth)
	if err := r.finish(data, err); err != nil {
		return nil, err
	}
	return v, nil
}

// finish adds the offset in data to err. If err is nil, it returns an error if bytes follow the
// value.
func (r *reader) finish(data []byte, err error) error {
	if err == nil && len(r.remaining) > 0 {
		err = fmt.Errorf("%d bytes follow the value", len(r.remaining))
	}
	if err != nil {
		return &Error{len(data) - len(r.remaining), err}
	}
	return nil
}

type reader struct {
	remaining []byte
	// missing is the number of values that headers have announced but that are not yet read. Each
	// value takes at least one byte. If missing exceeds the remaining bytes, reading fails before
	// it allocates memory.
	missing uint64
	unique  *pyvalue.Unique // removes repeated keys of dicts
	texts   pyvalue.Texts   // shares repeated strings
}

// beginValue counts a value that is about to be read. It returns an error at the end of the input, or if
// the value is nested too deeply.
func (r *reader) beginValue(levelsLeft int) error {
	if len(r.remaining) == 0 {
		return msgp.ErrShortBytes
	}
	if levelsLeft < 0 {
		return fmt.Errorf("nested more than %d levels deep", pyvalue.MaxDepth)
	}
	r.missing--
	return nil
}

func (r *reader) value(levelsLeft int) (v any, err error) {
	if err := r.beginValue(levelsLeft); err != nil {
		return nil, err
	}
	remaining := r.remaining
	kind := msgp.NextType(r.remaining)
	switch kind {
	case msgp.NilType:
		remaining, err = msgp.ReadNilBytes(remaining)
	case msgp.BoolType:
		v, remaining, err = msgp.ReadBoolBytes(remaining)
	case msgp.IntType:
		v, remaining, err = msgp.ReadInt64Bytes(remaining)
	case msgp.UintType:
		var n uint64
		n, remaining, err = msgp.ReadUint64Bytes(remaining)
		v = pyvalue.Unsigned(n)
	case msgp.Float32Type:
		var f float32
		f, remaining, err = msgp.ReadFloat32Bytes(remaining)
		v = float64(f)
	case msgp.Float64Type:
		v, remaining, err = msgp.ReadFloat64Bytes(remaining)
	case msgp.StrType:
		var b []byte
		b, remaining, err = msgp.ReadStringZC(remaining)
		if err != nil {
			return nil, err
		}
		isNew := false
		v, isNew = r.texts.Of(b)
		if isNew && !utf8.Valid(b) {
			return nil, fmt.Errorf("invalid UTF-8 in a str: %.40q", b)
		}
	case msgp.BinType:
		v, remaining, err = msgp.ReadBytesBytes(remaining, []byte{})
	case msgp.ArrayType:
		return r.readArray(levelsLeft)
	case msgp.MapType:
		return r.readDict(levelsLeft)
	default:
		err = fmt.Errorf("the MessagePack type %s is not supported", kind)
	}
	if err != nil {
		return nil, err
	}
	r.remaining = remaining
	return v, nil
}

// readHeader reads the header of an array or a map and returns the number of its values. A map has
// two for each item.
func (r *reader) readHeader(kind msgp.Type) (n uint64, err error) {
	var size uint32
	remaining := r.remaining
	if kind == msgp.ArrayType {
		size, remaining, err = msgp.ReadArrayHeaderBytes(remaining)
		n = uint64(size)
	} else {
		size, remaining, err = msgp.ReadMapHeaderBytes(remaining)
		n = 2 * uint64(size)
	}
	if err != nil {
		return 0, err
	}
	r.missing += n
	if r.missing > uint64(len(remaining)) {
		return 0, fmt.Errorf("the data declares %d more values, but only %d bytes are left: %w", r.missing, len(remaining), msgp.ErrShortBytes)
	}
	r.remaining = remaining
	return n, nil
}

func (r *reader) readArray(levelsLeft int) (any, error) {
	n, err := r.readHeader(msgp.ArrayType)
	if err != nil {
		return nil, err
	}
	list := make([]any, n)
	for i := range list {
		list[i], err = r.value(levelsLeft - 1)
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *reader) readDict(levelsLeft int) (any, error) {
	n, err := r.readHeader(msgp.MapType)
	if err != nil {
		return nil, err
	}
	items := make([]pyvalue.Item, n/2)
	for i := range items {
		items[i].Key, err = r.value(levelsLeft - 1)
		if err != nil {
			return nil, err
		}
		items[i].Value, err = r.value(levelsLeft - 1)
		if err != nil {
			return nil, err
		}
	}
	return r.unique.Dict(items)
}
