package filedir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/go-partd/partd/internal/names"
)

// Delete removes the files of keys, all or none, also when the process is killed.
func (d Tx) Delete(ctx context.Context, keys []string) error {
	list := new(nameList)
	for i, key := range keys {
		if err := checkNow(ctx, i); err != nil {
			return err
		}
		if err := d.forgetKey(key); err != nil {
			return err
		}
		name, err := d.nameOf(key)
		if err != nil {
			return d.KeyError(key, err)
		}
		list.add(name)
	}
	return d.remove(ctx, kindDelete, list)
}

// Pop is Get and Delete.
func (d Tx) Pop(ctx context.Context, keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	first := make(map[string]int, len(keys))
	for i, key := range keys {
		if err := checkNow(ctx, i); err != nil {
			return nil, err
		}
		if j, ok := first[key]; ok { // each value is the caller's own
			values[i] = slices.Clone(values[j])
			continue
		}
		first[key] = i
		value, err := d.readLocked(key)
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

// Drop removes every key, all or none.
func (d Tx) Drop(ctx context.Context) error {
	if err := d.closeKept(); err != nil {
		return err
	}
	list, err := d.listFiles(false, nil)
	if err != nil {
		return err
	}
	if err := d.remove(ctx, kindDrop, list); err != nil {
		return err
	}
	d.removeDirs("")
	d.dirty.paths, d.dirty.all = nil, false
	d.warn("removing what long keys left", d.removeOrphans()) // no key is seen by now
	if d.journal.file != nil && d.journal.size > 0 {          // it may hold bytes that were dropped
		err := d.journal.file.Truncate(0)
		if err == nil {
			d.journal.size = 0
		}
		d.warn("emptying the journal", err)
	}
	return nil
}

// removeOrphans removes files that hold a long key which has no value.
func (d *Dir) removeOrphans() error {
	var left []string
	err := d.eachName("", false, func(name string, kind names.Kind) error {
		if kind == names.Own && name != names.Lock && name != names.Journal && name != names.Sessions {
			left = append(left, name)
		}
		return nil
	})
	for _, name := range left {
		err = errors.Join(err, d.fs.Remove(d.path(name)))
	}
	return err
}

func (d Tx) remove(ctx context.Context, kind byte, list *nameList) error {
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
		info, err := d.fs.Info(d.path(name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode.IsDir() && d.leftEmpty(name) {
			continue
		}
		if err == nil && !info.Mode.IsRegular() {
			err = fmt.Errorf("%s: %w", d.path(name), errNotRegular)
		}
		if err != nil {
			return err
		}
		there.add(name)
		rec = appendFile(rec, name, info)
	}
	if there.len() == 0 {
		return d.commitNothing(ctx)
	}
	noted := there.len() > 1 || d.tag != nil
	if !noted { // that of a single file is all or nothing by itself
		_, noted = names.KeyFile(there.name(0))
	}
	if noted {
		if err := d.writeRecord(d.seal(rec, kind, there.len())); err != nil {
			return err
		}
	}
	return d.removeAll(there, noted)
}

func (d *Dir) removeAll(list *nameList, noted bool) error {
	for i := range list.len() {
		err := d.removeKeyFile(list.name(i))
		if err == nil {
			if d.Hooks.AfterWrite != nil {
				d.Hooks.AfterWrite()
			}
			continue
		}
		if _, statErr := d.fs.Info(d.path(list.name(i))); i == 0 && statErr == nil {
			if d.clearRecord() == nil { // nothing was removed, and nothing will be
				return err
			}
		}
		d.replay = true
		return unknown(err)
	}
	if d.sync {
		if err := d.refuse(d.syncNames()); err != nil {
			return unknown(err)
		}
	}
	if intact, err := d.lockIntact(); err != nil || !intact {
		d.replay = true
		return unknown(errors.Join(cmp.Or(err, errLockLost), d.dropLock()))
	}
	return d.commit(noted)
}
