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
	return f.listFiles()
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
// looked at under the lock; a key that is gone by then is left out. It holds the
// names in memory, packed.
func (f *File) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		list, err := f.snapshot(ctx)
		if err != nil {
			yield(KeyInfo{}, f.fail("keys", err))
			return
		}
		infos := make([]KeyInfo, 0, min(dirBunch, list.len()))
		for at := 0; at < list.len(); at += dirBunch {
			infos, err = f.keyBunch(ctx, list, at, min(at+dirBunch, list.len()), infos[:0])
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

func (f *File) keyBunch(ctx context.Context, list *nameList, from, to int, infos []KeyInfo) ([]KeyInfo, error) {
	if err := f.begin(ctx, false); err != nil {
		return nil, err
	}
	defer f.end()
	for i := from; i < to; i++ {
		name := list.name(i)
		info, err := f.fs.Info(f.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		key, err := f.keyOf(name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, KeyInfo{Key: key, Size: info.Size})
	}
	return infos, nil
}

// Stat counts keys and bytes. Disk is the length of all files of the store,
// those that hold no values included.
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
		stats.Disk += info.Size
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

// Scan yields the keys that the store has when the iteration begins, in the
// order of the directory, each with the value that it has when its file is
// opened, 64 at a time under the lock; a key that is gone by then is left out.
// It holds the names in memory, packed, and a chunk of 256 KiB.
func (f *File) Scan(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		list, err := f.snapshot(ctx)
		if err != nil {
			yield(Chunk{}, f.fail("scan", err))
			return
		}
		s := scan{store: f, buf: make([]byte, writeSize), yield: yield}
		for at, bunch := 0, f.bunch(); at < list.len(); {
			n, more, err := s.bunch(ctx, list, at, min(at+bunch, list.len()))
			if err != nil {
				yield(Chunk{}, f.fail("scan", err))
				return
			}
			if !more {
				return
			}
			at += n
		}
	}
}

// scan is one iteration.
type scan struct {
	store *File
	buf   []byte
	yield func(Chunk, error) bool
}

// bunch yields the values of some files, and tells of how many, and whether to
// go on.
func (s *scan) bunch(ctx context.Context, list *nameList, from, to int) (n int, more bool, err error) {
	files, keys, err := s.note(ctx, list, from, to)
	defer func() {
		for i := range files {
			err = errors.Join(err, files[i].close())
		}
	}()
	if err != nil {
		return 0, false, err
	}
	for i := range files {
		if files[i].file == nil {
			continue
		}
		more, err := s.value(ctx, keys[i], list.name(from+i), &files[i])
		if err != nil || !more {
			return 0, false, err
		}
		if err := files[i].close(); err != nil {
			return 0, false, err
		}
	}
	return len(files), true, nil
}

// note opens files under the lock, as many as descriptors allow.
func (s *scan) note(ctx context.Context, list *nameList, from, to int) (files []noted, keys []string, err error) {
	f := s.store
	if err := f.begin(ctx, false); err != nil {
		return nil, nil, err
	}
	defer f.end()
	for i := from; i < to; i++ {
		name := list.name(i)
		n, err := f.note(name)
		key := ""
		if err == nil && n.file != nil {
			if key, err = f.keyOf(name); err != nil {
				err = errors.Join(err, n.close())
			}
		}
		if tooManyOpen(err) && len(files) > 0 {
			return files, keys, nil
		}
		if err != nil {
			return files, keys, err
		}
		files, keys = append(files, n), append(keys, key)
	}
	return files, keys, nil
}

// value yields one value.
func (s *scan) value(ctx context.Context, key, name string, n *noted) (more bool, err error) {
	if n.size == 0 {
		return s.yield(Chunk{Key: key, Last: true}, nil), nil
	}
	for at := int64(0); at < n.size; {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		p := s.buf[:min(int64(len(s.buf)), n.size-at)]
		err := readFull(n.file, p, at)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if at > 0 {
				return false, fmt.Errorf("key %s: %w", QuoteKey(key), errCutWhileRead(at, n.size))
			}
			// A Python process replaced it in place; nothing was yielded yet.
			value, err := s.store.readAgain(ctx, key)
			if err != nil {
				return false, err
			}
			return s.yield(Chunk{Key: key, Data: value, Last: true}, nil), nil
		}
		if err != nil {
			return false, err
		}
		last := at+int64(len(p)) == n.size
		if !s.yield(Chunk{Key: key, Offset: at, Data: p, Last: last}, nil) {
			return false, nil
		}
		at += int64(len(p))
	}
	return true, nil
}
