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
	case opBinInt1:
		n, err := r.number(1)
		return int64(n), err
	case opBinInt2:
		n, err := r.number(2)
		return int64(n), err
	case opBinInt:
		n, err := r.number(4)
		return int64(int32(n)), err
	case opLong1:
		return r.long(1)
	case opLong4:
		return r.long(4)
	case opBinFloat:
		b, err := r.next(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case opShortBinUnicode:
		return r.text(1)
	case opBinUnicode:
		return r.text(4)
	case opBinUnicode8:
		return r.text(8)
	case opShortBinBytes:
		return r.bytes(1)
	case opBinBytes:
		return r.bytes(4)
	case opBinBytes8:
		return r.bytes(8)
	case opByteArray8:
		b, err := r.bytes(8)
		return pyvalue.ByteArray(b), err
	}
	return nil, refuse(op)
}

// sized reads a length of n bytes and as many bytes, which are part of the input.
func (r *reader) sized(n int) ([]byte, error) {
	size, err := r.number(n)
	if err != nil {
		return nil, err
	}
	return r.next(size)
}

func (r *reader) bytes(n int) ([]byte, error) {
	b, err := r.sized(n)
	return append(make([]byte, 0, len(b)), b...), err
}

func (r *reader) text(n int) (any, error) {
	b, err := r.sized(n)
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
func (r *reader) long(n int) (any, error) {
	b, err := r.sized(n)
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
