package partd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Scan yields the keys that the store has when the iteration begins, in the
// order of the directory, each with the value that it has when its file is
// opened, 8 at a time under the lock; a key that is gone by then is left out.
// It holds the names in memory, packed, and a chunk of 256 KiB.
func (f *File) Scan(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		list, err := f.snapshot(ctx)
		if err != nil {
			yield(Chunk{}, f.fail("scan", err))
			return
		}
		s := scan{store: f, buf: make([]byte, writeSize), yield: yield}
		for at, bunch := 0, min(scanBunch, f.bunch()); at < list.len(); {
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

// scanBunch is how many files are opened under one lock. They stay open while the
// caller thinks, and there may be hundreds of callers.
const scanBunch = 8

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
