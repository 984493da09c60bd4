package appendload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/go-partd/partd"
)

// hashLog extends hashFiles with a minimal write-ahead log, to show the minimum cost of such a log.
// It writes each batch with a checksum, in one call, to one of two files. When a file is full, the
// log continues at the start of the other file. Nothing reads the log.
type hashLog struct {
	*hashFiles
	logs   [2]*os.File
	n      int   // index of the file in use
	offset int64 // position of the next batch in this file
	buf    []byte
}

// logWindow is the maximum length of a log file, in bytes. It equals the memtable size of a log
// store with 256 MiB of memory.
const logWindow = 96 << 20

func openHashLog(dir string) (*hashLog, error) {
	files, err := openHashFiles(dir)
	if err != nil {
		return nil, err
	}
	h := &hashLog{hashFiles: files}
	for i := range h.logs {
		if h.logs[i], err = os.Create(filepath.Join(dir, fmt.Sprint("log-", i))); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *hashLog) Append(entries []partd.Entry) error {
	b := append(h.buf[:0], make([]byte, 8)...)
	for i := range entries {
		e := &entries[i]
		b = binary.AppendUvarint(b, uint64(len(e.Value)))
		b = binary.AppendUvarint(b, uint64(len(e.Key)))
		b = append(b, e.Key...)
		b = append(b, e.Value...)
	}
	h.buf = b
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)))
	if h.offset+int64(len(b)) > logWindow {
		h.n, h.offset = 1-h.n, 0
	}
	if _, err := h.logs[h.n].WriteAt(b, h.offset); err != nil {
		return err
	}
	h.offset += int64(len(b))
	return h.hashFiles.Append(entries)
}

func (h *hashLog) Close() error {
	return errors.Join(h.hashFiles.Close(), h.logs[0].Close(), h.logs[1].Close())
}
