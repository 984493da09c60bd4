package partd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/go-partd/partd/internal/names"
)

// Delete removes the files of keys, all or none, also when the process is
// killed. Its error wraps [ErrUnknownOutcome] where some were removed and the
// next operation will remove the others, or fail.
func (f *File) Delete(ctx context.Context, keys ...string) error {
	if err := CheckKeys("delete", keys); err != nil {
		return err
	}
	if err := f.begin(ctx, true); err != nil {
		return f.fail("delete", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return f.fail("delete", err)
	}
	if err := f.deleteKeys(ctx, keys); err != nil {
		return f.fail("delete", err)
	}
	return nil
}

// Pop is Get and Delete under one lock.
func (f *File) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	if err := f.begin(ctx, true); err != nil {
		return nil, f.fail("pop", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return nil, f.fail("pop", err)
	}
	values := make([][]byte, len(keys))
	first := make(map[string]int, len(keys))
	for i, key := range keys {
		if err := checkNow(ctx, i); err != nil {
			return nil, f.fail("pop", err)
		}
		if j, ok := first[key]; ok { // each value is the caller's own
			values[i] = slices.Clone(values[j])
			continue
		}
		first[key] = i
		value, err := f.readLocked(key)
		if err != nil {
			return nil, f.failKey("pop", key, err)
		}
		values[i] = value
	}
	if err := f.deleteKeys(ctx, keys); err != nil {
		return nil, f.fail("pop", err)
	}
	return values, nil
}

func (f *File) deleteKeys(ctx context.Context, keys []string) error {
	list := new(nameList)
	for i, key := range keys {
		if err := checkNow(ctx, i); err != nil {
			return err
		}
		if err := f.forgetKey(key); err != nil {
			return err
		}
		list.add(f.scheme.Name(key))
	}
	return f.remove(ctx, kindDelete, list)
}

// Drop removes every key: every file that the store itself can have written,
// and those of Python with names that it would give, too. Other files,
// subdirectories and ".lock" stay. It is all or nothing, also when the process
// is killed, and holds the names of all keys in memory meanwhile.
//
// Its error wraps [ErrUnknownOutcome] where some were removed and the next
// operation will remove the others, or fail.
func (f *File) Drop(ctx context.Context) error {
	if err := f.begin(ctx, true); err != nil {
		return f.fail("drop", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return f.fail("drop", err)
	}
	if err := f.drop(ctx); err != nil {
		return f.fail("drop", err)
	}
	return nil
}

func (f *File) drop(ctx context.Context) error {
	if err := f.closeKept(); err != nil {
		return err
	}
	list, err := f.listFiles()
	if err != nil {
		return err
	}
	if err := f.remove(ctx, kindDrop, list); err != nil {
		return err
	}
	f.dirty.paths, f.dirty.all = nil, false
	if err := f.removeOrphans(); err != nil { // no key is seen by now
		f.log.Warn("partd: removing what long keys left", "dir", f.dir, "err", err)
	}
	if f.journal.file != nil && f.journal.size > 0 { // it may hold bytes that were dropped
		if err := f.journal.file.Truncate(0); err != nil {
			f.log.Warn("partd: emptying the journal", "dir", f.dir, "err", err)
		} else {
			f.journal.size = 0
		}
	}
	return nil
}

// removeOrphans removes files that hold a long key which has no value.
func (f *File) removeOrphans() error {
	var left []string
	err := f.eachName(func(name string, kind names.Kind) error {
		if kind == names.Own && name != names.Lock && name != names.Journal && name != names.Sessions {
			left = append(left, name)
		}
		return nil
	})
	for _, name := range left {
		err = errors.Join(err, f.fs.Remove(f.path(name)))
	}
	return err
}

// remove removes files, all or none.
func (f *File) remove(ctx context.Context, kind byte, list *nameList) error {
	rec := newRecord(nil)
	there := new(nameList)
	seen := make(map[string]struct{})
	for i := range list.len() {
		if err := checkNow(ctx, i); err != nil {
			return err
		}
		name := list.name(i)
		if kind == kindDelete { // a key may be given twice
			if _, ok := seen[name]; ok {
				continue
			}
			seen[name] = struct{}{}
		}
		info, err := f.fs.Info(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !info.Mode.IsRegular() {
			err = fmt.Errorf("%s: %w", f.path(name), errNotRegular)
		}
		if err != nil {
			return err
		}
		there.add(name)
		rec = appendName(rec, name)
		rec = binary.LittleEndian.AppendUint64(rec, info.Ino)
		rec = binary.LittleEndian.AppendUint64(rec, uint64(info.Size))
		rec = binary.LittleEndian.AppendUint64(rec, uint64(info.MTime))
	}
	if there.len() == 0 {
		return f.commitNothing(ctx)
	}
	noted := (!alone(there) || f.tag != nil) && !f.hooks.noUndo
	if noted {
		if err := f.writeRecord(f.seal(rec, kind, there.len())); err != nil {
			return fmt.Errorf("noting it in %s: %w", names.Journal, err)
		}
	}
	return f.removeAll(there, noted)
}

// alone tells whether a single file is to be removed, which is all or nothing by
// itself.
func alone(list *nameList) bool {
	if list.len() != 1 {
		return false
	}
	_, isLong := names.KeyFile(list.name(0))
	return !isLong
}

func (f *File) removeAll(list *nameList, noted bool) error {
	for i := range list.len() {
		err := f.removeKeyFile(list.name(i))
		if err == nil {
			if f.hooks.afterWrite != nil {
				f.hooks.afterWrite()
			}
			continue
		}
		if _, statErr := f.fs.Info(f.path(list.name(i))); i == 0 && statErr == nil {
			if f.clearRecord() == nil { // nothing was removed, and nothing will be
				return err
			}
		}
		f.replay = true
		return unknown(err)
	}
	if f.sync {
		if err := f.fs.SyncDir(f.dir); err != nil {
			f.refuse(err)
			return unknown(err)
		}
	}
	if intact, err := f.lockIntact(); err != nil || !intact {
		if err == nil {
			err = errLockLost
		}
		f.replay = true
		return unknown(errors.Join(err, f.dropLock()))
	}
	if err := f.commitTag(); err != nil {
		f.replay = true
		return unknown(err)
	}
	if noted {
		if err := f.clearRecord(); err != nil {
			return unknown(err)
		}
	}
	return nil
}
