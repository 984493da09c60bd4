package shuffle

import (
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/spill"
)

// A run of a FuncSorter is a file of sorted records, each after its length as a
// uvarint.

const funcBlock = 64 << 10 // bytes of a block, but for a long record

func addToRun(f *spill.File, record []byte) error {
	if err := f.Room(len(record) + binary.MaxVarintLen64); err != nil {
		return err
	}
	f.Buf = append(binary.AppendUvarint(f.Buf, uint64(len(record))), record...)
	return nil
}

// funcCursor walks the records of a run, or those held in memory.
type funcCursor[T any] struct {
	v       T
	encoded []byte

	codec  encode.ValueCodec[T]
	run    *spill.File
	passed int // blocks
	block  []byte
	rest   []byte // of it

	held []held[T]
	data []byte // what their encodings are in
}

// next goes on to the next record. It returns false at the end.
func (c *funcCursor[T]) next() (more bool, err error) {
	if c.run == nil {
		if len(c.held) == 0 {
			return false, nil
		}
		h := &c.held[0]
		c.v, c.encoded, c.held = h.v, c.data[h.from:h.to], c.held[1:]
		return true, nil
	}
	if len(c.rest) == 0 {
		if c.passed == c.run.Blocks() {
			return false, nil
		}
		if c.block, err = c.run.Read(c.block, c.passed, 1); err != nil {
			return false, err
		}
		c.rest = c.block
		c.passed++
	}
	if c.encoded, c.rest, err = cut(c.rest); err != nil {
		return false, spill.ErrDamaged
	}
	if c.v, err = c.codec.Decode(c.encoded); err != nil {
		return false, fmt.Errorf("decoding a record: %w", err)
	}
	return true, nil
}
