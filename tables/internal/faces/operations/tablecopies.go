package operations

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Operations that copy or verify files. A server opens Copying.Copies itself.
var (
	Backup = copying("backup", "backup", func(ctx context.Context, s *tables.Store, in *BackupRequest) ([]tables.CopiedTable, error) {
		return s.Backup(ctx, in.Copies, in.Name, in.Buckets...)
	})
	Copy = copying("copy", "copy", func(ctx context.Context, s *tables.Store, in *CopyRequest) ([]tables.CopiedTable, error) {
		return s.CopyTo(ctx, in.Copies, in.Buckets...)
	})
	RestoreBackup = copying("restore_backup", "restore", func(ctx context.Context, s *tables.Store, in *RestoreRequest) ([]tables.CopiedTable, error) {
		if len(in.Tables) == 0 {
			return s.RestoreFrom(ctx, in.Copies, in.Name, in.Buckets...)
		}
		if len(in.Buckets) != 1 {
			return nil, &tables.ArgumentError{Err: errors.New("a restore of single tables needs exactly one bucket: name it")}
		}
		return s.RestoreTablesFrom(ctx, in.Copies, in.Name, in.Buckets[0], in.Tables...)
	})

	Backups = withProgress("backups", "backups", func(ctx context.Context, _ *tables.Store, in *BackupsRequest, answer func(CopyProgress)) error {
		backups, err := in.Copies.Backups(ctx)
		for _, b := range backups {
			answer(CopyProgress{Backup: &b})
		}
		return err
	})

	Verify = withProgress("verify", "verify", func(ctx context.Context, s *tables.Store, in *VerifyRequest, answer func(CopyProgress)) error {
		o := &tables.VerifyOptions{Buckets: in.Buckets, Tables: in.Tables, Report: func(f tables.Finding) { answer(CopyProgress{Finding: &f}) }}
		if in.Copies != nil {
			o.Repair = in.Copies.Copies()
		}
		result, err := s.Verify(ctx, o)
		answer(CopyProgress{Verified: &result})
		return err
	})
)

// Copying says where the copies are. It is part of every request to copy or verify files.
type Copying struct {
	Dir    string        `json:"dir,omitempty"` // on a server, the name of the copies' directory in the server's directory for copies
	Copies *tables.Store `json:"-"`             // the store in Dir; nil if Verify repairs nothing
}

// Location returns c, for callers whose request can have any type.
func (c *Copying) Location() *Copying { return c }

func (c *Copying) rate() int64 { return 0 }

// Paced is a Copying with a limit on the bytes read per second; 0 means none.
type Paced struct {
	Copying
	Rate int64 `json:"rate,omitempty"`
}

func (p *Paced) rate() int64 { return p.Rate }

// CopyInput is a pointer to a request to copy or verify files.
type CopyInput[In any] interface {
	*In
	Location() *Copying
	rate() int64
}

// The requests of the operations. Name is the backup's name.
type (
	BackupRequest struct {
		Paced
		Name    string         `json:"name,omitempty"`
		Buckets tables.Buckets `json:"buckets,omitempty"`
	}
	CopyRequest struct {
		Paced
		Buckets tables.Buckets `json:"buckets,omitempty"`
	}
	RestoreRequest struct {
		Paced
		Name    string         `json:"name,omitempty"`
		Buckets tables.Buckets `json:"buckets,omitempty"`
		Tables  []string       `json:"tables,omitempty"` // names of tables in the only bucket; none means all tables
	}
	BackupsRequest struct{ Copying }
	VerifyRequest  struct {
		Paced
		Buckets tables.Buckets `json:"buckets,omitempty"`
		Tables  []string       `json:"tables,omitempty"`
	}
)

// CopyProgress is one of an operation's answers. While the operation runs, it sends an answer each second, and one for
// each finding. The answers with the other results come last.
type CopyProgress struct {
	Bytes    int64                `json:"bytes"` // read so far
	Finding  *tables.Finding      `json:"finding,omitempty"`
	Table    *tables.CopiedTable  `json:"table,omitempty"`
	Backup   *tables.SnapshotInfo `json:"backup,omitempty"`
	Verified *tables.VerifyResult `json:"verified,omitempty"`
}

func copying[In any, P CopyInput[In]](name, command string, do func(context.Context, *tables.Store, P) ([]tables.CopiedTable, error)) Operation[In, CopyProgress] {
	return withProgress(name, command, func(ctx context.Context, s *tables.Store, in P, answer func(CopyProgress)) error {
		copied, err := do(ctx, s, in)
		if err != nil {
			return err
		}
		for _, c := range copied {
			answer(CopyProgress{Table: &c})
		}
		return nil
	})
}

// withProgress registers an operation whose answers come from do and, once a second, give the number of bytes that do
// has read.
func withProgress[In any, P CopyInput[In]](name, command string, do func(ctx context.Context, s *tables.Store, in P, answer func(CopyProgress)) error) Operation[In, CopyProgress] {
	return withAnswers(Entry{Name: name, Writes: true, Slots: CopySlot, Command: command}, func(ctx context.Context, s *tables.Store, in *In) iter.Seq2[CopyProgress, error] {
		return func(yield func(CopyProgress, error) bool) {
			meter := content.NewMeter(P(in).rate())
			ctx, cancel := context.WithCancel(content.WithMeter(ctx, meter))
			defer cancel()
			answers, done := make(chan CopyProgress), make(chan error, 1)
			go func() {
				done <- parallel.Catch(func() error {
					return do(ctx, s, in, func(p CopyProgress) {
						_ = canceled.Send(ctx, answers, p) // if the context has ended, nobody waits for the answer
					})
				})
			}()
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				var p CopyProgress
				select {
				case p = <-answers:
				case <-tick.C:
				case err := <-done:
					if err == nil {
						err = canceled.Err(ctx) // answers may be missing
					}
					if err != nil {
						yield(p, err)
					}
					return
				}
				p.Bytes = meter.Bytes()
				if !yield(p, nil) {
					cancel()
					<-done
					return
				}
			}
		}
	})
}
