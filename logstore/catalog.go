package logstore

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// catalog is what the store is made of: the manifest, and the data files that it
// names.
type catalog struct {
	*directory
	format *segment.Format

	files *fileSet // replaced with Store.life and Store.mu held

	// mu guards man, and the numbers and the list of files. It is taken after
	// Store.mu and blobs.mu.
	mu  sync.Mutex
	man manifest
}

func (c *catalog) edit(change func(m *manifest)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.man
	change(&m)
	return c.write(m)
}

// write replaces the manifest. mu is held. If it
// fails, the old one is unharmed, unless the error is maybeApplied: then either may be
// in place.
func (c *catalog) write(m manifest) error {
	err := c.replace(m, c.durable.Load())
	if errors.Is(err, errNotSynced) {
		err = c.poison(err)
	}
	return err
}

// errNotSynced says that a file that is not yet in place could not be synced.
var errNotSynced = errors.New("syncing failed")

// replace replaces the manifest, and makes it survive a loss of power if asked.
// mu is held.
func (c *catalog) replace(m manifest, sync bool) error {
	if err := c.checkLock(); err != nil {
		return c.poison(err)
	}
	m.durable = c.durable.Load()
	tmp := c.path(manifestTmpName)
	err := c.writeWhole(tmp, os.O_TRUNC, m.encode(), sync)
	if isNoSpace(err) && len(m.files) == 0 && c.fs.Rename(c.path(spareName), tmp) == nil {
		// The empty store is what may give room back. The spare file has blocks
		// already; where they are not written to in place, it gives up its own.
		if err = c.writeWhole(tmp, 0, m.encode(), sync); isNoSpace(err) {
			err = c.writeWhole(tmp, os.O_TRUNC, m.encode(), sync)
		}
	}
	if err != nil {
		// It takes room that others may need. Another opening removes it, too.
		_ = c.fs.Remove(tmp)
		return err
	}
	if err := c.fs.Rename(tmp, c.path(manifestName)); err != nil {
		return maybeApplied{c.poison(err)}
	}
	c.man = m
	if sync {
		if err := c.syncAlone(c.syncDir); err != nil {
			return maybeApplied{err}
		}
	}
	return nil
}

// writeWhole makes a file hold these bytes alone.
func (c *catalog) writeWhole(path string, flag int, b []byte, sync bool) error {
	f, err := c.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && flag&os.O_TRUNC == 0 {
		err = f.Truncate(int64(len(b)))
	}
	if err == nil && sync {
		if err = c.syncFile(f); err != nil {
			err = fmt.Errorf("%w: %w", errNotSynced, err)
		}
	}
	return errors.Join(err, f.Close())
}

func (c *catalog) read() (m manifest, found bool, err error) {
	path := c.path(manifestName)
	b, err := c.readAll(path, maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	if m, err = parseManifest(b); err != nil {
		return m, false, &partd.CorruptError{Path: path, Offset: -1, Err: err}
	}
	return m, true, nil
}

// keepSpare makes the spare file, unless there is no room for that either.
func (c *catalog) keepSpare() {
	path := c.path(spareName)
	c.mu.Lock()
	need := int64(len(c.man.encode()) + spareMore)
	c.mu.Unlock()
	if info, err := c.fs.Info(path); err == nil && info.Disk >= spareMore && info.Size >= need {
		return
	}
	f, err := c.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err == nil {
		_, err = f.WriteAt(make([]byte, need), 0)
		err = errors.Join(err, f.Close())
	}
	c.warn(err, "no room could be set aside for a drop on a full disk", "path", path)
}

// newFile describes a data file, which is not opened.
func (c *catalog) newFile(kind segment.FileKind, number uint32) *dataFile {
	return &dataFile{File: segment.File{Format: c.format, Kind: kind, Number: number, Path: dataName(c.dir, kind, number)}}
}

// addUnnamed makes a file of segments that the manifest does not name yet.
func (c *catalog) addUnnamed() (*dataFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.create(segment.SegmentFile, &c.man.nextFile)
	if err != nil {
		return nil, err
	}
	if _, err := f.f.WriteAt(f.EncodeHeader(), 0); err != nil {
		return nil, errors.Join(err, f.f.Close(), c.fs.Remove(f.Path))
	}
	f.dirty.Store(true)
	return f, nil
}

// create makes a file of the next number that is free.
func (c *catalog) create(kind segment.FileKind, last *uint32) (*dataFile, error) {
	for {
		*last++
		f := c.newFile(kind, *last)
		f.end = segment.HeaderLen
		// A file that has the name already may be somebody else's.
		if err := f.open(c.fs, os.O_RDWR|os.O_CREATE|os.O_EXCL); err == nil {
			return f, nil
		} else if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
}

// add makes a file and enters it into the manifest.
func (c *catalog) add(kind segment.FileKind) (*dataFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.man
	f, err := c.create(kind, &m.nextFile)
	if err != nil {
		return nil, err
	}
	if err := c.name(f, m); err != nil {
		err = errors.Join(err, f.f.Close())
		if c.poisoned() == nil { // else the manifest may already name it
			err = errors.Join(err, c.fs.Remove(f.Path))
		}
		return nil, err
	}
	c.files.swap(nil, f)
	return f, nil
}

// name writes the header of a file and enters it into a manifest.
func (c *catalog) name(f *dataFile, m manifest) error {
	if _, err := f.f.WriteAt(f.EncodeHeader(), 0); err != nil {
		return err
	}
	f.dirty.Store(true) // the first Sync may come before anything else is written to it
	if c.durable.Load() {
		err := c.syncAlone(func() error { return errors.Join(c.syncFile(f.f), c.syncDir()) })
		if err != nil {
			return err
		}
	}
	m.files = append(m.files[:len(m.files):len(m.files)], fileRef{kind: f.Kind, number: f.Number, end: segment.HeaderLen})
	return c.write(m)
}

// open opens a file that the manifest names.
func (c *catalog) open(ref fileRef, flag int) (*dataFile, error) {
	f := c.newFile(ref.kind, ref.number)
	f.end = ref.end
	if err := f.open(c.fs, flag); err != nil {
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
		err = f.Corrupt(size, fmt.Errorf("the file ends early: the manifest says it has %d bytes", f.end))
	}
	if err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	// Of what a killed process wrote, nobody knows whether it is synced.
	f.dirty.Store(!c.readOnly && !c.man.clean)
	if f.Kind == segment.BlobFile {
		f.end = size // what a crash left there may be referred to by the write-ahead files
	}
	return f, nil
}
