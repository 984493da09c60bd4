package flightd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/transform"
)

// The calls in this file serve package flightclient. They are not part of Flight SQL.

func invalidCall(err error) error {
	return kinds.BadRequest.Errorf("invalid call: %v", err)
}

func (s *Server) sendScan(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Scan
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (_ array.RecordReader, err error) {
		c.Recycle = true
		if c.Filter.String() == "" { // some clients send an empty filter instead of none
			c.Filter = nil
		}
		table, err := s.store.Bucket(c.Bucket).Table(c.Name).At(ctx, c.At())
		if err != nil {
			return nil, err
		}
		return table.Scan(ctx, &c.ScanOptions)
	})
}

func (s *Server) sendChanges(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Changes
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (array.RecordReader, error) {
		table, err := s.store.Bucket(c.Bucket).Table(c.Name).At(ctx, c.At())
		if err != nil {
			return nil, err
		}
		return table.Changes(ctx, c.Since.At(), &tables.ChangesOptions{Keys: c.Keys, UUID: c.UUID})
	})
}

func (s *Server) sendResampled(ticket []byte, stream flight.FlightService_DoGetServer) error {
	var c operations.Resampling
	return s.sendRowsFor(ticket, &c, stream, func(ctx context.Context) (array.RecordReader, error) {
		return transform.Resampled(ctx, s.store, &c.ResampleOptions)
	})
}

// sendRowsFor decodes a ticket into c, calls open, and sends the rows of the reader that open returns.
func (s *Server) sendRowsFor(ticket []byte, c any, stream flight.FlightService_DoGetServer, open func(context.Context) (array.RecordReader, error)) error {
	err := operations.Unmarshal(ticket, c)
	if errors.As(err, new(*filter.SyntaxError)) {
		return serving.Status(err)
	}
	if err != nil {
		return invalidCall(err)
	}
	return serving.Status(s.unsentLimit.sendReader(stream, func(err error) error { return err }, open))
}

// runPut handles a stream whose command is an operations.Put.
func (s *Server) runPut(command []byte, stream flight.FlightService_DoPutServer, memory memory.Allocator) (err error) {
	defer func() { err = serving.Status(err) }()
	ctx := stream.Context()
	var c operations.Put
	if err := errors.Join(operations.Unmarshal(command, &c), c.Check()); err != nil {
		return invalidCall(err)
	}
	r, err := flightReader(stream, memory)
	if err != nil {
		return kinds.BadRequest.Errorf("the rows cannot be read: %v", err)
	}
	defer r.Release()
	in, err := newUpload(ctx, r)
	if err != nil {
		return err
	}
	var result operations.CorrectionAnswer
	b := s.store.Bucket(c.Bucket)
	switch {
	case c.Range != nil:
		result.RewriteResult, err = b.Table(c.Name).ReplaceRange(ctx, c.Range.From, c.Range.To, in, &tables.RangeOptions{TimeColumn: c.Range.TimeColumn})
	case c.Upsert != nil:
		result.RewriteResult, err = b.Table(c.Name).Upsert(ctx, in, &tables.UpsertOptions{Keys: c.Upsert.Keys, NullKeys: c.Upsert.NullKeys, AllColumns: c.AllColumns, MissingColumns: &result.MissingColumns})
	default:
		result.Version, err = b.Table(c.Name).Put(ctx, in, c.Mode, &tables.PutOptions{ID: c.ID, Metadata: c.Metadata, Settings: c.Settings, AllColumns: c.AllColumns, MissingColumns: &result.MissingColumns})
	}
	if err != nil {
		return err
	}
	answer := any(result)
	if c.Range == nil && c.Upsert == nil {
		answer = operations.PutAnswer{Version: result.Version, MissingColumns: result.MissingColumns}
	}
	return sendPutResult(stream, answer)
}

func (s *Server) runAction(o *operations.Entry, body []byte, stream flight.FlightService_DoActionServer) (err error) {
	defer func() { err = serving.Status(err) }()
	ctx := stream.Context()
	if o.Writes {
		requireRight := serving.RequireWrite
		if o.Slots == operations.CopySlot { // copier.run calls RequireWrite if necessary
			requireRight = serving.RequireAdmin
		}
		if err := requireRight(ctx); err != nil {
			return err
		}
	}
	in, err := o.Parse(body)
	if err != nil {
		return invalidCall(err)
	}
	release, err := serving.Acquire(ctx, o.Slots)
	if err != nil {
		return err
	}
	defer release()
	run := o.Run
	switch o {
	case operations.TakeLock.Entry:
		run = s.leases.take
	case operations.Unlock.Entry:
		run = s.leases.release
	}
	answer := func(v any) error { return sendResult(stream, v) }
	if o.Slots == operations.CopySlot {
		return s.copies.run(ctx, o, in, answer)
	}
	return run(ctx, s.store, in, answer)
}

var errStopping = kinds.Stopping.Errorf("the server is shutting down: to continue, run the command again later")

// copier copies and verifies tables for clients.
type copier struct {
	store    *tables.Store
	opts     *serving.Options
	lifetime context.Context // done once the server begins to shut down
	mu       sync.Mutex      // held while a copy or verification runs
}

// run runs an operation that copies or verifies files. If another one is running, run returns an error, because each
// reads as fast as the disk allows. A shutdown cancels the operation.
func (c *copier) run(ctx context.Context, o *operations.Entry, input any, answer func(any) error) (err error) {
	in := input.(interface{ Location() *operations.Copying }).Location()
	if onlyReads := o == operations.Backups.Entry || o == operations.Verify.Entry && in.Dir == ""; !onlyReads {
		if err := serving.RequireWrite(ctx); err != nil {
			return err
		}
	}
	if !c.mu.TryLock() {
		return kinds.Busy.Errorf("the server is already copying or verifying tables: try again later")
	}
	defer c.mu.Unlock()
	if o != operations.Verify.Entry || in.Dir != "" {
		in.Copies, err = c.open(ctx, in.Dir, o == operations.Backup.Entry || o == operations.Copy.Entry)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Copies.Close()) }()
	}
	serving.RemoveTimeLimit(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.lifetime, func() { cancel(errStopping) })() // watches from now until this function returns
	err = o.Run(ctx, c.store, input, answer)
	if err != nil && c.lifetime.Err() != nil {
		return errStopping
	}
	return err
}

// copiesName matches the names of directories for copies. It excludes paths, hidden files and unprintable characters.
var copiesName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// open opens the directory called name in Options.BackupDir. If create is true, it creates a missing directory.
func (c *copier) open(ctx context.Context, name string, create bool) (*tables.Store, error) {
	const minMemory = 16 << 20
	if c.opts.BackupDir == "" {
		return nil, kinds.Precondition.Errorf("the server has no directory for copies: start it with --backup-dir")
	}
	if !copiesName.MatchString(name) || !filepath.IsLocal(name) {
		return nil, kinds.BadRequest.Errorf("%.200q cannot be the name of a directory in the server's --backup-dir: "+
			"use up to 100 letters, digits, and the characters . _ - (it must not begin with . or -)", name)
	}
	// the directory may have been replaced since the server started
	if err := checkBackupDir(c.opts.BackupDir, c.store.Dir()); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.opts.BackupDir, name)
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() { // a symbolic link could point into the tables' directory
		return nil, kinds.Precondition.Errorf("%q in the server's --backup-dir is not a directory: choose another name", name)
	}
	if _, err := os.Stat(filepath.Join(dir, "catalog.db")); err != nil && !create {
		return nil, kinds.NotFound.Errorf("the server's --backup-dir contains no copies with the name %q", name)
	}
	return tables.Open(ctx, dir, &tables.Options{FoldAge: -1, Sync: true, Memory: max(minMemory, c.opts.Memory/16), Logger: c.opts.Logger})
}

// checkBackupDir returns an error unless backupDir exists and is separate from the tables' directory dir. If one
// contained the other, copies could be removed as unused files.
func checkBackupDir(backupDir, dir string) error {
	abs, err := filepath.Abs(backupDir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return fmt.Errorf("option BackupDir: %w", err)
	}
	tablesDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil // the tables are in a bucket
	}
	toTables, err1 := filepath.Rel(abs, tablesDir)
	toBackups, err2 := filepath.Rel(tablesDir, abs)
	if err1 == nil && filepath.IsLocal(toTables) || err2 == nil && filepath.IsLocal(toBackups) {
		return fmt.Errorf("option BackupDir is %s: it must neither contain the tables' directory %s nor be in it", backupDir, dir)
	}
	return nil
}
