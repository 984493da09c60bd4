package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Write-ahead files are reused. Each use has a new epoch, which is in the file header and in
// every record, so that records of an earlier use are ignored.
const (
	walMagic        = "partdWAL"
	walHeaderLen    = 64
	recordHeaderLen = 40

	epochOffset, seqOffset, syncedOffset = 16, 24, 32

	tagLen = 24
)

type recordType uint8

const (
	recordBatch      recordType = iota // entries
	recordSession                      // a session was issued
	recordEndSession                   // a session was ended
	recordEndOfFile                    // the next record is in another file; crc is that file's slot
)

const recordTagged = 1 // flag: a tag follows the header

type recordHeader struct {
	length   uint32 // length of the entries
	crc      uint32 // checksum of the entries
	kind     recordType
	tagged   bool
	tag      partd.Tag
	epoch    uint64
	seq      uint64 // number of the record
	synced   uint64 // highest record known to be synced when this record was written
	totalLen int64  // length of the record, including its header and tag
}

const walFileNumber = 1<<32 - 1 // file number in the checksums of all write-ahead files

// put writes the header and the tag in front of the entries in buf and returns the whole record. buf
// has recordPrefix bytes of space for them. The record must be written at offset off, because its
// checksum depends on off.
func (h *recordHeader) put(buf []byte, f *segment.Format, off int64) []byte {
	start := recordPrefix - recordHeaderLen
	if h.tagged {
		start = 0
	}
	rec := buf[start:]
	le := binary.LittleEndian
	le.PutUint32(rec[4:], uint32(len(buf)-recordPrefix))
	le.PutUint32(rec[8:], h.crc)
	rec[12], rec[13], rec[14], rec[15] = byte(h.kind), 0, 0, 0
	end := recordHeaderLen
	if h.tagged {
		rec[13] = recordTagged
		tag := rec[recordHeaderLen:]
		le.PutUint64(tag, h.tag.Session)
		le.PutUint64(tag[8:], h.tag.Number)
		le.PutUint32(tag[16:], h.tag.CRC)
		le.PutUint32(tag[20:], 0)
		end += tagLen
	}
	le.PutUint64(rec[epochOffset:], h.epoch)
	le.PutUint64(rec[seqOffset:], h.seq)
	le.PutUint64(rec[syncedOffset:], h.synced)
	le.PutUint32(rec, f.SaltedCRC(walFileNumber, off, rec[4:end]))
	return rec
}

// errNoRecord means that there is no valid record, or file header, at a position.
var errNoRecord = errors.New("no record")

// parseRecordHeader decodes the header at the start of b, which is at offset off in the file. If
// the file is long enough, b must also contain the tag.
func parseRecordHeader(b []byte, f *segment.Format, off int64) (recordHeader, error) {
	var h recordHeader
	if len(b) < recordHeaderLen {
		return h, errNoRecord
	}
	le := binary.LittleEndian
	end := recordHeaderLen
	if b[13] == recordTagged {
		end += tagLen
	}
	if len(b) < end || le.Uint32(b) != f.SaltedCRC(walFileNumber, off, b[4:end]) {
		return h, errNoRecord
	}
	h = recordHeader{
		length: le.Uint32(b[4:]), crc: le.Uint32(b[8:]), kind: recordType(b[12]), tagged: b[13] == recordTagged,
		epoch: le.Uint64(b[epochOffset:]), seq: le.Uint64(b[seqOffset:]), synced: le.Uint64(b[syncedOffset:]),
	}
	if h.tagged {
		tag := b[recordHeaderLen:]
		h.tag = partd.Tag{Session: le.Uint64(tag), Number: le.Uint64(tag[8:]), CRC: le.Uint32(tag[16:])}
	}
	h.totalLen = int64(end) + int64(h.length)
	if h.kind > recordEndOfFile || b[13] > recordTagged || b[14] != 0 || b[15] != 0 {
		return h, errNoRecord
	}
	return h, nil
}

func walName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("wal-%d", i)) }

type walHeader struct {
	epoch    uint64
	firstSeq uint64 // number of the file's first record
}

func (h walHeader) encode(f *segment.Format) []byte {
	b := make([]byte, walHeaderLen)
	le := binary.LittleEndian
	copy(b, walMagic)
	le.PutUint32(b[8:], segment.FormatVersion)
	le.PutUint64(b[16:], f.ID)
	le.PutUint64(b[24:], h.epoch)
	le.PutUint64(b[32:], h.firstSeq)
	le.PutUint32(b[walHeaderLen-4:], f.SaltedCRC(walFileNumber, 0, b[:walHeaderLen-4]))
	return b
}

// errForeign means that a file is intact, but belongs to another store or has an unsupported version.
var errForeign = errors.New("it was not written by this store")

func parseWALHeader(b []byte, f *segment.Format) (h walHeader, err error) {
	le := binary.LittleEndian
	if len(b) < walHeaderLen || string(b[:8]) != walMagic {
		return h, errors.New("it does not begin like a write-ahead file")
	}
	crc := le.Uint32(b[walHeaderLen-4:])
	// If a crash left the header of a new file incomplete, the checksum in it is zero.
	if crc != 0 {
		if err := segment.CheckVersion(le.Uint32(b[8:]), segment.FormatVersion); err != nil {
			return h, fmt.Errorf("%w: %w", errForeign, err)
		}
		if le.Uint64(b[16:]) != f.ID {
			return h, fmt.Errorf("%w: it belongs to another store: restore the original file", errForeign)
		}
	}
	if crc != f.SaltedCRC(walFileNumber, 0, b[:walHeaderLen-4]) {
		return h, errors.New("its header fails its checksum")
	}
	return walHeader{le.Uint64(b[24:]), le.Uint64(b[32:])}, nil
}

// recordPrefix is the space in a buffer for the record's header and tag.
const recordPrefix = recordHeaderLen + tagLen
