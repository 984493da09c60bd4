package partd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/names"
)

const (
	// writeSize is how many bytes of small entries of one key are written at once.
	writeSize = 256 << 10
	// checkEvery is after how many files the context is looked at.
	checkEvery = 64
	// keepKey is the longest key whose file is kept open.
	keepKey = 1 << 10
	// keepEntries is the largest batch whose bookkeeping is kept.
	keepEntries = 1 << 16
)

// Append adds the values to the files of their keys. It is all or nothing, in
// every file, also when the process is killed.
//
// The error wraps [ErrUnknownOutcome] if a sync failed or if the lock was lost
// meanwhile, [ErrNeedsReopen] if writes are refused, [ErrTooLarge] for what is
// over a limit.
func (f *File) Append(ctx context.Context, entries ...Entry) error {
	total, err := CheckEntries("append", entries)
	if err != nil {
		return err
	}
	if total == 0 {
		if f.closed.Load() {
			return f.fail("append", ErrClosed)
		}
		return nil
	}
	if err := f.begin(ctx, true); err != nil {
		return f.fail("append", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return f.fail("append", err)
	}
	return f.append(ctx, entries)
}

// append is Append with the lock.
func (f *File) append(ctx context.Context, entries []Entry) error {
	b := &f.batch
	b.group(f, entries)
	defer b.release(f)
	for i, k := range b.touched {
		if err := checkNow(ctx, i); err != nil {
			return f.fail("append", err)
		}
		if k.file == nil || k.epoch != f.cache.epoch {
			if err := f.lookAt(k); err != nil {
				return f.failKey("append", k.key, err)
			}
		}
	}
	if !f.hooks.noUndo {
		f.describe(entries)
		if err := f.writeRecord(b.record); err != nil {
			return f.fail("append", fmt.Errorf("noting it in %s: %w", names.Journal, err))
		}
	}
	done := 0 // files that may have been changed
	for i, k := range b.touched {
		err := checkNow(ctx, i)
		done = i + 1
		if err == nil {
			err = f.writeKey(k, entries)
		}
		if err != nil {
			err = f.takeBack(done, err)
			if f.failed != nil { // a sync failed
				err = unknown(err)
			}
			return f.failKey("append", k.key, err)
		}
	}
	if f.sync {
		if err := f.syncBatch(); err != nil {
			// What the disk holds is unknown, and asking again would not tell.
			f.refuse(err)
			return f.fail("append", unknown(f.takeBack(done, err)))
		}
	}
	if intact, err := f.lockIntact(); err != nil {
		return f.fail("append", f.takeBack(done, err))
	} else if !intact {
		return f.fail("append", unknown(errors.Join(errLockLost, f.lostLock())))
	}
	if err := f.commitTag(); err != nil {
		err = f.takeBack(done, err)
		if f.failed != nil { // a sync failed
			err = unknown(err)
		}
		return f.fail("append", err)
	}
	if err := f.clearRecord(); err != nil {
		if f.failed != nil { // a sync failed
			return f.fail("append", unknown(err))
		}
		return f.fail("append", f.takeBack(done, err))
	}
	for _, k := range b.touched {
		k.size += k.add
		if !f.sync && !k.dirty {
			k.dirty = true
		}
	}
	return nil
}

// checkNow looks at the context every now and then.
func checkNow(ctx context.Context, i int) error {
	if i%checkEvery == 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// lostLock is called when another process may have the lock as well: nothing
// that is known of the files holds, and nothing more may be written.
func (f *File) lostLock() error {
	for _, k := range f.batch.touched {
		k.epoch = 0
	}
	return f.dropLock()
}

// writeKey writes what the batch adds to a key.
func (f *File) writeKey(k *keyFile, entries []Entry) error {
	if k.file == nil {
		if err := f.openForWrite(k); err != nil {
			return err
		}
	}
	b := &f.batch
	if !f.hooks.noUndo && k.inline >= 0 { // the record holds the bytes, one after the other
		if err := f.write(k, b.record[k.inline:k.inline+int(k.add)], k.size); err != nil {
			return err
		}
		return nil
	}
	return f.writeChain(k, entries)
}

// openForWrite opens or makes a key's file that was not open when the record
// was made.
func (f *File) openForWrite(k *keyFile) error {
	flags := 0
	if k.created && !k.made {
		flags = os.O_CREATE | os.O_EXCL
		if err := f.writeKeyFile(k.key, k.path[len(f.dir)+1:]); err != nil {
			return err
		}
	}
	if err := f.makeRoomInBatch(); err != nil {
		return err
	}
	size := k.size
	err := f.openKey(k, flags)
	if k.created && !errors.Is(err, fs.ErrExist) {
		k.made = true
	}
	if err == nil && k.size != size {
		err = fmt.Errorf("its length changed from %d to %d bytes while it was locked", size, k.size)
	}
	k.size = size
	return err
}

// makeRoomInBatch is makeRoom that closes a file of the batch under way if need
// be; it is opened again where it is needed.
func (f *File) makeRoomInBatch() error {
	room, err := f.makeRoom()
	if err != nil || room {
		return err
	}
	k := f.cache.ring[0]
	if f.sync { // a failure to write it back might be reported to this descriptor alone
		if err := k.file.Sync(); err != nil {
			f.refuse(err)
			return err
		}
	}
	return f.closeFile(k)
}

// writeChain writes the entries of a key, many small ones at once.
func (f *File) writeChain(k *keyFile, entries []Entry) error {
	b := &f.batch
	at := k.size
	buf := b.scratch[:0]
	for i := k.first; i >= 0; i = b.next[i] {
		value := entries[i].Value
		if len(buf)+len(value) > writeSize && len(buf) > 0 {
			if err := f.write(k, buf, at); err != nil {
				return err
			}
			at += int64(len(buf))
			buf = buf[:0]
		}
		if len(value) > writeSize || b.next[i] < 0 && len(buf) == 0 {
			if err := f.write(k, value, at); err != nil {
				return err
			}
			at += int64(len(value))
			continue
		}
		if b.scratch == nil {
			b.scratch = make([]byte, 0, writeSize)
			buf = b.scratch
		}
		buf = append(buf, value...)
	}
	if len(buf) == 0 {
		return nil
	}
	return f.write(k, buf, at)
}

func (f *File) write(k *keyFile, p []byte, at int64) error {
	_, err := k.file.WriteAt(p, at)
	if f.hooks.afterWrite != nil {
		f.hooks.afterWrite()
	}
	return err
}

// syncBatch makes the batch survive a loss of power.
func (f *File) syncBatch() error {
	created := false
	for _, k := range f.batch.touched {
		created = created || k.created
		if k.file == nil {
			// It was closed for others, after it was synced, unless that came
			// before it was written.
			if err := f.syncPath(k.path); err != nil {
				return err
			}
		} else if err := k.file.Sync(); err != nil {
			return err
		}
	}
	if created {
		return f.fs.SyncDir(f.dir)
	}
	return nil
}

// writeKeyFile writes the file that holds a long key, before that of its value
// is made.
func (f *File) writeKeyFile(key, name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	if _, err := f.fs.Info(f.path(keyName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.replaceFile(keyName, []byte(key))
}
