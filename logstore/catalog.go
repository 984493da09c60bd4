package logstore

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// catalog maintains the manifest and the data files that it names.
type catalog struct {
	*directory
	format *segment.Format

	files *fileSet // replacing it requires Store.lifeMu and Store.mu

	// mu guards manifest and changes to files. Lock order: Store.mu, blobs.mu, mu.
	mu       sync.Mutex
	manifest manifest
}

func (c *catalog) edit(change func(m *manifest)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.manifest
	change(&m)
	return c.write(m)
}

// write replaces the manifest. mu must be held. After a maybeApplied error, either the old or the
// new manifest is in place; after any other error, the old manifest is in place.
func (c *catalog) write(m manifest) error {
	err := c.replace(m, c.durable.Load())
	if errors.Is(err, errNotSynced) {
		err = c.poison(err)
	}
	return err
}

// errNotSynced means that a file could not be synced, so it was not renamed into place.
var errNotSynced = errors.New("syncing failed")

// replace replaces the manifest. If sync is set, the new manifest survives a power loss.
// mu must be held.
func (c *catalog) replace(m manifest, sync bool) error {
	if err := c.checkLock(); err != nil {
		return c.poison(err)
	}
	m.durable = c.durable.Load()
	tmp := c.path(manifestTmpName)
	err := c.writeContent(tmp, os.O_TRUNC, m.encode(), sync)
	if isNoSpace(err) && len(m.files) == 0 && c.fs.Rename(c.path(spareName), tmp) == nil {
		// m is the manifest of an empty store: once m is in place, the data files can be removed.
		// Write m over the spare file, which already has enough blocks. If that fails, as it can on
		// a file system that does not overwrite blocks in place, free the blocks by truncating the
		// file, and write m again.
		err = c.writeContent(tmp, 0, m.encode(), sync)
		if isNoSpace(err) {
			err = c.writeContent(tmp, os.O_TRUNC, m.encode(), sync)
		}
	}
	if err != nil {
		_ = c.fs.Remove(tmp) // if it fails, the next Open removes the file
		return err
	}
	if err := c.fs.Rename(tmp, c.path(manifestName)); err != nil {
		return maybeApplied{c.poison(err)}
	}
	c.manifest = m
	if sync {
		if err := c.syncExclusive(c.syncDir); err != nil {
			return maybeApplied{err}
		}
	}
	return nil
}

// writeContent replaces a file's content with b. flag is O_TRUNC, or 0 to keep the file's blocks.
func (c *catalog) writeContent(path string, flag int, b []byte, sync bool) error {
	f, err := c.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && flag&os.O_TRUNC == 0 {
		err = f.Truncate(int64(len(b)))
	}
	if err == nil && sync {
		err = c.timed(f.Sync)
		if err != nil {
			err = fmt.Errorf("%w: %w", errNotSynced, err)
		}
	}
	return errors.Join(err, f.Close())
}

func (c *catalog) read() (m manifest, exists bool, err error) {
	path := c.path(manifestName)
	b, err := c.readAll(path, maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	m, err = parseManifest(b)
	if err != nil {
		return m, false, &partd.CorruptError{Path: path, Offset: -1, Err: err}
	}
	return m, true, nil
}

// ensureSpare creates the spare file unless it exists. A Drop on a full disk uses the file's space.
// ensureSpare only logs failures.
func (c *catalog) ensureSpare() {
	path := c.path(spareName)
	c.mu.Lock()
	need := int64(len(c.manifest.encode()) + spareExtra)
	c.mu.Unlock()
	if info, err := c.fs.Info(path); err == nil && info.Disk >= spareExtra && info.Size >= need {
		return
	}
	err := c.writeContent(path, 0, make([]byte, need), false)
	c.warn(err, "could not reserve the space that Drop needs when the disk is full", "path", path)
}

func (c *catalog) newFile(kind segment.FileKind, number uint32) *dataFile {
	return &dataFile{File: segment.File{Format: c.format, Kind: kind, Number: number, Path: dataName(c.dir, kind, number)}}
}

// createUnregistered creates a segment file that is not yet in the manifest.
func (c *catalog) createUnregistered() (*dataFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.create(segment.SegmentFile, &c.manifest.lastFileNumber)
}

// create creates a file with a header. mu must be held.
func (c *catalog) create(kind segment.FileKind, lastNumber *uint32) (*dataFile, error) {
	for {
		*lastNumber++
		f := c.newFile(kind, *lastNumber)
		f.end = segment.HeaderLen
		err := f.open(c.fs, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if errors.Is(err, os.ErrExist) {
			continue // the name is in use by a file of another store
		}
		if err != nil {
			return nil, err
		}
		if _, err := f.f.WriteAt(f.EncodeHeader(), 0); err != nil {
			return nil, errors.Join(err, f.f.Close(), c.fs.Remove(f.Path))
		}
		f.dirty.Store(true) // the next Sync must cover the header
		return f, nil
	}
}

func (c *catalog) add(kind segment.FileKind) (*dataFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.manifest
	f, err := c.create(kind, &m.lastFileNumber)
	if err != nil {
		return nil, err
	}
	if err := c.register(f, m); err != nil {
		err = errors.Join(err, f.f.Close())
		if c.checkPoisoned() == nil { // otherwise the manifest may already name the file
			err = errors.Join(err, c.fs.Remove(f.Path))
		}
		return nil, err
	}
	c.files.replace(nil, f)
	return f, nil
}

// register adds a file to m and replaces the manifest with m.
func (c *catalog) register(f *dataFile, m manifest) error {
	if c.durable.Load() {
		err := c.syncExclusive(func() error { return errors.Join(f.f.Sync(), c.syncDir()) })
		if err != nil {
			return err
		}
	}
	m.files = append(m.files[:len(m.files):len(m.files)], fileRef{kind: f.Kind, number: f.Number, end: segment.HeaderLen})
	return c.write(m)
}

func (c *catalog) open(ref fileRef, flag int) (*dataFile, error) {
	f := c.newFile(ref.kind, ref.number)
	f.end = ref.end
	if err := f.open(c.fs, flag); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = f.Corrupt(-1, fmt.Errorf("it is missing, but the manifest names it: %w", err))
		}
		return nil, err
	}
	size, err := f.check()
	if err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	f.dirty.Store(!c.readOnly && !c.manifest.clean) // a killed process may have left unsynced data
	if f.Kind == segment.BlobFile {
		f.end = size // after a crash, write-ahead records may refer to blobs anywhere in the file
	}
	return f, nil
}

// lockForReaders prevents other processes from truncating this store's files between Close and the
// end of its last reader. Store.mu must be held.
func (c *catalog) lockForReaders() {
	if c.files.refs.Load() == 1 {
		return // no readers
	}
	for _, f := range c.files.files() {
		if f.Kind != segment.SegmentFile {
			continue
		}
		l := c.fs.NewLock(f.Path)
		if locked, err := l.TryLock(false); err != nil || !locked {
			c.log.Warn("logstore: a file could not be locked for open readers", "path", f.Path, "err", err)
			continue
		}
		c.files.locks = append(c.files.locks, l)
	}
}

// commitSegments adds segments and their ledger to the manifest. edit makes additional changes to
// the manifest.
func (c *catalog) commitSegments(segments []*storedSegment, ledger segment.Ledger, edit func(m *manifest)) error {
	if c.durable.Load() {
		if err := c.syncExclusive(func() error { return c.syncData(c.files) }); err != nil {
			return err
		}
	}
	return c.edit(func(m *manifest) {
		m.files = slices.Clone(m.files)
		for _, seg := range segments {
			for i := range m.files {
				if m.files[i].number == seg.file.Number {
					m.files[i].end = seg.End
				}
			}
		}
		m.ledger.Add(ledger)
		edit(m)
	})
}

// shortenFiles truncates files that end with merged segments. It skips the file inUse.
func (c *catalog) shortenFiles(inUse *dataFile) {
	for _, f := range c.files.files() {
		if f.Kind != segment.SegmentFile || f == inUse {
			continue
		}
		if size, err := f.size(); err != nil || size > f.end {
			c.tryTruncate(f, f.end)
		}
	}
}
