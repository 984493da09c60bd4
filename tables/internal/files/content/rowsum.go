package content

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"
)

// RowSum is a checksum of rows: the row count, and the sum of the rows' xxh3-128 hashes modulo 2^128.
type RowSum struct {
	Rows   int64
	hi, lo uint64
	buf    []byte
}

// SumRows returns the checksum of a reader's rows, and releases the reader. If err is not nil, SumRows returns it.
func SumRows(r array.RecordReader, err error) (*RowSum, error) {
	if err != nil {
		return nil, err
	}
	defer r.Release()
	s := &RowSum{}
	for r.Next() {
		s.Add(r.RecordBatch())
	}
	return s, r.Err()
}

// Add adds the rows of a batch. It hashes the values as strings, so the encoding of a column does not matter.
func (s *RowSum) Add(b arrow.RecordBatch) {
	for i := range int(b.NumRows()) {
		s.buf = s.buf[:0]
		for _, c := range b.Columns() {
			if c.IsNull(i) {
				s.buf = binary.AppendUvarint(s.buf, 0)
				continue
			}
			text := c.ValueStr(i)
			s.buf = append(binary.AppendUvarint(s.buf, uint64(len(text))+1), text...)
		}
		h := xxh3.Hash128(s.buf)
		var carry uint64
		s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
		s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
	}
	s.Rows += b.NumRows()
}

// String returns the checksum in hexadecimal digits.
func (s *RowSum) String() string { return fmt.Sprintf("%016x%016x", s.hi, s.lo) }

// Equals reports whether the rows are equal, in any order.
func (s *RowSum) Equals(t *RowSum) bool { return s.Rows == t.Rows && s.hi == t.hi && s.lo == t.lo }
