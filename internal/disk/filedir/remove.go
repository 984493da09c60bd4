package filedir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/go-partd/partd/internal/disk/names"
)

// Delete removes all keys or none, even if the process is killed.
func (d Tx) Delete(ctx context.Context, keys []string) error {
	list := new(nameList)
	for i, key := range keys {
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		if err := d.cache.forget(key); err != nil {
			return err
		}
		name, err := d.tree.nameOf(key)
		if err != nil {
			return d.KeyError(key, err)
		}
		list.add(name)
	}
	return d.remove(ctx, kindDelete, list)
}

// Pop returns the values of keys and removes the keys.
func (d Tx) Pop(ctx context.Context, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	firstIndex := make(map[string]int, len(keys))
	for i, key := range keys {
		if err := checkContext(ctx, i); err != nil {
			return nil, err
		}
		if j, ok := firstIndex[key]; ok { // the values of a repeated key must not share memory
			values[i] = slices.Clone(values[j])
			continue
		}
		firstIndex[key] = i
		value, err := d.tree.readValue(key)
		if err != nil {
			return nil, d.KeyError(key, err)
		}
		values[i] = value
	}
	if err := d.Delete(ctx, keys); err != nil {
		return nil, err
	}
	return values, nil
}

// Drop removes every key. If it fails, it removes none.
func (d Tx) Drop(ctx context.Context) error {
	if err := d.cache.closeAll(); err != nil {
		return err
	}
	list, err := d.tree.listFiles(false, nil)
	if err != nil {
		return err
	}
	if err := d.remove(ctx, kindDrop, list); err != nil {
		return err
	}
	d.tree.removeDirs("")
	d.cache.dirty.clear()
	// Only log errors: readers no longer see the keys, so the drop has succeeded.
	d.warn("removing files of long keys", d.tree.removeOrphans())
	d.warn("emptying the journal", d.journal.truncate())
	return nil
}

func (d Tx) remove(ctx context.Context, kind byte, list *nameList) error {
	rec := newRecord(nil)
	present := new(nameList)
	seen := make(map[string]struct{})
	for i := range list.len() {
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		name := list.name(i)
		if kind == kindDelete { // keys may repeat
			if _, ok := seen[name]; ok {
				continue
			}
			seen[name] = struct{}{}
		}
		info, err := d.fs.Info(d.path(name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode.IsDir() && d.tree.isEmptyTupleDir(name) {
			continue
		}
		if err == nil && !info.Mode.IsRegular() {
			err = fmt.Errorf("%s: %w", d.path(name), errNotRegular)
		}
		if err != nil {
			return err
		}
		present.add(name)
		rec = appendFile(rec, name, info)
	}
	if present.len() == 0 {
		return d.commitNothing(ctx)
	}
	useRecord := present.len() > 1 || d.sessions.tag != nil
	if !useRecord { // removing one file is atomic, but a long key has two files
		_, useRecord = names.KeyFile(present.name(0))
	}
	if useRecord {
		if err := d.journal.write(d.journal.seal(rec, kind, present.len(), d.sessions.tag)); err != nil {
			return err
		}
	}
	return d.removeAll(present, useRecord)
}

func (d Tx) removeAll(list *nameList, hasRecord bool) error {
	for i := range list.len() {
		err := d.tree.removeValue(list.name(i))
		if err == nil {
			if d.Hooks.AfterWrite != nil {
				d.Hooks.AfterWrite()
			}
			continue
		}
		if _, statErr := d.fs.Info(d.path(list.name(i))); i == 0 && statErr == nil && d.journal.clear() == nil {
			return err // no file was removed, and none will be
		}
		d.journal.needsReplay = true
		return unknownOutcome(err)
	}
	if d.sync {
		if err := d.refuseWrites(d.tree.syncNames()); err != nil {
			return unknownOutcome(err)
		}
	}
	if intact, err := d.lock.intact(); err != nil || !intact {
		d.journal.needsReplay = true
		return unknownOutcome(errors.Join(cmp.Or(err, errLockLost), d.lock.release()))
	}
	return d.commit(hasRecord)
}
