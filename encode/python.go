package encode

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/msgpack"
	"github.com/go-partd/partd/internal/pickle"
	"github.com/go-partd/partd/internal/pyvalue"
)

// The types of Python that Go has none for. The others are, when they are read:
// None nil, bool bool, int int64 or *big.Int where int64 is too small, float
// float64, str string, bytes []byte, list []any.
//
// For writing, numbers of every size are taken, named types of all of these, and
// slices, arrays and maps of them: a slice is a list, a map a dict sorted by key.
// Structs are not. Values must not contain themselves and may be nested 1,000
// deep.
type (
	// PyTuple is Python's tuple.
	PyTuple = pyvalue.Tuple
	// PyDict is Python's dict: its items in the order in which they were added.
	PyDict = pyvalue.Dict
	// PyItem is a key of a PyDict with its value.
	PyItem = pyvalue.Item
	// PySet is Python's set.
	PySet = pyvalue.Set
	// PyFrozenSet is Python's frozenset.
	PyFrozenSet = pyvalue.FrozenSet
	// PyByteArray is Python's bytearray.
	PyByteArray = pyvalue.ByteArray
)

// Pickle is the codec of partd.Pickle: lists of plain values, pickled. It writes
// protocol 5 and reads protocols 4 and 5, the ones that partd has written since
// Python 3.4. Values keep their types; tuples come back as [PyTuple].
//
// Nothing is executed: a pickle with a class, a function, or anything else that is
// not a plain value is an error that names it. A container that occurs twice in a
// list is shared in Go as it is in Python: a change shows in both places.
func Pickle() ValueCodec[[]any] {
	return ValueCodec[[]any]{
		Encode: func(dst []byte, v []any) ([]byte, error) { return pickle.Append(dst, v) },
		Decode: func(data []byte) ([]any, error) { return asList("pickle", pickle.Decode, data) },
		Join:   Concat[[]any],
	}
}

// Python is the codec of partd.Python: lists of plain values in MessagePack,
// which is faster and shorter than a pickle but has no tuples and bytearrays:
// they come back as lists and bytes. A list that holds what MessagePack cannot
// (a set, an integer beyond 64 bits) or what Python would not read from it (a
// dict with keys that are neither text nor bytes) is pickled instead, so that
// everything in it keeps its type. The codec reads both.
func Python() ValueCodec[[]any] {
	return ValueCodec[[]any]{
		Encode: func(dst []byte, v []any) ([]byte, error) {
			out, err := msgpack.Append(dst, v)
			if errors.Is(err, msgpack.ErrNotPlain) {
				return pickle.Append(dst, v)
			}
			return out, err
		},
		Decode: func(data []byte) ([]any, error) {
			// A list in MessagePack begins with a byte that no pickle begins with.
			if len(data) == 0 || data[0]&0xf0 == 0x90 || data[0] == 0xdc || data[0] == 0xdd {
				return asList("msgpack", msgpack.Decode, data)
			}
			return asList("pickle", pickle.Decode, data)
		},
		Join: Concat[[]any],
	}
}

func asList(format string, decode func([]byte) (any, error), data []byte) ([]any, error) {
	v, err := decode(data)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: a %s, not a list", format, pyvalue.Name(v))
	}
	return list, nil
}
