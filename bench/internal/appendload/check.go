package appendload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Check reads all values of t and compares them with the values written.
func (l *Load) Check(t Target) error {
	c := &checker{l: l}
	err := t.Scan(func(key string, b []byte, isFirst bool) error {
		if isFirst {
			if err := c.beginKey(key); err != nil {
				return err
			}
		}
		return c.checkBytes(b)
	})
	return errors.Join(err, c.finish())
}

// checker compares the values read with the values written.
type checker struct {
	l        *Load
	count    uint64
	key      string
	previous uint64 // number of the key's previous entry, plus one; 0 at the first entry
	carry    []byte // the beginning of a value whose end has not been read yet
	want     [keyLen]byte
}

func (c *checker) beginKey(key string) error {
	if len(c.carry) > 0 {
		return fmt.Errorf("key %q ends in the middle of a value", c.key)
	}
	c.key, c.previous = key, 0
	return nil
}

// checkBytes checks b, the next bytes of the value of c.key.
func (c *checker) checkBytes(b []byte) error {
	if len(c.carry) > 0 {
		n := min(c.l.Value-len(c.carry), len(b))
		c.carry = append(c.carry, b[:n]...)
		b = b[n:]
		if len(c.carry) < c.l.Value {
			return nil
		}
		if err := c.checkPiece(c.carry); err != nil {
			return err
		}
		c.carry = c.carry[:0]
	}
	for ; len(b) >= c.l.Value; b = b[c.l.Value:] {
		if err := c.checkPiece(b[:c.l.Value]); err != nil {
			return err
		}
	}
	c.carry = append(c.carry, b...)
	return nil
}

func (c *checker) checkPiece(b []byte) error {
	i := binary.LittleEndian.Uint64(b)
	if i >= c.l.Entries || i+1 <= c.previous {
		return fmt.Errorf("key %q: entry %d after entry %d", c.key, i, int64(c.previous)-1)
	}
	putKey(c.want[:], c.l.keyOf(i))
	if string(c.want[:]) != c.key {
		return fmt.Errorf("entry %d of key %q is stored under key %q", i, c.want[:], c.key)
	}
	if !bytes.Equal(b[8:], c.l.patternOf(i)) {
		return fmt.Errorf("key %q: the value of entry %d differs from the value that was written", c.key, i)
	}
	c.previous = i + 1
	c.count++
	return nil
}

// finish returns an error unless all entries were read. No entry can have been read twice,
// because the entries of each key were in order.
func (c *checker) finish() error {
	if len(c.carry) > 0 || c.count != c.l.Entries {
		return fmt.Errorf("found %d of %d entries", c.count, c.l.Entries)
	}
	return nil
}
