package partd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/go-partd/partd/internal/names"
)

// nameList holds many names in little memory.
type nameList struct {
	bytes []byte
	ends  []int
}

func (l *nameList) len() int { return len(l.ends) }

func (l *nameList) add(name string) {
	l.bytes = append(l.bytes, name...)
	l.ends = append(l.ends, len(l.bytes))
}

func (l *nameList) name(i int) string {
	start := 0
	if i > 0 {
		start = l.ends[i-1]
	}
	return string(l.bytes[start:l.ends[i]])
}

// dirBunch is how many names are read from the directory at once, and how many
// files are looked at under one lock.
const dirBunch = 1024

// eachName calls visit with the name of each file in the directory, and what it
// is, foreign ones left out.
func (f *File) eachName(visit func(name string, kind names.Kind) error) (err error) {
	d, err := f.fs.ReadDir(f.dir)
	if tooManyOpen(err) && len(f.cache.ring) > 0 {
		if err := f.closeKept(); err != nil {
			return err
		}
		d, err = f.fs.ReadDir(f.dir)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for {
		entries, err := d.Next(dirBunch)
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			if _, kind := f.scheme.Parse(e.Name()); kind != names.Foreign {
				if err := visit(e.Name(), kind); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// listFiles returns the names of the files that hold values.
func (f *File) listFiles() (*nameList, error) {
	list := new(nameList)
	err := f.eachName(func(name string, kind names.Kind) error {
		if kind == names.Short || kind == names.Long {
			list.add(name)
		}
		return nil
	})
	return list, err
}

// snapshot returns the names of the files that hold values, with the lock of
// its own.
func (f *File) snapshot(ctx context.Context) (*nameList, error) {
	if err := f.begin(ctx, false); err != nil {
		return nil, err
	}
	defer f.end()
	list, err := f.listFiles()
	if err == nil {
		f.listed.Store(int64(cap(list.bytes) + 8*cap(list.ends)))
	}
	return list, err
}

// ReaderMemory returns what an open reader takes, and a listing if there are as
// many keys as at the last one.
func (f *File) ReaderMemory() (reader, listing int64) {
	return 4 << 10, f.listed.Load() + 2*writeSize
}

// keyOf returns the key of a file that holds a value.
func (f *File) keyOf(name string) (string, error) {
	key, kind := f.scheme.Parse(name)
	if kind == names.Short {
		return key, nil
	}
	keyName, _ := names.KeyFile(name)
	path := f.path(keyName)
	n, err := f.note(keyName)
	if err != nil {
		return "", err
	}
	if n.file == nil {
		return "", &CorruptError{Path: path, Offset: -1, Err: fmt.Errorf("%w: it holds the key whose value is in %s", fs.ErrNotExist, name)}
	}
	if n.size > MaxKeyLen {
		err = &CorruptError{Path: path, Offset: MaxKeyLen, Err: fmt.Errorf("it holds %d bytes, a key has %d at most", n.size, MaxKeyLen)}
		return "", errors.Join(err, n.close())
	}
	text, err := readNoted(n)
	if err := errors.Join(err, n.close()); err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != keyName[len(keyName)-2*len(sum):] {
		return "", &CorruptError{Path: path, Offset: -1, Err: errors.New("it does not hold the key that its name is the hash of")}
	}
	return string(text), nil
}

// Keys yields the keys that the store has when the iteration begins, in the
// order of the directory, with the sizes that they have when 1,024 of them are
// looked at under the lock (fewer where keys are very long); a key that is gone by then is left out. It holds the
// names in memory, packed.
func (f *File) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		list, err := f.snapshot(ctx)
		if err != nil {
			yield(KeyInfo{}, f.fail("keys", err))
			return
		}
		infos := make([]KeyInfo, 0, min(dirBunch, list.len()))
		for at := 0; at < list.len(); {
			infos, at, err = f.keyBunch(ctx, list, at, infos[:0])
			if err != nil {
				yield(KeyInfo{}, f.fail("keys", err))
				return
			}
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// keyBunch appends the keys of some files of a list, from one on, and returns the
// number of the next: of many, unless their keys are very long.
func (f *File) keyBunch(ctx context.Context, list *nameList, from int, infos []KeyInfo) ([]KeyInfo, int, error) {
	if err := f.begin(ctx, false); err != nil {
		return nil, from, err
	}
	defer f.end()
	const mostBytes = 1 << 20
	i, bytes := from, 0
	for ; i < list.len() && i < from+dirBunch && bytes < mostBytes; i++ {
		name := list.name(i)
		info, err := f.fs.Info(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, i, err
		}
		key, err := f.keyOf(name)
		if err != nil {
			return nil, i, err
		}
		bytes += len(key)
		infos = append(infos, KeyInfo{Key: key, Size: info.Size})
	}
	return infos, i, nil
}

// Stat counts keys and bytes. Disk is what all files of the store take on the
// disk, those that hold no values included.
func (f *File) Stat(ctx context.Context) (Stats, error) {
	var stats Stats
	if err := f.begin(ctx, false); err != nil {
		return stats, f.fail("stat", err)
	}
	defer f.end()
	i := 0
	err := f.eachName(func(name string, kind names.Kind) error {
		i++
		if err := checkNow(ctx, i); err != nil {
			return err
		}
		info, err := f.fs.Info(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stats.Disk += info.Disk
		if kind != names.Own {
			stats.Keys++
			stats.Bytes += info.Size
		}
		return nil
	})
	if err != nil {
		return Stats{}, f.fail("stat", err)
	}
	return stats, nil
}
