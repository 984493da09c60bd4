package pyvalue

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"math/big"
	"slices"
)

// digest represents a key that is not comparable in Go. It has a fixed size and is a cryptographic
// hash, so nobody can construct two keys with the same digest.
type digest [sha256.Size]byte

// keyer computes comparable keys and reuses one hash for all of them.
type keyer struct {
	h     hash.Hash
	chunk [64]byte
}

// Key returns a comparable Go value for a dict key. Two results are equal if Python considers the
// keys equal. A value that Python cannot hash, such as a list, is an error.
func Key(v any) (any, error) { return new(keyer).key(v) }

func (k *keyer) key(v any) (any, error) {
	v, err := number(v)
	if err != nil {
		return nil, err
	}
	switch v.(type) {
	case []byte, Tuple, FrozenSet, *big.Int:
		return k.digest(v)
	}
	return v, nil
}

// number converts a Go value to a plain value (see Canon). It converts equal numbers to the same
// value: an int64 if the number is an integer that fits, and otherwise a *big.Int or a float64. It
// returns an error for a value that cannot be a key.
func number(v any) (any, error) {
	switch v := v.(type) {
	case nil, string, int64, []byte, Tuple, FrozenSet:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		switch {
		case v != math.Trunc(v) || math.IsInf(v, 0):
			return v, nil
		case v >= math.MinInt64 && v < math.MaxInt64:
			return int64(v), nil
		}
		n, _ := big.NewFloat(v).Int(nil)
		return n, nil
	case *big.Int:
		return Integer(v), nil
	case []any, Dict, Set, ByteArray:
		return nil, unhashableError(v)
	}
	c, err := Canon(v)
	if err != nil {
		return nil, err
	}
	return number(c)
}

func unhashableError(v any) error {
	return fmt.Errorf("a %s cannot be a key or an element of a set", Name(v))
}

func (k *keyer) digest(v any) (any, error) {
	if k.h == nil {
		k.h = sha256.New()
	}
	k.h.Reset()
	if err := k.write(k.h, v); err != nil {
		return nil, err
	}
	var d digest
	k.h.Sum(d[:0])
	return d, nil
}

// write hashes an encoding of v. Equal keys have equal encodings, and no encoding is a prefix of
// another.
func (k *keyer) write(h hash.Hash, v any) error {
	v, err := number(v)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		k.writeHead(h, 'n', 0)
	case string:
		k.writeHead(h, 's', len(v))
		for len(v) > 0 {
			n := copy(k.chunk[:], v)
			h.Write(k.chunk[:n])
			v = v[n:]
		}
	case []byte:
		k.writeHead(h, 'b', len(v))
		h.Write(v)
	case int64:
		k.writeHead(h, 'i', int(v))
	case float64:
		k.writeHead(h, 'f', int(math.Float64bits(v)))
	case *big.Int:
		k.writeHead(h, 'l', v.Sign()*v.BitLen())
		for _, word := range v.Bits() {
			k.writeHead(h, 'w', int(word))
		}
	case Tuple:
		k.writeHead(h, 't', len(v))
		for _, e := range v {
			if err := k.write(h, e); err != nil {
				return err
			}
		}
	case FrozenSet:
		return k.writeSet(h, v)
	}
	return nil
}

func (k *keyer) writeHead(h hash.Hash, kind byte, n int) {
	k.chunk[0] = kind
	binary.LittleEndian.PutUint64(k.chunk[1:], uint64(n))
	h.Write(k.chunk[:9])
}

// writeSet hashes the sorted digests of the elements, because a set has no order.
func (k *keyer) writeSet(h hash.Hash, set FrozenSet) error {
	digests := make([]digest, len(set))
	elementHash := sha256.New()
	for i, e := range set {
		elementHash.Reset()
		if err := k.write(elementHash, e); err != nil {
			return err
		}
		elementHash.Sum(digests[i][:0])
	}
	slices.SortFunc(digests, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	k.writeHead(h, 'z', len(digests))
	for i := range digests {
		h.Write(digests[i][:])
	}
	return nil
}
