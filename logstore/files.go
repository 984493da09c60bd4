package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// fileKind is what a data file holds.
type fileKind uint8

const (
	segmentKind fileKind = iota
	blobKind
)

func (k fileKind) name(dir string, number uint32) string {
	format := "seg-%08d"
	if k == blobKind {
		format = "blob-%08d"
	}
	return filepath.Join(dir, fmt.Sprintf(format, number))
}

const (
	dataMagic     = "partdDAT"
	dataHeaderLen = 32
)

// dataFile is a file of segments or of blobs.
type dataFile struct {
	kind   fileKind
	number uint32
	f      vfs.File
	path   string
	end    int64       // where the next segment or blob goes; guarded by sealMu or blobMu
	dirty  atomic.Bool // written to since the last sync
	noCRC  bool
	kept   int64 // of a copy of large values: their bytes. Holes need not have given room back
}

func encodeDataHeader(kind fileKind, number uint32, id, seed uint64) []byte {
	b := make([]byte, dataHeaderLen)
	le := binary.LittleEndian
	copy(b, dataMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], uint32(kind))
	le.PutUint64(b[16:], id)
	le.PutUint32(b[24:], number)
	le.PutUint32(b[28:], crc32.Update(salt(seed, number, 0), castagnoli, b[:28]))
	return b
}

func checkDataHeader(b []byte, kind fileKind, number uint32, id, seed uint64) error {
	if string(b[:8]) != dataMagic {
		return errors.New("it does not begin as a data file of a logstore")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > formatVersion {
		return newerFormat(v, formatVersion)
	}
	if string(b) != string(encodeDataHeader(kind, number, id, seed)) {
		return errors.New("its header is damaged or belongs to another file")
	}
	return nil
}

func (f *dataFile) corrupt(off int64, err error) error {
	return &partd.CorruptError{Path: f.path, Offset: off, Err: err}
}

func (f *dataFile) size() (int64, error) {
	info, err := f.f.Info()
	return info.Size, err
}

// readFull fills b from an offset at which the file must have as many bytes.
func (f *dataFile) readFull(b []byte, off int64) error {
	n, err := f.f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return f.corrupt(off+int64(n), fmt.Errorf("the file ends, %d bytes more should be there", len(b)-n))
	}
	return err
}

// fileSet is the data files of a store from one Drop to the next. The files
// are closed when the store and all readers have let go of it.
type fileSet struct {
	refs   atomic.Int32
	list   atomic.Pointer[[]*dataFile] // replaced, never changed
	decomp decompressor
	seed   uint64
	noCRC  bool
	locks  []vfs.Lock // see lockForReaders
}

func newFileSet(seed uint64, noCRC bool) *fileSet {
	fs := &fileSet{seed: seed, noCRC: noCRC}
	fs.refs.Store(1)
	fs.list.Store(new([]*dataFile))
	return fs
}

func (fs *fileSet) files() []*dataFile { return *fs.list.Load() }

// add is called by one goroutine at a time, with Store.manMu held.
func (fs *fileSet) add(f *dataFile) {
	old := fs.files()
	list := append(old[:len(old):len(old)], f)
	fs.list.Store(&list)
}

func (fs *fileSet) file(number uint32, kind fileKind) *dataFile {
	for _, f := range fs.files() {
		if f.number == number && f.kind == kind {
			return f
		}
	}
	return nil
}

func (fs *fileSet) release() error {
	if fs.refs.Add(-1) > 0 {
		return nil
	}
	var errs []error
	for _, f := range fs.files() {
		errs = append(errs, f.f.Close())
	}
	errs = append(errs, unlockAll(fs.locks))
	return errors.Join(errs...)
}

// addDataFile makes a file and enters it into the manifest.
func (s *Store) addDataFile(kind fileKind) (*dataFile, error) {
	s.manMu.Lock()
	defer s.manMu.Unlock()
	m := s.man
	f, err := s.createDataFile(kind, &m.nextFile)
	if err != nil {
		return nil, err
	}
	if err := s.startDataFile(f, m); err != nil {
		err = errors.Join(err, f.f.Close())
		if s.poisoned() == nil { // else the manifest may already name it
			err = errors.Join(err, s.fs.Remove(f.path))
		}
		return nil, err
	}
	s.files.add(f)
	return f, nil
}

func (s *Store) startDataFile(f *dataFile, m manifest) error {
	if _, err := f.f.WriteAt(encodeDataHeader(f.kind, f.number, m.id, m.seed), 0); err != nil {
		return err
	}
	f.dirty.Store(true) // the first Sync may come before anything else is written to it
	if s.durable.Load() {
		err := s.syncAlone(func() error { return errors.Join(s.syncFile(f.f), s.syncDir()) })
		if err != nil {
			return err
		}
	}
	m.files = append(m.files[:len(m.files):len(m.files)], fileRef{kind: f.kind, number: f.number, end: dataHeaderLen})
	return s.writeManifest(m)
}

// openDataFile opens a file that the manifest names.
func (s *Store) openDataFile(ref fileRef) (*dataFile, error) {
	f := &dataFile{kind: ref.kind, number: ref.number, path: ref.kind.name(s.dir, ref.number), end: ref.end, noCRC: s.hooks.noCRC}
	flag := os.O_RDWR
	if s.opts.ReadOnly || s.full() != nil {
		flag = os.O_RDONLY
	}
	var err error
	if f.f, err = s.fs.OpenFile(f.path, flag, 0); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = &partd.CorruptError{Path: f.path, Offset: -1, Err: fmt.Errorf("it is missing, though the manifest names it: %w", err)}
		}
		return nil, err
	}
	head := make([]byte, dataHeaderLen)
	size, err := f.size()
	if err == nil {
		err = f.readFull(head, 0)
	}
	if err == nil {
		if e := checkDataHeader(head, f.kind, f.number, s.id, s.seed); e != nil {
			err = f.corrupt(0, e)
		} else if size < f.end {
			err = f.corrupt(size, fmt.Errorf("the file ends, though the manifest says it has %d bytes", f.end))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	// Of what a killed process wrote, nobody knows whether it is synced.
	f.dirty.Store(!s.opts.ReadOnly && !s.man.clean)
	if f.kind == blobKind {
		f.end = size // what a crash left there may be referred to by the write-ahead files
	}
	return f, nil
}
