package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// dataName returns the name of a data file.
func dataName(dir string, kind segment.FileKind, number uint32) string {
	format := "seg-%08d"
	if kind == segment.BlobFile {
		format = "blob-%08d"
	}
	return filepath.Join(dir, fmt.Sprintf(format, number))
}

// dataFile is a file of segments or of blobs.
type dataFile struct {
	segment.File
	f     vfs.File
	end   int64       // where the next segment or blob goes; guarded by sealMu or blobMu
	dirty atomic.Bool // written to since the last sync
	kept  int64       // of a copy of large values: their bytes. Holes need not have given room back
}

func (f *dataFile) size() (int64, error) {
	info, err := f.f.Info()
	return info.Size, err
}

// open opens the file with the flags of [vfs.FS].
func (f *dataFile) open(fs vfs.FS, flag int) (err error) {
	if f.f, err = fs.OpenFile(f.Path, flag, 0o666); err == nil {
		f.ReaderAt = f.f
	}
	return err
}

func (s *Store) newDataFile(kind segment.FileKind, number uint32) *dataFile {
	return &dataFile{File: segment.File{Format: &s.format, Kind: kind, Number: number, Path: dataName(s.dir, kind, number)}}
}

// fileSet is the data files of a store from one Drop to the next. The files
// are closed when the store and all readers have let go of it.
type fileSet struct {
	refs  atomic.Int32
	list  atomic.Pointer[[]*dataFile] // replaced, never changed
	locks []vfs.Lock                  // see lockForReaders
}

func newFileSet() *fileSet {
	fs := &fileSet{}
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

func (fs *fileSet) file(number uint32, kind segment.FileKind) *dataFile {
	for _, f := range fs.files() {
		if f.Number == number && f.Kind == kind {
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
func (s *Store) addDataFile(kind segment.FileKind) (*dataFile, error) {
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
			err = errors.Join(err, s.fs.Remove(f.Path))
		}
		return nil, err
	}
	s.files.add(f)
	return f, nil
}

func (s *Store) startDataFile(f *dataFile, m manifest) error {
	if _, err := f.f.WriteAt(f.EncodeHeader(), 0); err != nil {
		return err
	}
	f.dirty.Store(true) // the first Sync may come before anything else is written to it
	if s.durable.Load() {
		err := s.syncAlone(func() error { return errors.Join(s.syncFile(f.f), s.syncDir()) })
		if err != nil {
			return err
		}
	}
	m.files = append(m.files[:len(m.files):len(m.files)], fileRef{kind: f.Kind, number: f.Number, end: segment.HeaderLen})
	return s.writeManifest(m)
}

// openFlag is how files that exist are opened.
func (s *Store) openFlag() int {
	if s.opts.ReadOnly || s.full() != nil {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

// openDataFile opens a file that the manifest names.
func (s *Store) openDataFile(ref fileRef) (*dataFile, error) {
	f := s.newDataFile(ref.kind, ref.number)
	f.end = ref.end
	if err := f.open(s.fs, s.openFlag()); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = f.Corrupt(-1, fmt.Errorf("it is missing, though the manifest names it: %w", err))
		}
		return nil, err
	}
	size, err := f.size()
	if err == nil {
		err = f.CheckHeader()
	}
	if err == nil && size < f.end {
		err = f.Corrupt(size, fmt.Errorf("the file ends, though the manifest says it has %d bytes", f.end))
	}
	if err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	// Of what a killed process wrote, nobody knows whether it is synced.
	f.dirty.Store(!s.opts.ReadOnly && !s.man.clean)
	if f.Kind == segment.BlobFile {
		f.end = size // what a crash left there may be referred to by the write-ahead files
	}
	return f, nil
}
