package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// manifest is what the store is made of. Its file is replaced as a whole, so
// that each state of the store follows the one before in one step.
type manifest struct {
	id      uint64 // of the store, chosen at random when it was made
	seed    uint64 // of the hash of keys and of all checksums, chosen likewise
	durable bool   // some Sync was asked for: from then on the order of writes matters
	clean   bool   // closed in order: the write-ahead files hold nothing

	liveEpoch uint64 // write-ahead files of a lower epoch hold nothing that segments do not
	nextSeq   uint64 // the first record of the live epoch
	nextFile  uint32 // the highest number given to a data file

	ledger   Ledger // of all segments
	removed  Ledger // of what merges left out: with ledger, of all that ever was in segments
	files    []fileRef
	sessions sessionTable // as of record nextSeq-1
}

// fileRef names a data file. Of a segment file, end is where its last segment
// ends; of a blob file it has no meaning.
type fileRef struct {
	kind   segment.FileKind
	number uint32
	end    int64
}

const (
	manifestMagic   = "partdMAN"
	manifestName    = "MANIFEST"
	manifestTmpName = "MANIFEST.tmp"
	manifestVersion = 2 // from which on it has the ledger of what was removed
	lockName        = "LOCK"
	fileRefLen      = 1 + 4 + 8
	manifestFixed   = 8 + 4 + 4 + 8*4 + 4 + ledgerLen + 4
	maxManifest     = 1 << 30
)

func (m *manifest) encode() []byte {
	le := binary.LittleEndian
	b := []byte(manifestMagic)
	version := uint32(segment.FormatVersion)
	if m.removed != (Ledger{}) {
		version = manifestVersion
	}
	b = le.AppendUint32(b, version)
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
	b = le.AppendUint32(b, m.nextFile)
	b = m.ledger.append(b)
	if version == manifestVersion {
		b = m.removed.append(b)
	}
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
		return m, errors.New("it does not begin as the manifest of a logstore")
	}
	version := le.Uint32(b[8:])
	if version > manifestVersion {
		return m, segment.NewerFormat(version, manifestVersion)
	}
	fixed := manifestFixed
	if version == manifestVersion {
		fixed += ledgerLen
	}
	end := len(b) - 4
	if end < fixed || crc32.Checksum(b[:end], segment.Castagnoli) != le.Uint32(b[end:]) {
		return m, errors.New("its checksum does not match")
	}
	b = b[:end]
	flags := le.Uint32(b[12:])
	m.durable, m.clean = flags&1 != 0, flags&2 != 0
	m.id, m.seed = le.Uint64(b[16:]), le.Uint64(b[24:])
	m.liveEpoch, m.nextSeq = le.Uint64(b[32:]), le.Uint64(b[40:])
	m.nextFile = le.Uint32(b[48:])
	b = b[52:]
	m.ledger.parse(b)
	b = b[ledgerLen:]
	if version == manifestVersion {
		m.removed.parse(b)
		b = b[ledgerLen:]
	}
	n := le.Uint32(b)
	b = b[4:]
	if uint64(n)*fileRefLen > uint64(len(b)) {
		return m, fmt.Errorf("it says that it names %d files, but is too short", n)
	}
	for range n {
		f := fileRef{segment.FileKind(b[0]), le.Uint32(b[1:]), int64(le.Uint64(b[5:]))}
		if f.kind > segment.BlobFile || f.end < segment.HeaderLen || f.number == 0 || f.number > m.nextFile {
			return m, fmt.Errorf("it names an impossible file %d", f.number)
		}
		m.files = append(m.files, f)
		b = b[fileRefLen:]
	}
	var err error
	m.sessions, err = parseSessions(b)
	return m, err
}

// writeManifest replaces the manifest. It is called with manMu held. If it
// fails, the old one is unharmed, unless the error is unclear: then either may be
// in place.
func (s *Store) writeManifest(m manifest) error {
	err := s.replaceManifest(m, s.durable.Load())
	if errors.Is(err, errNotSynced) {
		err = s.poison(err)
	}
	return err
}

// errNotSynced says that a file that is not yet in place could not be synced.
var errNotSynced = errors.New("syncing failed")

// replaceManifest replaces the manifest, and makes it survive a loss of power if
// asked. manMu is held.
func (s *Store) replaceManifest(m manifest, sync bool) error {
	if err := s.checkLock(); err != nil {
		return s.poison(err)
	}
	m.durable = s.durable.Load()
	tmp := filepath.Join(s.dir, manifestTmpName)
	err := s.writeWhole(tmp, os.O_TRUNC, m.encode(), sync)
	if isNoSpace(err) && len(m.files) == 0 && s.useSpare() == nil {
		// The empty store is what may give room back. The spare file has blocks
		// already; where they are not written to in place, it gives up its own.
		if err = s.writeWhole(tmp, 0, m.encode(), sync); isNoSpace(err) {
			err = s.writeWhole(tmp, os.O_TRUNC, m.encode(), sync)
		}
	}
	if err != nil {
		// It takes room that others may need. Another opening removes it, too.
		_ = s.fs.Remove(tmp)
		return err
	}
	if err := s.fs.Rename(tmp, filepath.Join(s.dir, manifestName)); err != nil {
		return unclear{s.poison(err)}
	}
	s.man = m
	if sync {
		if err := s.syncAlone(s.syncDir); err != nil {
			return unclear{err}
		}
	}
	return nil
}

// writeWhole makes a file hold these bytes alone.
func (s *Store) writeWhole(path string, flag int, b []byte, sync bool) error {
	f, err := s.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && flag&os.O_TRUNC == 0 {
		err = f.Truncate(int64(len(b)))
	}
	if err == nil && sync {
		if err = s.syncFile(f); err != nil {
			err = fmt.Errorf("%w: %w", errNotSynced, err)
		}
	}
	return errors.Join(err, f.Close())
}

// readManifest reads the manifest; found is false where there is none.
func (s *Store) readManifest() (m manifest, found bool, err error) {
	path := filepath.Join(s.dir, manifestName)
	f, err := s.fs.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	b, err := readWhole(f, maxManifest)
	if err = errors.Join(err, f.Close()); err != nil {
		return m, false, err
	}
	if m, err = parseManifest(b); err != nil {
		return m, false, &partd.CorruptError{Path: path, Offset: -1, Err: err}
	}
	return m, true, nil
}

// vfsFile is what readWhole needs of a file.
type vfsFile interface {
	io.ReaderAt
	Name() string
}

// readWhole reads a file piece by piece, so that it never takes more memory
// than twice what the file holds.
func readWhole(f vfsFile, most int) ([]byte, error) {
	var b []byte
	for {
		b = slices.Grow(b, 4096)
		n, err := f.ReadAt(b[len(b):cap(b)], int64(len(b)))
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b) > most {
			return nil, fmt.Errorf("%s is larger than %d bytes: it should not be", f.Name(), most)
		}
	}
}
