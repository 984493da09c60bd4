package tables

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// core is what all parts of a Store share. Only Open changes it.
type core struct {
	dir     string // the directory's absolute path, or the bucket's URL without its query
	local   string // directory on this machine for locks, the tail, and a catalog that is not in PostgreSQL
	opts    Options
	hooks   hooks
	cat     *icecat.Catalog
	tail    *tail.Store // nil if there is no tail
	commits *commit.Tables
	closers closers

	dirsOnce    sync.Once
	dirsPattern *regexp.Regexp // set by withoutDir
}

// hooks change a store's behavior in tests.
type hooks struct {
	FS         vfs.FS
	OnCommit   func(done bool) // called before (done is false) and after each transaction of the catalog
	OnPrepared func()          // called after a put has written its files
	RetryFor   time.Duration   // how long to retry requests to an object store; 0 means one minute
	FileBytes  int             // target size of data files; 0 means definition.FileBytes
}

type closers []func() error

func (c closers) closeAll() (err error) {
	for _, f := range slices.Backward(c) {
		err = errors.Join(err, f())
	}
	return err
}

// checkOpen returns an error if the store is closed.
func (s *core) checkOpen() error {
	unpin, err := s.commits.Pin()
	if err == nil {
		unpin()
	}
	return err
}

// entry is a table's entry in memory, for changing the table.
type entry struct {
	*commit.Entry
	s *core
}

// acquire returns a table's entry. Files of the table are not removed before the caller calls release.
func (s *core) acquire(ctx context.Context, n tableName) (e entry, release func(), err error) {
	e.s = s
	e.Entry, release, err = s.commits.AcquirePinned(ctx, n)
	return e, release, err
}
