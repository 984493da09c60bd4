package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/go-partd/partd/internal/engine/segment"
)

// manifest lists the store's files and records its state. Each change is atomic, because it
// replaces the whole manifest file.
type manifest struct {
	id      uint64 // random identifier of the store
	seed    uint64 // random seed of key hashes and checksums
	durable bool   // Sync was called at least once, so the store must survive a power loss
	clean   bool   // the store was closed cleanly, so the write-ahead files are not needed

	// Write-ahead files are reused. An epoch is the number of one use: see wal_record.go. All
	// records of epochs before liveEpoch are in segments.
	liveEpoch      uint64
	nextSeq        uint64 // number of the first record of liveEpoch
	lastFileNumber uint32 // highest data file number ever used

	ledger        segment.Ledger // sum of all segments' ledgers
	removedLedger segment.Ledger // ledger of the entries that merges have omitted since the last Drop
	files         []fileRef
	sessions      sessionTable // sessions after record nextSeq-1
}

// fileRef names a data file.
type fileRef struct {
	kind   segment.FileKind
	number uint32
	end    int64 // end of the last segment; unused in blob files
}

const (
	manifestMagic   = "partdMAN"
	manifestName    = "MANIFEST"
	manifestTmpName = "MANIFEST.tmp"
	blobTmpName     = "blob.tmp"
	manifestVersion = 2
	lockName        = "LOCK"
	fileRefLen      = 1 + 4 + 8
	manifestFixed   = 8 + 4 + 4 + 8*4 + 4 + 2*segment.LedgerLen + 4
	maxManifest     = 1 << 30
)

func (m *manifest) clearData(liveEpoch, nextSeq uint64, sessions sessionTable) {
	m.liveEpoch, m.nextSeq, m.sessions = liveEpoch, nextSeq, sessions.clone()
	m.files, m.ledger, m.removedLedger = nil, segment.Ledger{}, segment.Ledger{}
}

func (m *manifest) encode() []byte {
	le := binary.LittleEndian
	b := []byte(manifestMagic)
	b = le.AppendUint32(b, manifestVersion)
	var flags uint32
	if m.durable {
		flags |= 1
	}
	if m.clean {
		flags |= 2
	}
	b = le.AppendUint32(b, flags)
	for _, v := range []uint64{m.id, m.seed, m.liveEpoch, m.nextSeq} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, m.lastFileNumber)
	b = m.ledger.Append(b)
	b = m.removedLedger.Append(b)
	b = le.AppendUint32(b, uint32(len(m.files)))
	for _, f := range m.files {
		b = append(b, byte(f.kind))
		b = le.AppendUint32(b, f.number)
		b = le.AppendUint64(b, uint64(f.end))
	}
	b = m.sessions.append(b)
	return le.AppendUint32(b, crc32.Checksum(b, segment.Castagnoli))
}

func parseManifest(b []byte) (manifest, error) {
	var m manifest
	le := binary.LittleEndian
	if len(b) < 12 || string(b[:8]) != manifestMagic {
		return m, errors.New("it does not begin like the manifest of a log store")
	}
	if err := segment.CheckVersion(le.Uint32(b[8:]), manifestVersion); err != nil {
		return m, err
	}
	end := len(b) - 4
	if end < manifestFixed || crc32.Checksum(b[:end], segment.Castagnoli) != le.Uint32(b[end:]) {
		return m, errors.New("it fails its checksum")
	}
	b = b[:end]
	flags := le.Uint32(b[12:])
	m.durable, m.clean = flags&1 != 0, flags&2 != 0
	m.id, m.seed = le.Uint64(b[16:]), le.Uint64(b[24:])
	m.liveEpoch, m.nextSeq = le.Uint64(b[32:]), le.Uint64(b[40:])
	m.lastFileNumber = le.Uint32(b[48:])
	b = b[52:]
	m.ledger.Parse(b)
	m.removedLedger.Parse(b[segment.LedgerLen:])
	b = b[2*segment.LedgerLen:]
	n := le.Uint32(b)
	b = b[4:]
	if uint64(n)*fileRefLen > uint64(len(b)) {
		return m, fmt.Errorf("it is too short for its %d files", n)
	}
	for range n {
		f := fileRef{segment.FileKind(b[0]), le.Uint32(b[1:]), int64(le.Uint64(b[5:]))}
		if f.kind > segment.BlobFile || f.end < segment.HeaderLen || f.number == 0 || f.number > m.lastFileNumber {
			return m, fmt.Errorf("it names an invalid file %d", f.number)
		}
		m.files = append(m.files, f)
		b = b[fileRefLen:]
	}
	var err error
	m.sessions, err = parseSessions(b)
	return m, err
}

const (
	spareName  = "MANIFEST.spare"
	spareExtra = 16 << 10 // bytes reserved beyond the length of the manifest
)
