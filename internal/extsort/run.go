package extsort

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"github.com/go-partd/partd/internal/vfs"
)

// run is a file of sorted records. Where its blocks are, and their checksums,
// is kept in memory: nobody else reads the file.
type run struct {
	file     vfs.File
	seq      int64 // of the first slot in it
	passes   int   // merges that its records went through
	size     int64
	blocks   []blockRef
	maxBlock int // bytes of the largest, as it was before it was compressed
}

// blockRef is a block of a run. It is compressed if that made it shorter.
type blockRef struct {
	offset      int64
	raw, stored uint32
	crc         uint32 // CRC-32C of what is stored
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (r *run) close() error { return r.file.Close() }

// runWriter writes a run.
type runWriter struct {
	*run
	compress   bool
	buf        []byte
	compressed []byte
}

func (s *Sorter) newRun(seq int64) (*runWriter, error) {
	f, err := s.temp.Create()
	if err != nil {
		return nil, fmt.Errorf("a file for sorted records: %w", err)
	}
	return &runWriter{
		run: &run{file: f, seq: seq}, compress: s.opts.Compress,
		buf: make([]byte, 0, s.sizes.block),
	}, nil
}

// add adds a record. same tells that its key is that of the record before.
func (w *runWriter) add(h *head, same bool) error {
	size := len(h.key) + len(h.rec) + 2*binary.MaxVarintLen64
	if len(w.buf)+size > cap(w.buf) {
		if err := w.flush(); err != nil {
			return err
		}
		if size > cap(w.buf) {
			w.buf = make([]byte, 0, size)
		}
	}
	// A block does not need the one before it.
	if same && len(w.buf) > 0 {
		w.buf = binary.AppendUvarint(w.buf, uint64(len(h.rec))<<1|1)
	} else {
		w.buf = binary.AppendUvarint(w.buf, uint64(len(h.rec))<<1)
		w.buf = binary.AppendUvarint(w.buf, uint64(len(h.key)))
		w.buf = append(w.buf, h.key...)
	}
	w.buf = append(w.buf, h.rec...)
	return nil
}

func (w *runWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	data := w.buf
	if w.compress {
		if need := s2.MaxEncodedLen(len(data)); cap(w.compressed) < need {
			w.compressed = make([]byte, need)
		}
		if c := s2.Encode(w.compressed[:cap(w.compressed)], data); len(c) < len(data) {
			data = c
		}
	}
	if _, err := w.file.WriteAt(data, w.size); err != nil {
		return fmt.Errorf("writing sorted records: %w", err)
	}
	w.blocks = append(w.blocks, blockRef{w.size, uint32(len(w.buf)), uint32(len(data)), crc32.Checksum(data, castagnoli)})
	w.size += int64(len(data))
	w.maxBlock = max(w.maxBlock, len(w.buf))
	w.buf = w.buf[:0]
	return nil
}
