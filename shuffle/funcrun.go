package shuffle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// funcRun is a file of sorted records: blocks of a length and a CRC-32C of what
// follows, in 4 bytes each, and records, each after its length as a uvarint.
type funcRun struct {
	file vfs.File
	size int64
	buf  []byte // a block that is not written yet
}

const (
	funcBlock = 64 << 10 // bytes of a block, but for a long record
	blockHead = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newFuncRun(temp *tempdir.Set) (*funcRun, error) {
	f, err := temp.Create()
	if err != nil {
		return nil, fmt.Errorf("a file for sorted records: %w", err)
	}
	return &funcRun{file: f, buf: make([]byte, blockHead, funcBlock)}, nil
}

func (r *funcRun) close() error { return r.file.Close() }

func (r *funcRun) add(record []byte) error {
	if len(r.buf)+len(record)+binary.MaxVarintLen64 > funcBlock {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.buf = binary.AppendUvarint(r.buf, uint64(len(record)))
	r.buf = append(r.buf, record...)
	return nil
}

func (r *funcRun) flush() error {
	if len(r.buf) == blockHead {
		return nil
	}
	if uint64(len(r.buf)) > partd.MaxValueLen {
		return fmt.Errorf("a record of %d bytes: %w", len(r.buf), partd.ErrTooLarge)
	}
	binary.LittleEndian.PutUint32(r.buf, uint32(len(r.buf)-blockHead))
	binary.LittleEndian.PutUint32(r.buf[4:], crc32.Checksum(r.buf[blockHead:], castagnoli))
	if _, err := r.file.WriteAt(r.buf, r.size); err != nil {
		return fmt.Errorf("writing sorted records: %w", err)
	}
	r.size += int64(len(r.buf))
	r.buf = r.buf[:blockHead]
	return nil
}

// funcCursor walks the records of a run, or those held in memory.
type funcCursor[T any] struct {
	v       T
	encoded []byte

	codec SpillCodec[T]
	run   *funcRun
	at    int64  // of the next block
	block []byte // the current one
	rest  []byte // of it

	held []held[T]
	data []byte // what their encodings are in
}

// next goes on to the next record. It returns false at the end.
func (c *funcCursor[T]) next() (bool, error) {
	if c.run == nil {
		if len(c.held) == 0 {
			return false, nil
		}
		h := &c.held[0]
		c.v, c.encoded, c.held = h.v, c.data[h.from:h.to], c.held[1:]
		return true, nil
	}
	if len(c.rest) == 0 {
		if c.at == c.run.size {
			return false, nil
		}
		if err := c.read(); err != nil {
			return false, err
		}
	}
	record, rest, err := cut(c.rest)
	if err != nil {
		return false, &partd.CorruptError{Path: c.run.file.Name(), Offset: c.at, Err: err}
	}
	c.encoded, c.rest = record, rest
	if c.v, err = c.codec.Decode(record); err != nil {
		return false, fmt.Errorf("decoding a record: %w", err)
	}
	return true, nil
}

// read reads the next block.
func (c *funcCursor[T]) read() error {
	corrupt := func(err error) error {
		return &partd.CorruptError{Path: c.run.file.Name(), Offset: c.at, Err: err}
	}
	var head [blockHead]byte
	if _, err := c.run.file.ReadAt(head[:], c.at); err != nil {
		return fmt.Errorf("reading sorted records: %w", err)
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n == 0 || n > c.run.size-c.at-blockHead {
		return corrupt(fmt.Errorf("%w: a block of %d bytes", errEncoding, n))
	}
	if int64(cap(c.block)) < n {
		c.block = make([]byte, n)
	}
	c.block = c.block[:n]
	if _, err := c.run.file.ReadAt(c.block, c.at+blockHead); err != nil {
		return fmt.Errorf("reading sorted records: %w", err)
	}
	if crc := crc32.Checksum(c.block, castagnoli); crc != binary.LittleEndian.Uint32(head[4:]) {
		return corrupt(fmt.Errorf("%w: its checksum is another", errEncoding))
	}
	c.at += blockHead + n
	c.rest = c.block
	return nil
}
