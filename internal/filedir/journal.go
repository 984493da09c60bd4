package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// The file "%undo" holds one record: what the operation under way does, so that
// whoever takes the lock after a process died can undo an append, or finish a
// Delete or a Drop. Little-endian:
//
//	offset 0  8  magic "partdun1"; anything else: no operation is under way
//	       8  2  version: 1, or 2 with a tag
//	      10  1  kind: 1 append, to be undone; 2 delete, 3 drop and 4 set, to be finished
//	      11  1  flags: 1 the store was opened with Sync, and this record was synced before the data
//	             was written; 2 there is a tag
//	      12  4  number of spans
//	      16  8  number of the boot (hash of the system's boot id), 0 if unknown
//	      24  8  length of the spans and of the tag in bytes
//	      32  4  CRC-32C of bytes 0 to 31, of the spans and of the tag
//	      36  4  zero
//	      40     the spans, one for each file
//	      then   the tag, if there is one
//	      then   8 bytes for each span: 0, or how far its undoing is: 1 for done, or the
//	             inode of the file that is to replace it
//
// A span of an append:
//
//	2  length of the file's name, and the name
//	1  flags: 1 the file did not exist; 2 the bytes added follow; else their sums do
//	8  length of the file before
//	8  number of bytes added
//	   the bytes; or those of the first piece, and CRC-32C (4 bytes each) of
//	   all pieces, which lie between offsets of the file that are multiples of
//	   512: a write that a full disk cuts short ends at one
//
// A span of a delete or drop:
//
//	2  length of the file's name, and the name
//	8  its inode
//	8  its length
//	8  when it was written last, nanoseconds since 1970
//
// That of a set, which only one with a tag needs, is the same, of the file
// "%tmp" that is to get the name.
//
// The tag is of an operation that is applied once however often it is sent:
//
//	 8  number of a slot in the file "%sessions"
//	64  the slot before the operation
//	64  the slot after it
const (
	journalMagic   = "partdun1"
	journalVersion = 2
	headerLen      = 40
	pieceSize      = 512
	pageSize       = 4096    // the death of a process cuts a write short at a multiple of it
	inlineMax      = 4096    // spans up to this length hold their bytes
	inlineTotal    = 4 << 20 // unless all together are longer than this
	keepBuffer     = 8 << 20 // larger buffers are not kept
	keepJournal    = 1 << 20 // a longer journal is cut after use

	kindAppend = 1
	kindDelete = 2
	kindDrop   = 3
	kindSet    = 4

	flagSynced = 1
	flagTag    = 2

	spanCreated = 1
	spanInline  = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the file "%undo", kept open.
type journal struct {
	file     vfs.File
	links    uint64
	size     int64
	readOnly bool // it can only be read, which is enough while it holds no record
}

// openJournal opens the journal anew if it is not the one that is kept open. A
// journal that does not exist is no error without create.
func (d *Dir) openJournal(create bool) error {
	j := &d.journal
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
	path := d.path(names.Journal)
	j.readOnly = false
	file, err := d.openOwn(path, create)
	if !create && mayNotWrite(err) {
		j.readOnly = true
		file, err = d.open(path, os.O_RDONLY)
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

// mayNotWrite reports whether a file, or its file system, may only be read.
func mayNotWrite(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// halfDone reports whether the journal holds a record, so that something must be
// finished or undone.
func (d *Dir) halfDone() (bool, error) {
	d.replay = false
	if err := d.openJournal(false); err != nil || d.journal.file == nil || d.journal.size < headerLen {
		return false, err
	}
	var magic [len(journalMagic)]byte
	if _, err := d.journal.file.ReadAt(magic[:], 0); err != nil {
		return false, err
	}
	return string(magic[:]) == journalMagic, nil
}

// newRecord returns room for a record's header at the start of an empty buffer.
func newRecord(buf []byte) []byte {
	return append(buf[:0], make([]byte, headerLen)...)
}

// seal fills in the header of a record whose spans are complete, and adds the
// bytes that tell how far undoing is.
func (d *Dir) seal(rec []byte, kind byte, spans int) []byte {
	copy(rec, journalMagic)
	rec[8], rec[9], rec[10], rec[11] = 1, 0, kind, 0
	if d.sync {
		rec[11] |= flagSynced
	}
	if d.tag != nil { // a program that does not know of tags must not finish this
		rec[8] = journalVersion
		rec[11] |= flagTag
		rec = d.tag.append(rec)
	}
	binary.LittleEndian.PutUint32(rec[12:], uint32(spans))
	binary.LittleEndian.PutUint64(rec[16:], d.boot)
	binary.LittleEndian.PutUint64(rec[24:], uint64(len(rec)-headerLen))
	binary.LittleEndian.PutUint32(rec[32:], recordSum(rec))
	return append(rec, make([]byte, 8*spans)...)
}

func recordSum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[:32], castagnoli), castagnoli, rec[headerLen:])
}

// writeRecord makes a record valid. It is called with the lock, and before
// anything that the record is about is changed.
func (d *Dir) writeRecord(rec []byte) error {
	if d.Hooks.NoUndo {
		return nil
	}
	if err := d.tryRecord(rec); err != nil {
		return fmt.Errorf("noting it in %s: %w", names.Journal, err)
	}
	return nil
}

func (d *Dir) tryRecord(rec []byte) error {
	if d.journal.file == nil || d.journal.readOnly {
		if err := d.openJournal(true); err != nil {
			return err
		}
	}
	_, err := d.journal.file.WriteAt(rec, 0)
	d.journal.size = max(d.journal.size, int64(len(rec)))
	if err == nil && d.sync {
		err = d.refuse(d.journal.file.Sync())
	}
	if err == nil {
		return nil
	}
	clearErr := d.clearRecord()
	if clearErr != nil && rec[10] != kindAppend { // whoever takes the lock next may carry it out
		return unknown(errors.Join(err, clearErr))
	}
	return errors.Join(err, clearErr)
}

// noRecord takes the place of the magic's first byte: a single byte is written
// or it is not.
var noRecord = []byte{0}

// clearRecord makes the record invalid: the operation is complete, or undone.
func (d *Dir) clearRecord() error {
	if d.journal.file == nil {
		return nil
	}
	var err error
	if d.journal.size > keepJournal {
		if err = d.journal.file.Truncate(0); err == nil {
			d.journal.size = 0
		}
	} else {
		_, err = d.journal.file.WriteAt(noRecord, 0)
	}
	if err != nil {
		d.replay = true
		return err
	}
	if d.sync {
		return d.refuse(d.journal.file.Sync())
	}
	return nil
}
