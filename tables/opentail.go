package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/tables/internal/tail"
)

// openTail opens the tail, and finds what it holds.
func (s *Store) openTail(ctx context.Context) error {
	p := s.opts.Tail
	if p == nil {
		dir := cmp.Or(s.opts.TailDir, filepath.Join(s.local, "tail"))
		if err := s.hooks.fs.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
			return err
		}
		if err := s.lock(dir + ".lock"); err != nil {
			return err
		}
		o := logstore.Options{
			Memory: min(max(logstore.MinMemory, s.opts.Memory/4), logstore.MaxMemory),
			Logger: s.opts.Logger, // without Sync: appends share theirs once they have let go of their table
		}
		l, err := logstore.Open(dir, &o)
		if err != nil {
			return err
		}
		s.closes = append(s.closes, l.Close)
		p = l
	} else if _, ok := p.(partd.Deleter); !ok {
		return fmt.Errorf("the tail, a %T, cannot delete keys: %w", p, errors.ErrUnsupported)
	}
	var err error
	if s.tail, err = tail.Open(ctx, p, s.cat.ID(), s.opts.Sync, s.opts.Memory/4); err != nil {
		return err
	}
	if s.opts.Tail != nil {
		if err := s.lock(filepath.Join(s.local, "tail-"+s.tail.ID()+".lock")); err != nil {
			return err
		}
	}
	if s.hooks.sameID {
		s.tail.SetID("same")
	}
	return s.commits.Recover(ctx, s.tail)
}

// lock keeps other Stores away from the tail.
func (s *Store) lock(path string) error {
	l := s.hooks.fs.NewLock(path)
	got, err := l.TryLock(true)
	if err != nil {
		return err
	}
	if !got {
		return fmt.Errorf("the tail is %w by %s: close it there, read with Options.ReadOnly, or give this Store a tail of its own", ErrInUse, vfs.Holder(s.hooks.fs, path))
	}
	_ = vfs.NoteHolder(s.hooks.fs, path) // for messages only
	s.closes = append(s.closes, func() error {
		_ = vfs.ClearHolder(s.hooks.fs, path)
		return l.Unlock()
	})
	return nil
}
