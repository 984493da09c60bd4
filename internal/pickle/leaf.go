package pickle

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/go-partd/partd/internal/pyvalue"
)

// leaf reads what has no elements.
func (r *reader) leaf(op byte) (any, error) {
	switch op {
	case opBinInt1, opBinInt2:
		n, err := r.number(op)
		return int64(n), err
	case opBinInt:
		n, err := r.number(op)
		return int64(int32(n)), err
	case opLong1, opLong4:
		return r.long(op)
	case opBinFloat:
		b, err := r.next(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case opShortBinUnicode, opBinUnicode, opBinUnicode8:
		return r.text(op)
	case opShortBinBytes, opBinBytes, opBinBytes8:
		return r.bytes(op)
	case opByteArray8:
		b, err := r.bytes(op)
		return pyvalue.ByteArray(b), err
	}
	return nil, refuse(op)
}

// sized reads a length and as many bytes, which are part of the input.
func (r *reader) sized(op byte) ([]byte, error) {
	size, err := r.number(op)
	if err != nil {
		return nil, err
	}
	return r.next(size)
}

func (r *reader) bytes(op byte) ([]byte, error) {
	b, err := r.sized(op)
	return append(make([]byte, 0, len(b)), b...), err
}

func (r *reader) text(op byte) (any, error) {
	b, err := r.sized(op)
	if err != nil {
		return nil, err
	}
	s, isNew := r.texts.Of(b)
	if isNew && !pyvalue.ValidText(s.(string)) {
		return nil, fmt.Errorf("a str that is not UTF-8: %.40q", b)
	}
	return s, nil
}

// long reads an integer: little-endian, its sign in the highest bit.
func (r *reader) long(op byte) (any, error) {
	b, err := r.sized(op)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return int64(0), nil
	}
	negative := b[len(b)-1] >= 0x80
	if len(b) <= 8 {
		var v uint64
		if negative {
			v = math.MaxUint64
		}
		for i := len(b) - 1; i >= 0; i-- {
			v = v<<8 | uint64(b[i])
		}
		return int64(v), nil
	}
	magnitude := slices.Clone(b)
	slices.Reverse(magnitude)
	if !negative {
		return pyvalue.Integer(new(big.Int).SetBytes(magnitude)), nil
	}
	for i := range magnitude {
		magnitude[i] = ^magnitude[i]
	}
	v := new(big.Int).SetBytes(magnitude)
	return pyvalue.Integer(v.Not(v)), nil
}
