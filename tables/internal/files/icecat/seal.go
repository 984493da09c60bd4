package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
)

const (
	// A checkpoint starts after maxCommits commits, or after idleTime without a commit. Until then, damage to the
	// write-ahead log affects all commits in it.
	maxCommits = 100
	idleTime   = time.Second

	// DroppedCommit names the moment when Open dropped an incomplete commit from the write-ahead log.
	DroppedCommit = "dropped commit"

	// sqliteDriver keeps the write-ahead log when it closes the database. So if the log is missing, another program has
	// closed the database.
	sqliteDriver = "partd-catalog"
)

func init() {
	d := new(sqlite.Driver)
	d.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, _ string) error {
		_, err := c.(sqlite.FileControl).FileControlPersistWAL("main", 1)
		return err
	})
	sql.Register(sqliteDriver, d)
}

// sealer detects damage to SQLite's files.
type sealer struct {
	files        *sqliteFiles // nil for PostgreSQL
	dir          string
	log          *slog.Logger
	isRebuilding bool        // whether salvage has been called
	isExact      bool        // whether salvage has found or repaired all pages
	timer        *time.Timer // calls checkpoint; nil if the catalog is read-only

	checkpoints sync.Mutex // held during a checkpoint

	mu      sync.Mutex
	commits int   // number of commits since the last checkpoint
	damage  error // damage found so far; nil if none
}

// openFiles checks the files before SQLite opens them. If they are damaged and Options.Rebuild is set, it renames them.
func (s *sealer) openFiles(o Options) (insp inspection, err error) {
	path := filepath.Join(cmp.Or(o.CopyDir, s.dir), "catalog.db")
	err = os.MkdirAll(s.dir, 0o777) // with package os, because SQLite always uses the real file system
	if err == nil {
		s.files, err = openSQLiteFiles(path)
	}
	if err != nil {
		return insp, err
	}
	insp, err = s.check(o.CopyAgain)
	isInterrupted := isFile(filepath.Join(s.dir, imageFile))
	switch {
	case !o.Rebuild && isInterrupted && err == nil:
		err = s.note(s.files.damaged("", errors.New("a rebuild was interrupted")))
		fallthrough
	case !o.Rebuild:
		return insp, err
	case !isInterrupted && err == nil && !insp.isEmpty():
		s.log.Warn("the catalog is intact, so it was not rebuilt", "dir", s.dir)
		return insp, nil
	}
	s.damage, s.isRebuilding = nil, true
	err = s.files.close()
	if err == nil {
		s.isExact, err = s.files.salvage()
	}
	if err == nil {
		s.files, err = openSQLiteFiles(path)
	}
	if err == nil {
		insp, err = s.check(nil)
	}
	return insp, err
}

// check inspects all files. Files that another process is writing can look damaged, so check tries again, after calling
// copyAgain if that is not nil.
func (s *sealer) check(copyAgain func() error) (insp inspection, err error) {
	for range 5 {
		insp, err = s.files.inspect(true)
		if !errors.Is(err, ErrContent) && (copyAgain == nil || !insp.isTorn) {
			break
		}
		time.Sleep(50 * time.Millisecond)
		if copyAgain != nil {
			if err := copyAgain(); err != nil {
				return insp, err
			}
		}
	}
	return insp, s.note(err)
}

// CheckFiles reads all files of an SQLite database. If they are damaged, all later changes fail.
func (s *sealer) CheckFiles() (err error) {
	if s.files != nil {
		_, err = s.check(nil)
	}
	return err
}

// Damage returns the damage that has been found in SQLite's files, or nil.
func (s *sealer) Damage() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damage
}

// note returns err. If err means that the files are damaged, note remembers it.
func (s *sealer) note(err error) error {
	if d, ok := errors.AsType[*Damaged](err); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.File = filepath.Join(s.dir, filepath.Base(d.File)) // the original, not a reader's copy
		s.damage = d
		if s.timer != nil { // before the timer exists, Open returns the error
			s.log.Error("the catalog is damaged: all changes fail, and no files are removed", "err", d)
		}
	}
	return err
}

// startSealing schedules checkpoints after commits. insp is the result of openFiles.
func (d *database) startSealing(ctx context.Context, insp inspection) error {
	if insp.isTorn {
		d.log.Warn("the last commit in the catalog's write-ahead log was incomplete, and was dropped", "dir", d.sealer.dir)
	}
	if d.files == nil || d.readOnly {
		return nil
	}
	d.timer = time.AfterFunc(idleTime, func() {
		if err := d.checkpoint(); err != nil {
			d.log.Warn("the catalog's write-ahead log stays long: a checkpoint failed, and the next commit tries again", "err", err)
		}
	})
	if !insp.isCurrent() {
		d.committed()
	}
	if insp.isTorn {
		return d.SetMoment(ctx, DroppedCommit, time.Now())
	}
	return nil
}

// committed must be called after a commit.
func (s *sealer) committed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	switch {
	case s.timer == nil:
	case s.commits < maxCommits:
		s.timer.Reset(idleTime)
	default:
		s.timer.Reset(0)
	}
}

// checkpoint moves SQLite's write-ahead log into catalog.db, as far as readers permit without waiting.
func (d *database) checkpoint() error {
	d.checkpoints.Lock()
	defer d.checkpoints.Unlock()
	d.mu.Lock()
	commits := d.commits
	d.commits = 0
	d.mu.Unlock()
	if commits == 0 {
		return nil
	}
	ctx := context.Background()
	err := d.transact(ctx, func(t *transaction) { // the transaction keeps others from committing
		t.err = d.note(d.files.checkpointAndRecord(func() error {
			_, err := d.readPool.ExecContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`)
			return err
		}))
	})
	if err == nil { // start the log again with a commit that may be lost: SQLite drops a damaged last commit
		err = d.transact(ctx, func(t *transaction) { t.putInfo("checkpoint", time.Now().String()) })
	}
	if err == nil {
		err = d.files.recordSalts()
	}
	return err
}

// closeDatabase runs a last checkpoint and closes the database.
func (d *database) closeDatabase() error {
	if d.timer != nil {
		d.timer.Stop()
		_ = d.checkpoint() // after an error, the next Open checks the log
	}
	err := errors.Join(d.readPool.Close(), d.writePool.Close())
	if d.files != nil {
		err = errors.Join(err, d.files.close())
	}
	return err
}
