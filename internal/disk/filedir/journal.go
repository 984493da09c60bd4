package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// The journal, the file "%undo", holds one record that describes the current operation. If the
// process dies, the next lock holder uses the record to undo an append, or to finish a Delete,
// Drop or tagged Set. Little-endian:
//
//	offset 0  8  magic "partdun1"; anything else means that there is no record
//	       8  2  version: 2
//	      10  1  kind: 1 append (undo it); 2 delete, 3 drop, 4 set (finish them)
//	      11  1  flags: 1 the store was opened with Sync, and this record was synced before the data
//	             was written; 2 the record has a tag
//	      12  4  number of spans
//	      16  8  hash of the system's boot id, 0 if unknown
//	      24  8  length of the spans and of the tag in bytes
//	      32  4  CRC-32C of bytes 0 to 31, of the spans and of the tag
//	      36  4  zero
//	      40     the spans, one for each file
//	      then   the tag, if any
//	      then   8 bytes for each span, its undo progress: 0; the hash of the boot id when the span
//	             is undone; or the inode of the file that is about to replace the span's file
//
// A span of an append:
//
//	2  length of the file's name, and the name
//	1  flags: 1 the file did not exist; 2 the added bytes follow, not their checksums
//	8  length of the file before the append
//	8  number of bytes added
//	   the bytes; or the first piece's bytes, and CRC-32C (4 bytes each) of all pieces.
//	   Pieces end at file offsets that are multiples of 512, because a full disk cuts a
//	   write short at such an offset
//
// A span of a delete or drop:
//
//	2  length of the file's name, and the name
//	8  the file's inode
//	8  the file's length
//	8  time of the file's last change, nanoseconds since 1970
//
// The span of a tagged set has the same form, but only the name belongs to the value's file. The
// other fields describe the temporary file "%tmp", which will replace the value's file.
//
// The tag of an operation that must not be applied twice:
//
//	 8  index of a slot in the file "%sessions"
//	64  the slot before the operation
//	64  the slot after it
const (
	journalMagic    = "partdun1"
	journalVersion  = 2
	headerLen       = 40
	pieceSize       = 512
	pageSize        = 4096    // if a process dies during a write, the write ends at a multiple of pageSize
	maxInline       = 4096    // a span that adds more bytes contains checksums instead of the bytes
	maxInlineTotal  = 4 << 20 // once a record has this size, further spans contain checksums
	maxReusedBuffer = 8 << 20 // larger buffers are not reused
	maxKeptJournal  = 1 << 20 // a longer journal is truncated after use

	kindAppend = 1
	kindDelete = 2
	kindDrop   = 3
	kindSet    = 4

	flagSynced = 1
	flagTag    = 2

	spanCreated = 1
	spanInline  = 2
)

// journal is the open file "%undo".
type journal struct {
	*env
	tree        *tree
	file        vfs.File
	links       uint64 // number of hard links when the file was opened; a different number means that the file was removed
	size        int64
	readOnly    bool
	needsReplay bool // the file contains an operation that must be completed or undone first
}

// open opens the journal, unless it is already open. If the file is missing and create is false,
// open leaves j.file nil.
func (j *journal) open(create bool) error {
	if create && j.readOnly {
		if err := closeOnce(&j.file); err != nil {
			return err
		}
	}
	if j.file != nil {
		info, err := j.file.Info()
		if err != nil {
			return err
		}
		if info.Links == j.links {
			j.size = info.Size
			return nil
		}
		if err := closeOnce(&j.file); err != nil {
			return err
		}
	}
	path := j.path(names.Journal)
	j.readOnly = false
	file, err := j.tree.openOwn(path, create)
	if !create && isReadOnly(err) {
		j.readOnly = true
		file, err = j.tree.cache.open(path, os.O_RDONLY)
	}
	if err != nil || file == nil {
		return err
	}
	info, err := regularInfo(file)
	if err != nil {
		return err
	}
	j.file, j.links, j.size = file, info.Links, info.Size
	return nil
}

// hasRecord reports whether the journal contains an operation that must be completed or undone.
func (j *journal) hasRecord() (bool, error) {
	j.needsReplay = false
	if err := j.open(false); err != nil || j.file == nil || j.size < headerLen {
		return false, err
	}
	var magic [len(journalMagic)]byte
	if _, err := j.file.ReadAt(magic[:], 0); err != nil {
		return false, err
	}
	return string(magic[:]) == journalMagic, nil
}

// newRecord clears buf and returns it with space for a record's header.
func newRecord(buf []byte) []byte {
	return append(buf[:0], make([]byte, headerLen)...)
}

// seal completes a record. Call it after all spans were added.
func (j *journal) seal(rec []byte, kind byte, spans int, tag *sessionTag) []byte {
	copy(rec, journalMagic)
	rec[8], rec[9], rec[10], rec[11] = journalVersion, 0, kind, 0
	if j.sync {
		rec[11] |= flagSynced
	}
	if tag != nil {
		rec[11] |= flagTag
		rec = tag.append(rec)
	}
	binary.LittleEndian.PutUint32(rec[12:], uint32(spans))
	binary.LittleEndian.PutUint64(rec[16:], j.boot)
	binary.LittleEndian.PutUint64(rec[24:], uint64(len(rec)-headerLen))
	binary.LittleEndian.PutUint32(rec[32:], recordSum(rec))
	return append(rec, make([]byte, 8*spans)...)
}

func recordSum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[:32], castagnoli), castagnoli, rec[headerLen:])
}

// write writes a record to the journal. The lock must be held, and the operation must
// not have changed any file yet.
func (j *journal) write(rec []byte) error {
	if err := j.tryWrite(rec); err != nil {
		return fmt.Errorf("writing the record of the change to %s: %w", names.Journal, err)
	}
	return nil
}

func (j *journal) tryWrite(rec []byte) error {
	if j.file == nil || j.readOnly {
		if err := j.open(true); err != nil {
			return err
		}
	}
	_, err := j.file.WriteAt(rec, 0)
	j.size = max(j.size, int64(len(rec)))
	if err == nil && j.sync {
		err = j.refuseWrites(j.file.Sync())
	}
	if err == nil {
		return nil
	}
	clearErr := j.clear()
	if clearErr != nil && rec[10] != kindAppend { // if the record is valid, the next lock holder will complete the operation
		return unknownOutcome(errors.Join(err, clearErr))
	}
	return errors.Join(err, clearErr)
}

// noRecord replaces the first byte of a record to invalidate it. Writing one byte is atomic.
var noRecord = []byte{0}

// clear invalidates the record. Call it when the record's operation was completed or undone.
func (j *journal) clear() error {
	if j.file == nil {
		return nil
	}
	var err error
	if j.size > maxKeptJournal {
		err = j.file.Truncate(0)
		if err == nil {
			j.size = 0
		}
	} else {
		_, err = j.file.WriteAt(noRecord, 0)
	}
	if err != nil {
		j.needsReplay = true
		return err
	}
	if j.sync {
		return j.refuseWrites(j.file.Sync())
	}
	return nil
}

// truncate removes all bytes from the file, because they may belong to dropped values.
func (j *journal) truncate() error {
	if j.file == nil || j.size == 0 {
		return nil
	}
	err := j.file.Truncate(0)
	if err != nil {
		return err
	}
	j.size = 0
	return nil
}
