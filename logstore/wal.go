package logstore

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// wal is the write-ahead files of a store. Whoever writes records, or begins or
// removes a file, holds Store.mu.
type wal struct {
	*directory
	format  *segment.Format
	step    int64 // by which files grow
	noEpoch bool  // tests take that protection out

	wasDurable bool  // when the store was opened: see manifest.durable
	maxRecord  int64 // bytes of a record that may be read

	files     [3]vfs.File
	lastEpoch uint64 // the highest that was found
	endBefore int64  // where the records end of the file before the newest that was found
	found     Recovery

	// synced is the last record that survives a loss of power.
	synced atomic.Uint64
	// mu guards syncing. It is taken before Store.mu.
	mu      sync.Mutex
	cond    sync.Cond
	syncing bool // one of those who wait for it does the sync
}

// walFile is a write-ahead file in use.
type walFile struct {
	log   *wal
	f     vfs.File
	path  string
	epoch uint64
	end   int64 // of the last record
	size  int64 // of the file
}

// A write-ahead file grows by whole steps, ahead of its records, so that one
// that was cut off is known from one that ends.
const walStep = 1 << 20

// grow makes the file reach to an offset and beyond.
func (w *walFile) grow(end int64) error {
	step := w.log.step
	if end <= w.size && w.size%step == 0 {
		return nil
	}
	size := (max(end, w.size) + step - 1) / step * step
	if err := w.f.Truncate(size); err != nil {
		return err
	}
	w.size = size
	return nil
}

// begin makes a write-ahead file that is not in use the next one.
func (l *wal) begin(slot int, h walHeader) (*walFile, error) {
	path := walName(l.dir, slot)
	f := l.files[slot]
	if f == nil {
		var err error
		if f, err = l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
			return nil, err
		}
		l.files[slot] = f
	}
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	w := &walFile{log: l, f: f, path: path, epoch: h.epoch, end: walHeaderLen, size: info.Size}
	if err := w.grow(walHeaderLen); err != nil {
		return nil, err
	}
	head := h.encode(l.format)
	if _, err := f.WriteAt(head, 0); err != nil {
		// A header that is there after all would say that the file before ends
		// here.
		if undoErr := l.unwrite(f, head, 0); undoErr != nil {
			return nil, errors.Join(l.poison(err), undoErr)
		}
		return nil, err
	}
	if l.durable.Load() {
		err := l.syncAlone(func() error { return errors.Join(l.syncFile(f), l.syncDir()) })
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// unwrite makes sure that a header whose write failed is not there, and so what
// follows it means nothing. One that is not there when it is read back needs no
// zeros, for which a full disk may have no block either.
func (l *wal) unwrite(f vfs.File, head []byte, off int64) error {
	got := make([]byte, len(head))
	n, err := f.ReadAt(got, off)
	if (err == nil || isEOF(err)) && !bytes.Equal(got[:n], head) {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, len(head)), off); err != nil {
		return err
	}
	return l.syncIfDurable(f)
}

// syncIfDurable syncs a file of a store that is to survive a loss of power.
func (l *wal) syncIfDurable(f vfs.File) error {
	if !l.durable.Load() {
		return nil
	}
	return l.syncAlone(func() error { return l.syncFile(f) })
}

// write writes a batch as the next record.
func (w *walFile) write(b *batch, h recordHeader) error {
	h.epoch = w.epoch
	rec := h.put(b, w.log.format, w.end)
	if err := w.grow(w.end + int64(len(rec))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(rec, w.end); err != nil {
		// What was written of it must never be replayed.
		head := rec[:len(rec)-len(b.entries())]
		if undoErr := w.log.unwrite(w.f, head, w.end); undoErr != nil {
			return unclear{errors.Join(w.log.poison(err), undoErr)}
		}
		w.log.punch(w.f, w.end, w.size-w.end)
		return err
	}
	w.end += int64(len(rec))
	return nil
}

// size is what the files take.
func (l *wal) size() (n int64, err error) {
	for _, f := range l.files {
		if f != nil {
			info, e := f.Info()
			n, err = n+info.Size, errors.Join(err, e)
		}
	}
	return n, err
}

// close closes the files. Records stay in them.
func (l *wal) close() error {
	var errs []error
	for i, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close())
			l.files[i] = nil
		}
	}
	return errors.Join(errs...)
}

// remove closes and removes the files.
func (l *wal) remove() error {
	var errs []error
	for i, f := range l.files {
		if f != nil {
			errs = append(errs, f.Close(), l.fs.Remove(walName(l.dir, i)))
			l.files[i] = nil
		}
	}
	return errors.Join(errs...)
}
