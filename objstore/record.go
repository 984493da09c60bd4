package objstore

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

const (
	storeName     = "STORE"  // the object that identifies a store in a bucket or below a prefix
	waitPrefix    = "wait/"  // begins the names of waiting records
	scratchPrefix = "sweep/" // begins the names of temporary objects
)

const (
	storeMagic  = "partdOBJ"
	recordMagic = "partdLOG"

	storeVersion  = 1
	recordVersion = 2

	storeLen      = 8 + 4 + 4 + 8 + 8 + 4
	recordHeadLen = 8 + 4 + 4 + 8 + 8 + 16 + 8 + 4 + 4
)

var (
	errOutOfRange = errors.New("read outside of the available data")
	le            = binary.LittleEndian
)

func encodeStore(f *segment.Format) []byte {
	b := append([]byte(storeMagic), storeVersion, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint64(b, f.ID)
	b = le.AppendUint64(b, f.Seed)
	return le.AppendUint32(b, crc32.Checksum(b, segment.Castagnoli))
}

func parseStore(b []byte) (*segment.Format, error) {
	if len(b) < 12 || string(b[:8]) != storeMagic {
		return nil, errors.New("the object STORE has a wrong header, so it does not belong to a store")
	}
	if err := segment.CheckVersion(le.Uint32(b[8:]), storeVersion); err != nil {
		return nil, err
	}
	if len(b) != storeLen || le.Uint32(b[storeLen-4:]) != crc32.Checksum(b[:storeLen-4], segment.Castagnoli) {
		return nil, errors.New("the object STORE has a wrong length or checksum")
	}
	return &segment.Format{ID: le.Uint64(b[16:]), Seed: le.Uint64(b[24:])}, nil
}

type writerID [16]byte

func logName(number uint64) string { return fmt.Sprintf("log/%020d", number) }

// segmentName returns the name of a segment's object. Varying digits follow "seg/", because S3
// partitions objects by name prefix, and limits the requests per prefix.
func segmentName(w writerID, n uint64) string {
	name := fmt.Sprintf("%x-%d", w, n)
	return fmt.Sprintf("seg/%02x/%s", byte(xxh3.HashString(name)), name)
}

// fileOf returns the description of a segment's file. Checksums in the file depend on the segment's
// object name, even if the segment is inside a record.
func fileOf(f *segment.Format, w writerID, n uint64) segment.File {
	name := segmentName(w, n)
	return segment.File{Format: f, Number: uint32(xxh3.HashString(name)), Path: name}
}

type operation uint8

const (
	opEntries operation = iota // adds the segments in record.parts
	opOnce                     // like opEntries, but only for keys that do not exist
	opDrop                     // discards all earlier entries
	opGroup                    // applies the waiting records that record.members names
)

// record is one writer's change to the store, or a group that names several waiting records. A
// waiting record is an object outside the log, because its writer did not get a log number.
type record struct {
	number  uint64 // number in the log; for a waiting record, the log's first free number when it began to wait
	op      operation
	writer  writerID
	seq     uint64 // position among the writer's records, from 1. A group has the seq of its writer's waiting record
	parts   []recordPart
	members []member
}

// recordPart is a segment whose data is in a separate object or inside the record.
type recordPart struct {
	segmentNumber uint64
	inline        bool
	size          int64  // size of the data
	bytes         []byte // the data or, for a separate object, its footer
	offset        int64  // offset of the field bytes in the record's object
}

const (
	partHeadLen = 8 + 8 + 4 + 4
	memberLen   = 8 + 8 + 16 + 8
	// maxMembers is the maximum number of records in a group, which is read with one request.
	maxMembers = 1600
)

// member identifies a record that waits to be added to the log.
type member struct {
	number uint64 // the log's first free number when the record was created
	size   int64
	writer writerID
	seq    uint64
}

// waitDir returns the prefix of the object names of waiting records with the given member.number.
func waitDir(number uint64) string { return fmt.Sprintf("%s%020d", waitPrefix, number) }

func (m *member) name() string { return fmt.Sprintf("%s/%x-%d", waitDir(m.number), m.writer, m.seq) }

// parseMember parses the name of a waiting record's object, which member.name returned.
func parseMember(o Object) (m member, ok bool) {
	number, suffix, _ := strings.Cut(strings.TrimPrefix(o.Name, waitPrefix), "/")
	writer, seq, _ := strings.Cut(suffix, "-")
	m.size = o.Size
	m.number, _ = strconv.ParseUint(number, 10, 64)
	m.seq, _ = strconv.ParseUint(seq, 10, 64)
	b, _ := hex.DecodeString(writer)
	copy(m.writer[:], b)
	return m, m.name() == o.Name
}

func setNumber(b []byte, number uint64) {
	le.PutUint64(b[24:], number)
	le.PutUint32(b[recordHeadLen-4:], crc32.Checksum(b[:recordHeadLen-4], segment.Castagnoli))
}

func (r *record) encode(f *segment.Format) []byte {
	b := append([]byte(recordMagic), recordVersion, 0, 0, 0, byte(r.op), 0, 0, 0)
	b = le.AppendUint64(b, f.ID)
	b = le.AppendUint64(b, r.number)
	b = append(b, r.writer[:]...)
	b = le.AppendUint64(b, r.seq)
	b = append(b, make([]byte, 8)...) // space for the checksums of the body and of the head
	for i := range r.parts {
		p := &r.parts[i]
		b = le.AppendUint64(b, p.segmentNumber)
		b = le.AppendUint64(b, uint64(p.size))
		b = le.AppendUint32(b, uint32(len(p.bytes)))
		var inline uint32
		if p.inline {
			inline = 1
		}
		b = le.AppendUint32(b, inline)
		b = append(b, p.bytes...)
	}
	for i := range r.members {
		m := &r.members[i]
		b = le.AppendUint64(b, m.number)
		b = le.AppendUint64(b, uint64(m.size))
		b = append(b, m.writer[:]...)
		b = le.AppendUint64(b, m.seq)
	}
	le.PutUint32(b[recordHeadLen-8:], crc32.Checksum(b[recordHeadLen:], segment.Castagnoli))
	setNumber(b, r.number)
	return b
}

func parseRecordHead(f *segment.Format, number uint64, b []byte) (*record, error) {
	if len(b) < recordHeadLen || string(b[:8]) != recordMagic {
		return nil, errors.New("the object is not a log record: its header is wrong")
	}
	if err := segment.CheckVersion(le.Uint32(b[8:]), recordVersion); err != nil {
		return nil, err
	}
	switch {
	case le.Uint32(b[recordHeadLen-4:]) != crc32.Checksum(b[:recordHeadLen-4], segment.Castagnoli):
		return nil, errors.New("the record's header does not match its checksum")
	case le.Uint64(b[16:]) != f.ID || le.Uint64(b[24:]) != number:
		return nil, errors.New("the record belongs to another store, or has another number")
	}
	r := &record{number: number, op: operation(b[12]), seq: le.Uint64(b[48:])}
	copy(r.writer[:], b[32:])
	return r, nil
}

// parseRecord decodes a record. The result refers to the memory of b.
func parseRecord(f *segment.Format, number uint64, b []byte) (*record, error) {
	r, err := parseRecordHead(f, number, b)
	if err != nil {
		return nil, err
	}
	if le.Uint32(b[recordHeadLen-8:]) != crc32.Checksum(b[recordHeadLen:], segment.Castagnoli) || r.op > opGroup {
		return nil, errors.New("the record fails its checksum")
	}
	size := len(b)
	b = b[recordHeadLen:]
	for ; r.op == opGroup && len(b) >= memberLen; b = b[memberLen:] {
		m := member{number: le.Uint64(b), size: int64(le.Uint64(b[8:])), seq: le.Uint64(b[32:])}
		copy(m.writer[:], b[16:])
		r.members = append(r.members, m)
	}
	for len(b) > 0 {
		if len(b) < partHeadLen {
			return nil, errors.New("a part of the record is truncated")
		}
		p := recordPart{segmentNumber: le.Uint64(b), size: int64(le.Uint64(b[8:])), inline: le.Uint32(b[20:]) == 1}
		n := int64(le.Uint32(b[16:]))
		b = b[partHeadLen:]
		if n > int64(len(b)) || n > p.size || p.inline && n != p.size {
			return nil, errors.New("a part of the record is truncated")
		}
		p.offset = int64(size - len(b))
		p.bytes, b = b[:n], b[n:]
		r.parts = append(r.parts, p)
	}
	return r, nil
}

func corrupt(path string, err error) error {
	return &partd.CorruptError{Path: path, Offset: -1, Err: err}
}
