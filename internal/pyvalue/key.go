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

// digest represents a key that is not comparable in Go. It has a fixed size, and is a cryptographic
// hash, so that nobody can construct two keys with the same digest.
type digest [sha256.Size]byte

// keyer computes comparable keys, and reuses one hash for all of them.
type keyer struct {
	h     hash.Hash
	chunk [64]byte
}

// Key returns a comparable Go value for a dict key. Two results are equal if Python considers the
// keys equal. A value that Python cannot hash, such as a list, is an error.
func Key(v any) (any, error) { return new(keyer).key(v) }

func (k *keyer) key(v any) (any, error) {
	switch v := v.(type) {
	case nil, string, int64:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		if f := floatKey(v); f != nil {
			return f, nil
		}
		n, _ := big.NewFloat(v).Int(nil)
		return k.digest(n)
	case *big.Int:
		if v.IsInt64() {
			return v.Int64(), nil
		}
		return k.digest(v)
	case []byte, Tuple, FrozenSet:
		return k.digest(v)
	case []any, Dict, Set, ByteArray:
		return nil, unhashableError(v)
	}
	c, err := Canon(v)
	if err != nil {
		return nil, err
	}
	return k.key(c)
}

func unhashableError(v any) error {
	return fmt.Errorf("a %s cannot be a key or an element of a set", Name(v))
}

// floatKey returns an int64 if f is an integer, nil if that integer needs a *big.Int, and
// f itself otherwise.
func floatKey(f float64) any {
	switch {
	case f != math.Trunc(f) || math.IsInf(f, 0):
		return f
	case f >= math.MinInt64 && f < math.MaxInt64:
		return int64(f)
	}
	return nil
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
		switch f := floatKey(v).(type) {
		case int64:
			k.writeHead(h, 'i', int(f))
		case float64:
			k.writeHead(h, 'f', int(math.Float64bits(f)))
		default:
			n, _ := big.NewFloat(v).Int(nil)
			k.writeNumber(h, n)
		}
	case *big.Int:
		k.writeNumber(h, v)
	case Tuple:
		k.writeHead(h, 't', len(v))
		for _, e := range v {
			if err := k.write(h, e); err != nil {
				return err
			}
		}
	case FrozenSet:
		return k.writeSet(h, v)
	case []any, Dict, Set, ByteArray:
		return unhashableError(v)
	case bool:
		n := 0
		if v {
			n = 1
		}
		k.writeHead(h, 'i', n)
	default:
		c, err := Canon(v)
		if err != nil {
			return err
		}
		return k.write(h, c)
	}
	return nil
}

func (k *keyer) writeHead(h hash.Hash, kind byte, n int) {
	k.chunk[0] = kind
	binary.LittleEndian.PutUint64(k.chunk[1:], uint64(n))
	h.Write(k.chunk[:9])
}

func (k *keyer) writeNumber(h hash.Hash, n *big.Int) {
	if n.IsInt64() {
		k.writeHead(h, 'i', int(n.Int64()))
		return
	}
	k.writeHead(h, 'l', n.Sign()*n.BitLen())
	for _, word := range n.Bits() {
		k.writeHead(h, 'w', int(word))
	}
}

// writeSet hashes the sorted digests of the elements, because a set has no order.
func (k *keyer) writeSet(h hash.Hash, set FrozenSet) error {
	digests := make([]digest, len(set))
	inner := sha256.New()
	for i, e := range set {
		inner.Reset()
		if err := k.write(inner, e); err != nil {
			return err
		}
		inner.Sum(digests[i][:0])
	}
	slices.SortFunc(digests, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	k.writeHead(h, 'z', len(digests))
	for i := range digests {
		h.Write(digests[i][:])
	}
	return nil
}
